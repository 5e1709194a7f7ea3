"""A governed program. Each line on standard input is a case: {"name", "code", names that the code may use}. The code is a
function's body; what it returns, or the error that it raises, is printed as one line of JSON."""

import ctypes
import errno
import json
import os
import select
import socket
import struct
import subprocess
import sys
import textwrap
import threading

libc = ctypes.CDLL(None, use_errno=True)
MPTCP, MSG_FASTOPEN, TCP_FASTOPEN_CONNECT = 262, 0x20000000, 30


def ask(s):
    """What the daemon's side says of this connection, and the pid that it must have named."""
    s.settimeout(5)
    s.send(b"hi\n")
    return f"{s.recv(600).decode().strip()} {os.getpid()}"


def tcp(host, port, family=socket.AF_INET, proto=0):
    s = socket.socket(family, socket.SOCK_STREAM, proto)
    s.settimeout(5)
    s.connect((host, port))
    return s


def udp(host, port, connected, family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(5)
    if connected:
        s.connect((host, port))
        s.send(b"q")
        answer, peer = s.recv(600), s.getpeername()
    else:
        s.sendto(b"q", (host, port))
        answer, peer = s.recvfrom(600)
    assert peer[:2] == (host, port), peer
    return f"{answer.decode()} {os.getpid()}"


CHILD = """
import os, socket, sys
if sys.argv[1] == "daemon":
    if os.fork(): os._exit(0)
    os.setsid()
    if os.fork(): os._exit(0)
s = socket.create_connection(("198.18.0.1", 443), 5)
s.send(b"x")
print(s.recv(600).decode().strip(), os.getpid())
"""


def child(mode):
    made = subprocess.run([sys.executable, "-c", CHILD, mode], capture_output=True, text=True, timeout=10)
    return made.stdout.strip()


def run(case):
    scope = dict(globals(), **case)
    try:
        exec("def go():\n" + textwrap.indent(textwrap.dedent(case["code"]), "    "), scope)
        return str(scope["go"]())
    except OSError as error:
        return errno.errorcode.get(error.errno, repr(error))
    except BaseException as error:
        return repr(error)


print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    case = json.loads(line)
    print(json.dumps(run(case)), flush=True)
