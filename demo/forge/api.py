"""The forge's REST API: issues and repositories, open to whoever shows the token, and to nobody else.

usage: api.py DIR PORT     DIR holds `token` and `git/`; state is in memory, repositories are on disk.
The paths under /debug behave badly on purpose: they send back what they were sent, whole, in pieces, compressed.
"""

import base64
import gzip
import json
import os
import re
import shutil
import sys
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DIR, PORT = sys.argv[1], int(sys.argv[2])
with open(os.path.join(DIR, "token")) as f:
    TOKEN = f.read()
ACCEPTED = {
    "Bearer " + TOKEN,
    "Basic " + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode(),
}
ISSUES = {}


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, value, headers=()):
        body = json.dumps(value).encode() + b"\n"
        self.raw(status, body, [("Content-Type", "application/json"), *headers])

    def raw(self, status, body, headers):
        self.send_response(status)
        for name, content in headers:
            self.send_header(name, content)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def pieces(self, headers, pieces):
        self.send_response(200)
        for name, content in headers:
            self.send_header(name, content)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            whole = b""
            while size := int(self.rfile.readline().strip(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def handle_any(self):
        path = self.path.split("?")[0]
        if path == "/api/health":
            return self.answer(200, {"ok": True})
        body = self.body()
        if self.headers.get("Authorization") not in ACCEPTED:
            return self.answer(401, {"error": "who are you?"}, [("WWW-Authenticate", 'Basic realm="forge"')])
        if path.startswith("/debug/"):
            return self.debug(path, body)
        if m := re.fullmatch(r"/api/repos/([\w-]+)/([\w-]+)/issues", path):
            issues = ISSUES.setdefault(m.groups(), [])
            if self.command == "POST":
                issues.append({"number": len(issues) + 1, "title": json.loads(body)["title"]})
                return self.answer(201, issues[-1])
            return self.answer(200, issues)
        if (m := re.fullmatch(r"/api/repos/([\w-]+)/([\w-]+)", path)) and self.command == "DELETE":
            shutil.rmtree(os.path.join(DIR, "git", m[1], m[2] + ".git"))
            return self.answer(200, {"deleted": True})
        return self.answer(404, {"error": "no such thing"})

    def debug(self, path, body):
        seen = ("you sent: " + str(self.headers.get("Authorization")) + "\n").encode()
        if path == "/debug/echo":
            return self.answer(200, {"method": self.command, "path": self.path, "headers": dict(self.headers.items()),
                                     "body": len(body)}, [("X-Echo", self.headers.get("Authorization"))])
        if path == "/debug/split":
            return self.pieces([("Content-Type", "text/plain")], [bytes([b]) for b in seen])
        if path == "/debug/gzip":
            return self.raw(200, gzip.compress(seen), [("Content-Encoding", "gzip")])
        if path == "/debug/deflate":
            return self.raw(200, zlib.compress(seen), [("Content-Encoding", "deflate")])
        if path == "/debug/redirect":
            return self.raw(302, b"", [("Location", "https://other.test/?leak=" + TOKEN)])
        if path == "/debug/sse":
            events = (b"data: %d\n\n" % n for n in range(3))
            return self.pieces([("Content-Type", "text/event-stream")], events)
        if path == "/debug/slow":  # an answer that never ends by itself; bounded all the same
            def tick():
                for _ in range(600):
                    yield b"tick\n"
                    time.sleep(0.05)
            return self.pieces([("Content-Type", "text/plain")], tick())
        if m := re.fullmatch(r"/debug/bytes/(\d+)", path):
            count = min(int(m[1]), 1 << 30)
            block = b"x" * 65536
            return self.pieces([], (block[: min(65536, count - at)] for at in range(0, count, 65536)))
        return self.answer(404, {"error": "no such thing"})

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_):
        pass  # a client that goes away is no event


Server(("127.0.0.1", PORT), Api).serve_forever()
