//! The resolver asked by real programs: dig over UDP and TCP, and getaddrinfo of the C library.
#![expect(clippy::unwrap_used, reason = "a test may")]

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::Command;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use writ_capture::resolver::{
    Answer, Asker, Attesting, Datagram, Lookup, Names, Origins, Question, Resolver, Sender, Sockets, StandIn,
};
use writ_capture::{GovernId, Origin};
use writ_core::{HostName, Process, Reason, RunTag};
use writ_gate::limits;
use writ_testkit::isolation;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Look {
    #[default]
    UnderWay,
    Found,
    Refused,
}

/// Knows `forge.test`, names below `cdn.test`, and `listed.test`, which is passed through. Whoever asks from
/// 127.0.0.1 is the run, from 127.0.0.3 a governed process that was assigned none yet; others are strangers.
#[derive(Default)]
struct World {
    /// What comes of looking at that process.
    attested: watch::Sender<Look>,
    answered: Mutex<Vec<(HostName, StandIn)>>,
    refused: Mutex<Vec<Lookup>>,
}

impl Asker for World {
    fn allowed(&self, question: &Question) -> Result<Answer, Reason> {
        assert_eq!(Some(question.run), the_run());
        match question.name.as_str() {
            "forge.test" => Ok(Answer::StandIn),
            "listed.test" => Ok(Answer::Listed((1..=90).map(|n| IpAddr::from([192, 0, 2, n])).collect())),
            name if name.ends_with(".cdn.test") => Ok(Answer::StandIn),
            _ => Err(Reason::NameRefused),
        }
    }

    fn answered(&self, question: &Question, stand_in: StandIn) {
        self.answered.lock().unwrap().push((question.name.clone(), stand_in));
    }

    fn refused(&self, lookup: Lookup) {
        self.refused.lock().unwrap().push(lookup);
    }
}

fn the_run() -> Option<RunTag> {
    RunTag::from_kernel(7)
}

impl Origins for World {
    fn of_datagram(&self, datagram: &Datagram) -> Option<Sender> {
        match datagram.peer.ip() {
            IpAddr::V4(Ipv4Addr::LOCALHOST) => the_run().map(Sender::Run),
            IpAddr::V4(HELD) => Sender::of(held(datagram.peer)),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }

    fn attest(&self, origin: Origin) -> Attesting<'_> {
        assert_eq!(origin.address.ip(), HELD);
        let mut answer = self.attested.subscribe();
        Box::pin(async move {
            let look = *answer.wait_for(|look| *look != Look::UnderWay).await.ok()?;
            (look == Look::Found).then(the_run).flatten()
        })
    }

    fn of_socket(&self, accepted: BorrowedFd<'_>) -> Option<Sender> {
        let peer = SocketAddrV4::try_from(rustix::net::getpeername(accepted).unwrap().unwrap()).unwrap();
        self.of_datagram(&Datagram { peer: peer.into(), mark: None })
    }
}

const HELD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

fn held(address: SocketAddr) -> Origin {
    let process = Process { exec_generation: 0, pid: 7, start_us: 1 };
    let governed = GovernId::new(5);
    Origin { address, run: None, governed, process, program: None, tid: 7, cgroup: 1, cookie: 1 }
}

struct Served {
    world: Arc<World>,
    names: Arc<Names>,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Served {
    /// What dig prints for these arguments.
    async fn dig(&self, arguments: &str) -> String {
        let port = self.address.port().to_string();
        let fixed = ["@127.0.0.1", "-p", &port, "+tries=1", "+time=5"];
        let output = Command::new("dig").args(fixed).args(arguments.split(' ')).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// The addresses or names that dig finds.
    async fn short(&self, arguments: &str) -> Vec<String> {
        let shown = self.dig(&format!("+short {arguments}")).await;
        shown.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect()
    }

    fn stand_in(&self, name: &str) -> StandIn {
        self.names.known(&HostName::new(name).unwrap()).unwrap()
    }

    fn refused(&self) -> Vec<(String, Option<RunTag>, Reason)> {
        let refused = self.world.refused.lock().unwrap();
        refused.iter().map(|l| (l.name.clone(), l.run, l.reason)).collect()
    }
}

/// Runs a test beside a resolver on this port of loopback (0 for any), and stops it after.
fn beside<F: Future<Output = ()>>(port: u16, test: impl FnOnce(Arc<Served>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (udp, tcp) = bind(port).await;
        let (world, names) = (Arc::new(World::default()), Arc::new(Names::new()));
        assert_eq!(names.list([HostName::new("forge.test").unwrap()]), []);
        let (address, stop) = (udp.local_addr().unwrap(), CancellationToken::new());
        let resolver = Resolver { names: names.clone(), asker: world.clone(), origins: world.clone() };
        let served = Arc::new(Served { world, names, address, stop: stop.clone() });
        let serving = resolver.serve(Sockets { udp, tcp }, stop.clone());
        let testing = async {
            test(served).await;
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(serving, testing);
        ended.unwrap();
    });
}

/// Both sockets on one port; a free TCP port may be taken for UDP, so try again.
async fn bind(port: u16) -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let bound = UdpSocket::bind(tcp.local_addr().unwrap()).await;
        match bound {
            Ok(udp) => return (udp, tcp),
            Err(error) => assert_eq!(port, 0, "{error}"),
        }
    }
}

#[test]
fn allowed_names_get_their_stand_in_over_udp_and_tcp() {
    beside(0, |served| async move {
        let forge = served.stand_in("forge.test");
        for transport in ["+notcp", "+tcp"] {
            assert_eq!(served.short(&format!("{transport} forge.test A")).await, [forge.v4.to_string()]);
            assert_eq!(served.short(&format!("{transport} forge.test AAAA")).await, [forge.v6.to_string()]);
            assert_eq!(served.short(&format!("{transport} -x {}", forge.v4)).await, ["forge.test."]);
            assert_eq!(served.short(&format!("{transport} -x {}", forge.v6)).await, ["forge.test."]);
        }
        let shown = served.dig("FoRgE.tEsT A").await;
        assert!(shown.contains("FoRgE.tEsT.\t\t30\tIN\tA\t"), "{shown}");
        assert_eq!(served.refused(), []);
        // Whoever must know the address knew it before the answer left.
        let first = served.world.answered.lock().unwrap()[0].clone();
        assert_eq!(first, (HostName::new("forge.test").unwrap(), forge));
    });
}

#[test]
fn a_name_below_a_pattern_gets_its_address_when_asked_for() {
    beside(0, |served| async move {
        assert_eq!(served.names.len(), 1);
        let found = served.short("a.cdn.test A").await;
        assert_eq!(found, [served.stand_in("a.cdn.test").v4.to_string()]);
        assert_eq!(served.short("a.cdn.test A").await, found);
        assert_eq!(served.names.len(), 2);
    });
}

#[test]
fn no_record_leads_around_the_relay() {
    beside(0, |served| async move {
        for kind in ["HTTPS", "SVCB", "MX", "TXT", "SRV", "NS", "SOA", "CNAME", "ANY", "DNSKEY", "TYPE65280"]
        {
            let shown = served.dig(&format!("forge.test {kind}")).await;
            assert!(shown.contains("status: NOERROR") && shown.contains("ANSWER: 0"), "{kind} {shown}");
        }
        assert_eq!(served.refused(), []);
    });
}

#[test]
fn other_names_do_not_exist_and_are_reported() {
    beside(0, |served| async move {
        let shown = served.dig("c2VjcmV0.exfil.example A").await;
        assert!(shown.contains("status: NXDOMAIN"), "{shown}");
        assert!(shown.contains("EDE: 18 (Prohibited): (capture.name_refused)"), "{shown}");
        for question in
            ["forge.test. CH TXT", "-x 8.8.8.8", "x.forge.test A", "+tcp +noedns other.example HTTPS"]
        {
            let shown = served.dig(question).await;
            assert!(shown.contains("status: NXDOMAIN") || shown.contains("status: REFUSED"), "{shown}");
            assert!(shown.contains("ANSWER: 0"), "{shown}");
        }
        let names = [
            "c2VjcmV0.exfil.example.",
            "forge.test.",
            "8.8.8.8.in-addr.arpa.",
            "x.forge.test.",
            "other.example.",
        ];
        let expected = names.map(|name| (name.to_owned(), the_run(), Reason::NameRefused));
        assert_eq!(served.refused(), expected);
    });
}

#[test]
fn strangers_are_refused() {
    beside(0, |served| async move {
        for transport in ["+notcp", "+tcp"] {
            let shown = served.dig(&format!("-b 127.0.0.2 {transport} forge.test A")).await;
            assert!(shown.contains("status: REFUSED") && shown.contains("ANSWER: 0"), "{shown}");
        }
        assert_eq!(served.refused(), vec![("forge.test.".to_owned(), None, Reason::NoRun); 2]);
    });
}

#[test]
fn a_process_without_a_run_waits_until_it_was_looked_at_and_nobody_else_does() {
    for (look, expected) in [(Look::Found, "NOERROR"), (Look::Refused, "REFUSED")] {
        beside(0, |served| async move {
            let ask = |transport: &str| format!("-b {HELD} +time=15 {transport} forge.test A");
            let (udp, tcp) = (ask("+notcp"), ask("+tcp"));
            let others = async {
                for transport in ["+notcp", "+tcp"] {
                    assert_eq!(served.short(&format!("{transport} forge.test A")).await.len(), 1);
                }
                served.world.attested.send_replace(look);
            };
            let (udp, tcp, ()) = tokio::join!(served.dig(&udp), served.dig(&tcp), others);
            for shown in [udp, tcp] {
                assert!(shown.contains(&format!("status: {expected}")), "{shown}");
            }
        });
    }
}

#[test]
fn an_answer_that_is_too_large_for_udp_comes_over_tcp() {
    beside(0, |served| async move {
        for edns in ["+noedns", "+bufsize=1232", "+bufsize=65535"] {
            let cut = served.dig(&format!("+ignore {edns} listed.test A")).await;
            assert!(cut.contains(" tc ") && cut.contains("ANSWER: 0"), "{cut}");
            assert_eq!(served.short(&format!("{edns} listed.test A")).await.len(), 90);
        }
        // Real addresses of the other family do not exist, and that is no reason to fail.
        let shown = served.dig("listed.test AAAA").await;
        assert!(shown.contains("status: NOERROR") && shown.contains("ANSWER: 0"), "{shown}");
    });
}

#[test]
fn unknown_edns_versions_are_told_so() {
    beside(0, |served| async move {
        let shown = served.dig("+edns=1 +noednsnegotiation forge.test A").await;
        assert!(shown.contains("status: BADVERS") && shown.contains("ANSWER: 0"), "{shown}");
        assert_eq!(served.short("+edns=1 forge.test A").await.len(), 1);
        assert_eq!(served.short("+cookie +nsid +subnet=192.0.2.0/24 forge.test A").await.len(), 1);
    });
}

#[test]
fn noise_on_one_connection_disturbs_no_other() {
    beside(0, |served| async move {
        let mut kept = TcpStream::connect(served.address).await.unwrap();
        for noise in [&[0xff, 0xff, 1, 2][..], &[0, 0], &[0, 3, 1, 2, 3], b"GET / HTTP/1.1\r\n\r\n"] {
            let mut noisy = TcpStream::connect(served.address).await.unwrap();
            noisy.write_all(noise).await.unwrap();
            // Closed without an answer; a reset, when bytes were left unread, is as good.
            assert_eq!(noisy.read(&mut [0; 16]).await.unwrap_or(0), 0, "{noise:?}");
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            udp.send_to(noise, served.address).await.unwrap();
        }
        let too_long = vec![0; 5000];
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        udp.send_to(&too_long, served.address).await.unwrap();
        assert_eq!(served.short("forge.test A").await.len(), 1);

        // Two questions on one connection, the second of which comes in pieces.
        let question = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x05forge\x04test\0\0\x01\0\x01";
        let framed = [&[0, u8::try_from(question.len()).unwrap()][..], question].concat();
        kept.write_all(&framed).await.unwrap();
        let first = read_message(&mut kept).await;
        for piece in framed.chunks(5) {
            kept.write_all(piece).await.unwrap();
            kept.flush().await.unwrap();
        }
        assert_eq!(read_message(&mut kept).await, first);
        assert!(first.ends_with(&served.stand_in("forge.test").v4.octets()));
    });
}

async fn read_message(stream: &mut TcpStream) -> Vec<u8> {
    let mut message = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut message).await.unwrap();
    message
}

#[test]
fn one_run_cannot_take_all_connections() {
    beside(0, |served| async move {
        let mut held = Vec::new();
        for _ in 0..limits::DNS_CONNECTIONS_PER_RUN_MAX {
            held.push(TcpStream::connect(served.address).await.unwrap());
        }
        let mut refused = TcpStream::connect(served.address).await.unwrap();
        assert_eq!(refused.read(&mut [0; 1]).await.unwrap_or(0), 0);
        // Others are still served (here a stranger, with an answer of its own), and so is the run over UDP.
        assert!(served.dig("-b 127.0.0.2 +tcp forge.test A").await.contains("status: REFUSED"));
        assert_eq!(served.short("forge.test A").await.len(), 1);
        held.clear();
        let mut again = 0..100;
        while served.short("+tcp forge.test A").await.is_empty() {
            assert!(again.next().is_some(), "closed connections still count");
        }
    });
}

#[test]
fn stopping_closes_what_is_open() {
    beside(0, |served| async move {
        let mut open = TcpStream::connect(served.address).await.unwrap();
        open.write_all(&[0]).await.unwrap();
        assert_eq!(served.short("+tcp forge.test A").await.len(), 1);
        served.stop.cancel();
        assert_eq!(open.read(&mut [0; 1]).await.unwrap_or(0), 0);
    });
}

#[test]
fn dns_is_no_way_out_even_a_refused_name_is_asked_nowhere() {
    if !isolation::enter("dns_is_no_way_out_even_a_refused_name_is_asked_nowhere") {
        return;
    }
    beside(0, |served| async move {
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        client.connect(served.address).await.unwrap();
        let before = datagrams_sent();
        for name in
            [&b"\x06secret\x05exfil\x04test\0"[..], b"\x06secret\x03cdn\x04test\0", b"\x05forge\x04test\0"]
        {
            let question = [b"\0\x01\x01\0\0\x01\0\0\0\0\0\0", name, b"\0\x01\0\x01"].concat();
            client.send(&question).await.unwrap();
            assert!(client.recv(&mut [0; 512]).await.unwrap() >= question.len());
        }
        // Three questions and three answers are all that was sent in this network namespace.
        assert_eq!(datagrams_sent() - before, 6);
    });
}

/// `OutDatagrams` of the network namespace, IPv4 and IPv6.
fn datagrams_sent() -> u64 {
    let v4 = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = v4.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let place = lines.next().unwrap().split(' ').position(|name| name == "OutDatagrams").unwrap();
    let v4: u64 = lines.next().unwrap().split(' ').nth(place).unwrap().parse().unwrap();
    let v6 = std::fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
    let v6 = v6.lines().find_map(|line| line.strip_prefix("Udp6OutDatagrams")).unwrap();
    v4 + v6.trim().parse::<u64>().unwrap()
}

#[test]
fn the_c_library_finds_allowed_names_and_fails_at_once_for_others() {
    if !isolation::enter("the_c_library_finds_allowed_names_and_fails_at_once_for_others") {
        return;
    }
    beside(53, |served| async move {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        // Two servers that are both Writ, as the kernel makes all of them be.
        #[expect(clippy::disallowed_methods, reason = "a file of a test")]
        std::fs::write(&file, "nameserver 127.0.0.1\nnameserver 127.0.0.1\n").unwrap();
        let script = "mount --bind $0 /etc/resolv.conf && exec python3 - <<'END'
import socket
found = sorted({a[4][0] for a in socket.getaddrinfo('forge.test', 443, type=socket.SOCK_STREAM)})
print(*found)
print(socket.gethostbyaddr(found[0])[0])
try:
    socket.getaddrinfo('secret.exfil.test', 443)
except socket.gaierror as error:
    print(error.errno == socket.EAI_NONAME)
END";
        let mut command = Command::new("unshare");
        let output = command.args(["--mount", "sh", "-c", script]).arg(&file).output().await.unwrap();
        let forge = served.stand_in("forge.test");
        let expected = format!("{} {}\nforge.test\nTrue\n", forge.v4, forge.v6);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
        // One question for each family, and no second try.
        let refused = served.refused();
        assert_eq!(refused.len(), 2, "{refused:?}");
    });
}
