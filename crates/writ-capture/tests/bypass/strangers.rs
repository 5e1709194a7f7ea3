//! Who else could be believed, or reached: runs and strangers that share a port with what was there before.

use std::os::fd::AsFd;

use serde_json::json;
use writ_capture::resolver::Datagram;
use writ_core::RunId;

use crate::installation::{Agent, Installation, RELAY, RESOLVER, move_into, take};

/// Connects from this address and port. The client's last word of the handshake is held back until it has data to send
/// (`tcp_rcv_synsent_state_process`), so the daemon's side comes later than the connect.
const CONNECT_HELD_BACK: &str = "
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
    s.bind((source, 5000))
    s.connect(('198.18.0.1', 443))
    sys.kept = s
";

#[test]
fn runs_that_share_a_source_port_are_told_apart() {
    let Some(host) = Installation::open("runs_that_share_a_source_port_are_told_apart") else { return };
    host.listen();
    host.capture.set_destinations(&[take("198.18.0.1", 443)]).unwrap();
    let (mut one, mut other) = (host.agent(1), host.agent(2));
    assert_eq!(one.does(CONNECT_HELD_BACK, &json!({ "source": "127.0.0.2" })), "None");
    assert_eq!(other.does(CONNECT_HELD_BACK, &json!({ "source": "127.0.0.3" })), "None");
    for agent in [&mut one, &mut other] {
        let answer = agent.does("return ask(sys.kept)", &json!({}));
        assert!(agent.is_answer("taken", "198.18.0.1:443", &answer), "{answer}");
    }
}

#[test]
fn a_stranger_on_the_port_of_a_failed_connect_is_a_miss() {
    let Some(host) = Installation::open("a_stranger_on_the_port_of_a_failed_connect_is_a_miss") else {
        return;
    };
    // Nobody listens yet, as when a daemon without its holder is away.
    host.capture.set_ports(RELAY, RESOLVER).unwrap();
    host.capture.set_destinations(&[take("198.18.0.1", 443)]).unwrap();
    let mut agent = host.agent(1);
    let code = "
        s = socket.socket()
        s.bind(('127.0.0.1', 5000))
        s.connect(('198.18.0.1', 443))
    ";
    assert_eq!(agent.does(code, &json!({})), "ECONNREFUSED");
    host.listen();
    let mut stranger = Agent::spawn(RunId::from_bits(9));
    move_into(&Installation::root_cgroup(), stranger.child.id());
    let code = "
        s = socket.socket()
        s.bind(('127.0.0.1', 5000))
        s.connect(('127.0.0.1', relay))
        return ask(s)
    ";
    let answer = stranger.does(code, &json!({ "relay": RELAY }));
    assert!(answer.starts_with("miss "), "{answer}");
}

#[test]
fn joining_anothers_reuseport_group_reaches_nobody() {
    let Some(host) = Installation::open("joining_anothers_reuseport_group_reaches_nobody") else { return };
    let listen = "
        sys.kept = []
        for last in range(1, 33):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            s.bind((f'127.0.0.{last}', 5000))
            s.listen(64)
            s.setblocking(False)
            sys.kept.append(s)
    ";
    let mut neighbour = Agent::spawn(RunId::from_bits(9));
    assert_eq!(neighbour.does(listen, &json!({})), "None");
    let mut agent = host.agent(1);
    assert_eq!(agent.does(listen, &json!({})), "None");
    // Which member of a group gets a connection depends on its source port too, which the connect hook cannot know.
    let connect = "
        sys.clients = []
        for last in range(1, 33):
            for n in range(8):
                s = socket.socket()
                s.setblocking(False)
                try:
                    s.connect_ex((f'127.0.0.{last}', 5000))
                except PermissionError:
                    pass
                sys.clients.append(s)
    ";
    assert_eq!(agent.does(connect, &json!({})), "None");
    let accept = "
        accepted = 0
        for s in sys.kept:
            try:
                while s.accept(): accepted += 1
            except BlockingIOError:
                pass
        return accepted
    ";
    assert_eq!(neighbour.does(accept, &json!({})), "0");
    assert_ne!(agent.does(accept, &json!({})), "0");
}

#[test]
fn a_datagram_socket_does_not_follow_its_port_to_another_owner() {
    let Some(host) = Installation::open("a_datagram_socket_does_not_follow_its_port_to_another_owner") else {
        return;
    };
    let mut agent = host.agent(1);
    let code = "
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        own.bind(('127.0.0.1', 5000))
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.connect(('127.0.0.1', 5000))
        own.close()
        sys.kept = s
    ";
    assert_eq!(agent.does(code, &json!({})), "None");
    let foreign = std::net::UdpSocket::bind("127.0.0.1:5000").unwrap();
    assert_eq!(agent.does("return sys.kept.send(b'q')", &json!({})), "EPERM");
    foreign.set_nonblocking(true).unwrap();
    assert!(foreign.recv_from(&mut [0u8; 9]).is_err());
}

#[test]
fn a_stranger_on_the_port_of_a_question_is_a_miss() {
    let Some(host) = Installation::open("a_stranger_on_the_port_of_a_question_is_a_miss") else { return };
    host.listen();
    let mut agent = host.agent(1);
    let code = "
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(5)
        s.bind(('127.0.0.1', 5000))
        s.sendto(b'q', (server, port))
        return f'{s.recv(600).decode()} {os.getpid()}'
    ";
    let answer = agent.does(code, &json!({ "server": "8.8.8.8", "port": 53 }));
    assert!(agent.is_answer("asked", "8.8.8.8:53", &answer), "{answer}");
    let mut stranger = Agent::spawn(RunId::from_bits(9));
    move_into(&Installation::root_cgroup(), stranger.child.id());
    let answer = stranger.does(code, &json!({ "server": "127.0.0.1", "port": RESOLVER }));
    assert!(answer.starts_with("miss "), "{answer}");
}

/// A resolver that is slow to read: each datagram is still its own sender's, whoever has the port meanwhile.
#[test]
fn questions_that_wait_keep_their_senders() {
    let Some(host) = Installation::open("questions_that_wait_keep_their_senders") else { return };
    let resolver = std::net::UdpSocket::bind(("127.0.0.1", RESOLVER)).unwrap();
    Datagram::prepare(resolver.as_fd()).unwrap();
    host.capture.set_ports(RELAY, RESOLVER).unwrap();
    let (mut one, mut other) = (host.agent(1), host.agent(2));
    let mut stranger = Agent::spawn(RunId::from_bits(9));
    move_into(&Installation::root_cgroup(), stranger.child.id());
    let code = "
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(('127.0.0.1', 5000))
        s.sendto(b'q', (server, port))
        s.sendto(b'q', (server, port))
    ";
    let asked = json!({ "server": "8.8.8.8", "port": 53 });
    assert_eq!(one.does(code, &asked), "None");
    assert_eq!(stranger.does(code, &json!({ "server": "127.0.0.1", "port": RESOLVER })), "None");
    assert_eq!(other.does(code, &asked), "None");
    let mut buffer = [0u8; 9];
    let mut next = || Datagram::receive(resolver.as_fd(), &mut buffer).unwrap().1;
    let marks: Vec<_> = (0..6).map(|_| next().mark).collect();
    let runs = marks.iter().map(|mark| mark.and_then(|mark| host.capture.question(mark)?.run));
    let (first, last) = (Some(one.run.tag()), Some(other.run.tag()));
    assert_eq!(runs.collect::<Vec<_>>(), [first, first, None, None, last, last]);
    // A mark is good once.
    assert_eq!(marks.iter().flatten().filter(|mark| host.capture.question(**mark).is_some()).count(), 0);
}

#[test]
fn what_was_taken_before_the_ports_changed_shows_what_was_asked_for() {
    let Some(host) = Installation::open("what_was_taken_before_the_ports_changed_shows_what_was_asked_for")
    else {
        return;
    };
    host.listen();
    host.capture.set_destinations(&[take("198.18.0.1", 443)]).unwrap();
    let mut agent = host.agent(1);
    assert_eq!(agent.does("sys.kept = tcp('198.18.0.1', 443)", &json!({})), "None");
    host.capture.set_ports(RELAY + 1, RESOLVER + 1).unwrap();
    assert_eq!(agent.does("return sys.kept.getpeername()", &json!({})), "('198.18.0.1', 443)");
}

#[test]
fn nobody_is_adopted_in_the_place_of_one_who_had_the_pid() {
    let Some(host) = Installation::open("nobody_is_adopted_in_the_place_of_one_who_had_the_pid") else {
        return;
    };
    let run = RunId::from_bits(1);
    host.capture.create_run(run).unwrap();
    let agent = Agent::spawn(run);
    let mut earlier = agent.process(&host.capture);
    earlier.start_us -= 10_000;
    host.capture.adopt(run, agent.pidfd.as_fd(), &earlier).unwrap_err();
    assert_eq!(host.capture.run_of(agent.pidfd.as_fd()), None);
    assert!(!host.capture.populated(run).unwrap());
}
