//! Who else could be believed, or reached: runs and strangers that share a port with what was there before.

use serde_json::json;
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
