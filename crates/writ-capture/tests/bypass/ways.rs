//! The ways out, one row each: what is tried, and how it ends.

#[derive(Debug)]
pub(crate) enum Outcome {
    /// Led to the relay, which knows this address, the run and the process.
    Taken(&'static str),
    /// Led to the resolver over UDP, which knows the same.
    Asked(&'static str),
    /// One of these answers or errors.
    Is(&'static [&'static str]),
}

use Outcome::{Asked, Is, Taken};

const REFUSED: Outcome = Is(&["EPERM"]);
/// Refused by us, or not offered by this kernel at all.
const REFUSED_OR_ABSENT: Outcome = Is(&["EPERM", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"]);

/// Name, body of a Python function, outcome.
pub(crate) const WAYS: &[(&str, &str, Outcome)] = &[
    ("TCP v4", "return ask(tcp('198.18.0.1', 443))", Taken("198.18.0.1:443")),
    ("TCP v6", "return ask(tcp('fd00:18::1', 443, socket.AF_INET6))", Taken("[fd00:18::1]:443")),
    ("TCP v4-mapped", "return ask(tcp('::ffff:198.18.0.1', 443, socket.AF_INET6))", Taken("198.18.0.1:443")),
    (
        "TCP shows the address that was asked for",
        "return tcp('198.18.0.1', 443).getpeername(), tcp('fd00:18::1', 443, socket.AF_INET6).getpeername()[:2]",
        Is(&["(('198.18.0.1', 443), ('fd00:18::1', 443))"]),
    ),
    (
        "TCP non-blocking",
        "
        s = socket.socket()
        s.setblocking(False)
        assert s.connect_ex(('198.18.0.1', 443)) == errno.EINPROGRESS
        select.select([], [s], [], 5)
        s.setblocking(True)
        return ask(s)
        ",
        Taken("198.18.0.1:443"),
    ),
    (
        "thread",
        "
        out = []
        t = threading.Thread(target=lambda: out.append(ask(tcp('198.18.0.1', 443))))
        t.start()
        t.join()
        return out[0]
        ",
        Taken("198.18.0.1:443"),
    ),
    ("child with exec", "return child('plain')", Taken("198.18.0.1:443")),
    ("double fork and setsid", "return child('daemon')", Taken("198.18.0.1:443")),
    (
        "disconnect by AF_UNSPEC, connect elsewhere",
        "
        s = tcp('198.18.0.1', 443)
        assert libc.connect(s.fileno(), b'\\0' * 16, 16) == 0
        s.connect(('198.18.0.2', 444))
        return ask(s)
        ",
        Taken("198.18.0.2:444"),
    ),
    (
        "disconnect by AF_UNSPEC, connect to what is not listed",
        "
        s = tcp('198.18.0.1', 443)
        assert libc.connect(s.fileno(), b'\\0' * 16, 16) == 0
        s.connect(('203.0.113.7', 443))
        ",
        REFUSED,
    ),
    (
        "TCP Fast Open by MSG_FASTOPEN",
        "
        s = socket.socket()
        s.sendto(b'hi\\n', MSG_FASTOPEN, ('198.18.0.1', 443))
        return ask(s)
        ",
        Taken("198.18.0.1:443"),
    ),
    (
        "TCP Fast Open by socket option",
        "
        s = socket.socket()
        s.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
        s.connect(('198.18.0.1', 443))
        return ask(s)
        ",
        Taken("198.18.0.1:443"),
    ),
    (
        "TCP Fast Open to what is not listed",
        "return socket.socket().sendto(b'hi', MSG_FASTOPEN, ('203.0.113.7', 443))",
        REFUSED,
    ),
    ("MPTCP", "return ask(tcp('198.18.0.1', 443, proto=MPTCP))", Taken("198.18.0.1:443")),
    ("MPTCP to what is not listed", "return tcp('203.0.113.7', 443, proto=MPTCP)", REFUSED),
    ("io_uring", URING_PLAIN, Taken("198.18.0.1:443")),
    ("io_uring SQPOLL", URING_SQPOLL, Taken("198.18.0.1:443")),
    ("io_uring IOSQE_ASYNC", URING_ASYNC, Taken("198.18.0.1:443")),
    (
        "io_uring to what is not listed",
        "return subprocess.check_output([uring, 'async', '203.0.113.7', '443'], text=True)",
        Is(&["connect 1"]),
    ),
    ("DNS unconnected", "return udp('8.8.8.8', 53, False)", Asked("8.8.8.8:53")),
    ("DNS connected", "return udp('8.8.4.4', 53, True)", Asked("8.8.4.4:53")),
    ("DNS over v6", "return udp('2001:db8::53', 53, False, socket.AF_INET6)", Asked("[2001:db8::53]:53")),
    (
        "DNS over v6, connected",
        "return udp('2001:db8::53', 53, True, socket.AF_INET6)",
        Asked("[2001:db8::53]:53"),
    ),
    ("DNS to loopback", "return udp('127.0.0.53', 53, False)", Asked("127.0.0.53:53")),
    ("DNS over TCP", "return ask(tcp('9.9.9.9', 53))", Taken("9.9.9.9:53")),
    ("UDP 443", "return udp('198.18.0.1', 443, False)", REFUSED),
    ("UDP 443 connected", "return udp('198.18.0.1', 443, True)", REFUSED),
    ("UDP 443 by sendmmsg", SENDMMSG, REFUSED),
    ("UDP on a socket that asked a question before", UDP_AFTER_DNS, REFUSED),
    ("raw IP", "return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)", REFUSED),
    ("raw ICMP", "return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)", REFUSED),
    (
        "ICMP of ping",
        "return socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)",
        Is(&["EPERM", "EACCES"]),
    ),
    ("SCTP", "return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)", REFUSED_OR_ABSENT),
    ("UDP-Lite", "return socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136)", REFUSED_OR_ABSENT),
    ("DCCP", "return socket.socket(socket.AF_INET, 6, 33)", REFUSED_OR_ABSENT),
    ("bind of the relay's port", "return socket.socket().bind(('127.0.0.1', relay))", REFUSED),
    ("bind of the resolver's port", BIND_RESOLVER, REFUSED),
    ("bind of the relay's port, v6", "return socket.socket(socket.AF_INET6).bind(('::', relay))", REFUSED),
    (
        "own listener",
        "
        listener = socket.create_server(('127.0.0.1', 0))
        tcp(*listener.getsockname()).send(b'own')
        return listener.accept()[0].recv(9)
        ",
        Is(&["b'own'"]),
    ),
    (
        "own UDP socket",
        "
        a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        a.bind(('127.0.0.1', 0))
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'own', a.getsockname())
        return a.recv(9)
        ",
        Is(&["b'own'"]),
    ),
    (
        "own UDP socket answers a connected one",
        "
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(('127.0.0.1', 0))
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.settimeout(5)
        client.connect(server.getsockname())
        client.send(b'q')
        server.sendto(b'own', server.recvfrom(9)[1])
        return client.recv(9)
        ",
        Is(&["b'own'"]),
    ),
    (
        "own listener, v6 and v4-mapped",
        "
        out = []
        listener = socket.create_server(('::', 0), family=socket.AF_INET6, dualstack_ipv6=True)
        port = listener.getsockname()[1]
        for host, family in (('::1', 10), ('127.0.0.1', 2), ('::ffff:127.0.0.1', 10)):
            tcp(host, port, family).send(b'own')
            out.append(listener.accept()[0].recv(9))
        return out
        ",
        Is(&["[b'own', b'own', b'own']"]),
    ),
    ("listener of another", "return tcp('127.0.0.1', neighbour)", REFUSED),
    ("listener of another, by the unspecified address", "return tcp('0.0.0.0', neighbour)", REFUSED),
    ("listener of another, v4-mapped", "return tcp('::ffff:127.0.0.1', neighbour, socket.AF_INET6)", REFUSED),
    ("the relay itself", "return tcp('127.0.0.1', relay)", REFUSED),
    ("the resolver itself", "return udp('127.0.0.1', resolver, True)", REFUSED),
    ("listed to pass", "return tcp('198.18.0.3', 80).recv(9)", Is(&["b'direct\\n'"])),
    ("not listed", "return tcp('203.0.113.7', 443)", REFUSED),
    ("listed, another port", "return tcp('198.18.0.1', 80)", REFUSED),
    ("unix by path", "return socket.socket(socket.AF_UNIX).connect(folder + '/closed.sock')", REFUSED),
    ("unix abstract", UNIX_ABSTRACT, REFUSED),
    (
        "unix datagram",
        "return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', folder + '/closed.sock')",
        REFUSED,
    ),
    ("unix listed", "return socket.socket(socket.AF_UNIX).connect(folder + '/listed.sock')", Is(&["None"])),
];

const URING_PLAIN: &str = "return subprocess.check_output([uring, 'plain', '198.18.0.1', '443'], text=True)";
const URING_SQPOLL: &str =
    "return subprocess.check_output([uring, 'sqpoll', '198.18.0.1', '443'], text=True)";
const URING_ASYNC: &str = "return subprocess.check_output([uring, 'async', '198.18.0.1', '443'], text=True)";
const SENDMMSG: &str = "
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    to = ctypes.create_string_buffer(struct.pack('=H', 2) + struct.pack('!H', 443) + socket.inet_aton('198.18.0.1'), 16)
    data = ctypes.create_string_buffer(b'quic', 4)
    iov = ctypes.create_string_buffer(struct.pack('QQ', ctypes.addressof(data), 4), 16)
    head = struct.pack('QIxxxxQQQQii', ctypes.addressof(to), 16, ctypes.addressof(iov), 1, 0, 0, 0, 0)
    if libc.sendmmsg(s.fileno(), ctypes.create_string_buffer(head + bytes(8), 64), 1, 0) < 0:
        raise OSError(ctypes.get_errno(), 'sendmmsg')
";
const UDP_AFTER_DNS: &str = "
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(b'q', ('8.8.8.8', 53))
    s.recv(600)
    s.sendto(b'q', ('198.18.0.1', 443))
";
const BIND_RESOLVER: &str = "
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(('0.0.0.0', resolver))
";
const UNIX_ABSTRACT: &str = "
    listener = socket.socket(socket.AF_UNIX)
    listener.bind('\\0writ-test-%d' % os.getpid())
    listener.listen()
    return socket.socket(socket.AF_UNIX).connect(listener.getsockname())
";
