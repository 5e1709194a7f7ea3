"""A service agent that serves many humans: every request makes calls of its own, for whoever asked. Knows nothing of Writ.

usage: service.py PORT UPSTREAM MODE, where MODE is what it hands on: `token` (its caller's Authorization) or `trace`.
"""
import http.server
import ssl
import sys
import urllib.request

port, upstream, mode = int(sys.argv[1]), sys.argv[2], sys.argv[3]
# Connections of one human are nobody else's: each call opens its own, as urllib does.
context = ssl.create_default_context()


class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        headers = {}
        if mode == "token" and self.headers.get("authorization"):
            headers["X-Forwarded-Access-Token"] = self.headers["authorization"].split(" ")[-1]
        if mode == "trace" and self.headers.get("traceparent"):
            version, trace, _, flags = self.headers["traceparent"].split("-")
            headers["traceparent"] = f"{version}-{trace}-00f067aa0ba902b7-{flags}"
        try:
            request = urllib.request.Request(f"{upstream}{self.path}", headers=headers)
            with urllib.request.urlopen(request, context=context, timeout=20) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            status, body = refused.code, refused.read()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


print("ready", flush=True)
Server(("127.0.0.1", port), Service).serve_forever()
