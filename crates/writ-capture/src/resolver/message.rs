//! One DNS message in, at most one out. Pure but for what it asks of the [`Asker`](super::Asker).

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use writ_core::{HostName, Reason, RunTag};
use writ_gate::limits;

use super::{Answer, Lookup, Question, Resolver};

/// The largest answer over UDP that surely is not fragmented (DNS flag day 2020), and the least (RFC 1035, 4.2.1).
const UDP_BYTES_MAX: u16 = 1232;
const UDP_BYTES_MIN: u16 = 512;
/// RFC 8914: the option, and its code `Prohibited`.
const EXTENDED_ERROR: u16 = 15;
const PROHIBITED: u16 = 18;

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

impl Resolver {
    /// The reply to a message. `None` for what deserves none: noise, and answers, which could otherwise be made
    /// to bounce between two servers.
    pub(super) fn reply(&self, run: Option<RunTag>, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let head = Head::read(bytes)?;
        let reply = match request(bytes, &head) {
            Ok((query, edns)) => self.answer(run, &head, query, edns.as_ref()),
            Err(code) => Message::error_msg(head.id, head.op_code, code),
        };
        let udp_max = reply.edns.as_ref().map_or(UDP_BYTES_MIN, Edns::max_payload);
        encode(reply, if transport == Transport::Udp { udp_max } else { u16::MAX })
    }

    fn answer(&self, run: Option<RunTag>, head: &Head, query: Query, edns: Option<&Edns>) -> Message {
        let mut asked = Metadata::new(head.id, MessageType::Query, head.op_code);
        asked.recursion_desired = head.recursion_desired;
        let mut reply = Message::response(head.id, head.op_code);
        reply.metadata = Metadata::response_from_request(&asked);
        reply.metadata.recursion_available = true;
        reply.edns = edns.map(our_edns);
        if edns.is_some_and(|edns| edns.version() != 0) {
            reply.metadata.response_code = ResponseCode::BADVERS;
            reply.add_query(query);
            return reply;
        }
        match self.records(run, &query) {
            Ok(records) => {
                reply.add_answers(records);
            }
            Err(Refused { code, reason }) => {
                reply.metadata.response_code = code;
                if let Some(edns) = &mut reply.edns {
                    edns.options_mut().insert(extended_error(reason));
                }
                self.asker.refused(Lookup { run, name: query.name().to_ascii(), reason });
            }
        }
        reply.add_query(query);
        reply
    }

    fn records(&self, run: Option<RunTag>, query: &Query) -> Result<Vec<Record>, Refused> {
        let run = run.ok_or(Refused { code: ResponseCode::Refused, reason: Reason::NoRun })?;
        if query.query_class() != DNSClass::IN {
            return Err(Refused { code: ResponseCode::Refused, reason: Reason::NameRefused });
        }
        if query.query_type() == RecordType::PTR {
            return self.pointer(run, query.name());
        }
        let name = HostName::new(&query.name().to_ascii()).map_err(|_| Refused::name(Reason::NameRefused))?;
        let question = Question { run, name };
        let record = |data| Record::from_rdata(query.name().clone(), limits::DNS_TTL_SECONDS, data);
        let addresses = self.addresses(&question)?;
        let data = addresses.into_iter().filter_map(|address| match (query.query_type(), address) {
            (RecordType::A, IpAddr::V4(v4)) => Some(RData::A(A(v4))),
            (RecordType::AAAA, IpAddr::V6(v6)) => Some(RData::AAAA(AAAA(v6))),
            _ => None,
        });
        Ok(data.map(record).collect())
    }

    fn addresses(&self, question: &Question) -> Result<Vec<IpAddr>, Refused> {
        match self.asker.allowed(question).map_err(Refused::name)? {
            Answer::Listed(addresses) => Ok(addresses),
            Answer::StandIn => {
                let full = Refused { code: ResponseCode::ServFail, reason: Reason::Busy };
                let stand_in = self.names.stand_in(question.run, &question.name).ok_or(full)?;
                self.asker.answered(question, stand_in);
                Ok(vec![stand_in.v4.into(), stand_in.v6.into()])
            }
        }
    }

    /// The name behind a stand-in, for a run that may know it.
    fn pointer(&self, run: RunTag, name: &Name) -> Result<Vec<Record>, Refused> {
        let refused = || Refused::name(Reason::NameRefused);
        let network = name.parse_arpa_name().map_err(|_| refused())?;
        let whole = network.prefix_len() == network.max_prefix_len();
        let host = whole.then(|| self.names.name_of(network.addr())).flatten().ok_or_else(refused)?;
        let question = Question { run, name: host };
        self.asker.allowed(&question).map_err(Refused::name)?;
        let target = Name::from_ascii(format!("{}.", question.name)).map_err(|_| refused())?;
        let record = Record::from_rdata(name.clone(), limits::DNS_TTL_SECONDS, RData::PTR(PTR(target)));
        Ok(vec![record])
    }
}

/// Why there are no records.
struct Refused {
    code: ResponseCode,
    reason: Reason,
}

impl Refused {
    fn name(reason: Reason) -> Self {
        Self { code: ResponseCode::NXDomain, reason }
    }
}

/// The part of a header that is read before anything is trusted (RFC 1035, 4.1.1).
struct Head {
    id: u16,
    op_code: OpCode,
    recursion_desired: bool,
    counts: [u16; 4],
}

impl Head {
    /// `None` if there is no header, or it is an answer's.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (head, _) = bytes.split_first_chunk::<12>()?;
        let [i0, i1, flags, _, q0, q1, an0, an1, ns0, ns1, ar0, ar1] = *head;
        let counts = [[q0, q1], [an0, an1], [ns0, ns1], [ar0, ar1]].map(u16::from_be_bytes);
        (flags & 0x80 == 0).then(|| Self {
            id: u16::from_be_bytes([i0, i1]),
            op_code: OpCode::from_u8(flags >> 3 & 0xf),
            recursion_desired: flags & 1 != 0,
            counts,
        })
    }
}

/// The one question of a query. Its counts are checked before its records are read, so that little is read at all.
fn request(bytes: &[u8], head: &Head) -> Result<(Query, Option<Edns>), ResponseCode> {
    if head.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    // Beside the OPT record there may be a signature, which is not looked at.
    let [1, 0, 0, 0..=2] = head.counts else { return Err(ResponseCode::FormErr) };
    let message = Message::from_vec(bytes).map_err(|_| ResponseCode::FormErr)?;
    let edns = message.edns;
    let query = message.queries.into_iter().next().ok_or(ResponseCode::FormErr)?;
    Ok((query, edns))
}

fn our_edns(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(asked.max_payload().clamp(UDP_BYTES_MIN, UDP_BYTES_MAX));
    edns.set_version(0);
    edns
}

fn extended_error(reason: Reason) -> EdnsOption {
    let mut option = PROHIBITED.to_be_bytes().to_vec();
    option.extend_from_slice(reason.code().as_bytes());
    EdnsOption::Unknown(EXTENDED_ERROR, option)
}

/// Encodes a reply; one that is too large is cut to its question, so that the client comes back over TCP.
fn encode(mut reply: Message, bytes_max: u16) -> Option<Vec<u8>> {
    let bytes = reply.to_vec().ok()?;
    if bytes.len() <= usize::from(bytes_max) {
        return Some(bytes);
    }
    reply.answers.clear();
    reply.metadata.truncation = true;
    reply.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::{Asker, Datagram, Names, Origins, Sender, StandIn};
    use super::*;

    /// Allows `allowed.test` and names below it.
    struct Rules;

    impl Asker for Rules {
        fn allowed(&self, question: &Question) -> Result<Answer, Reason> {
            let name = question.name.as_str();
            if name.ends_with("allowed.test") { Ok(Answer::StandIn) } else { Err(Reason::NameRefused) }
        }

        fn answered(&self, _: &Question, stand_in: StandIn) {
            assert!(writ_core::synthetic::contains(stand_in.v4.into()));
        }

        fn refused(&self, lookup: Lookup) {
            assert!(
                lookup.name.len() <= 1024 && lookup.name.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
            );
        }
    }

    impl Origins for Rules {
        fn of_datagram(&self, _: &Datagram) -> Option<Sender> {
            None
        }

        fn of_socket(&self, _: BorrowedFd<'_>) -> Option<Sender> {
            None
        }
    }

    fn resolver() -> Resolver {
        Resolver { names: Arc::new(Names::new()), asker: Arc::new(Rules), origins: Arc::new(Rules) }
    }

    fn query(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    fn ask(bytes: &[u8]) -> Option<Message> {
        let reply = resolver().reply(RunTag::from_kernel(1), bytes, Transport::Udp)?;
        Some(Message::from_vec(&reply).unwrap())
    }

    fn code(bytes: &[u8]) -> ResponseCode {
        ask(bytes).unwrap().metadata.response_code
    }

    #[test]
    fn only_one_question_and_nothing_else_is_read() {
        let good = query("a.allowed.test.", RecordType::A);
        assert_eq!(code(&good), ResponseCode::NoError);
        for (place, value) in [(5, 0), (5, 2), (4, 1), (7, 1), (9, 1), (10, 1), (11, 3), (11, 1)] {
            let mut bad = good.clone();
            bad[place] = value;
            assert_eq!(code(&bad), ResponseCode::FormErr, "{place}");
        }
        let mut update = good.clone();
        update[2] = 5 << 3;
        assert_eq!(code(&update), ResponseCode::NotImp);
    }

    #[test]
    fn answers_and_scraps_get_no_reply() {
        let mut answer = query("a.allowed.test.", RecordType::A);
        answer[2] |= 0x80;
        assert_eq!(ask(&answer), None);
        assert_eq!(ask(&[]), None);
        assert_eq!(ask(&[0; 11]), None);
    }

    #[test]
    fn a_compression_bomb_is_a_format_error() {
        let head = [0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        // A name that points at itself, at what follows it, and at a chain of pointers.
        for name in [&[0xc0, 12][..], &[0xc0, 14, 0xc0, 12], &[1, b'a', 0xc0, 12], &[0xff, 0xff]] {
            let bytes = [&head[..], name, &[0, 1, 0, 1]].concat();
            assert_eq!(code(&bytes), ResponseCode::FormErr, "{name:?}");
        }
    }

    #[test]
    fn names_that_are_no_host_names_are_refused() {
        for label in [&b"a b"[..], b"\0", b"a.b", b"a\\", b"\xff\xfe", b"-", b"*", b"1.2.3.4"] {
            let name = Name::from_labels([label, b"allowed", b"test"]).unwrap();
            let mut message = Message::new(7, MessageType::Query, OpCode::Query);
            message.add_query(Query::query(name, RecordType::A));
            assert_eq!(code(&message.to_vec().unwrap()), ResponseCode::NXDomain, "{label:?}");
        }
        assert_eq!(code(&query(".", RecordType::A)), ResponseCode::NXDomain);
    }

    #[test]
    fn a_run_that_asks_for_too_many_names_gets_servfail() {
        let resolver = resolver();
        let ask = |n: usize| {
            let bytes = query(&format!("h{n}.allowed.test."), RecordType::A);
            let reply = resolver.reply(RunTag::from_kernel(1), &bytes, Transport::Udp).unwrap();
            Message::from_vec(&reply).unwrap().metadata.response_code
        };
        assert!((0..limits::NAMES_ASKED_PER_RUN_MAX).all(|n| ask(n) == ResponseCode::NoError));
        assert_eq!(ask(limits::NAMES_ASKED_PER_RUN_MAX), ResponseCode::ServFail);
        assert_eq!(ask(0), ResponseCode::NoError);
    }

    fn check(bytes: &[u8]) {
        for transport in [Transport::Udp, Transport::Tcp] {
            let Some(reply) = resolver().reply(RunTag::from_kernel(1), bytes, transport) else { continue };
            let message = Message::from_vec(&reply).unwrap();
            assert_eq!(message.metadata.id.to_be_bytes(), bytes[..2]);
            assert_eq!(message.metadata.message_type, MessageType::Response);
            assert!(transport == Transport::Tcp || reply.len() <= usize::from(UDP_BYTES_MAX));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            check(&bytes);
        }

        #[test]
        fn a_damaged_query_never_panics(
            label in "[a-z0-9]{1,20}",
            kind in any::<u16>(),
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            tail in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut message = Message::new(7, MessageType::Query, OpCode::Query);
            let name = Name::from_ascii(format!("{label}.allowed.test.")).unwrap();
            message.add_query(Query::query(name, RecordType::from(kind)));
            message.set_edns(Edns::new());
            let mut bytes = message.to_vec().unwrap();
            bytes.extend(tail);
            for (place, value) in damage {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            check(&bytes);
        }
    }
}
