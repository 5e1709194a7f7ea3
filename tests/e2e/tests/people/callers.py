"""Callers of a service, many at once: usage: callers.py URL EACH, tokens as `NAME TOKEN` lines on standard input.

Each caller asks EACH times for /api/repos/acme/NAME/issues, all of them interleaved; prints how often each status came.
"""
import collections
import concurrent.futures
import sys
import urllib.request

url, each = sys.argv[1], int(sys.argv[2])
callers = [line.split() for line in sys.stdin]


def ask(number):
    name, token = callers[number % len(callers)]
    headers = {"authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{url}/api/repos/acme/{name}/issues", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
            return name, answer.status
    except urllib.error.HTTPError as refused:
        print(refused.read(), file=sys.stderr)
        return name, refused.code


with concurrent.futures.ThreadPoolExecutor(16) as pool:
    seen = collections.Counter(pool.map(ask, range(each * len(callers))))
for (name, status), count in sorted(seen.items()):
    print(name, status, count)
