//! Every bound of the system in one place, each with its unit and its reason (invariant I13).

use std::time::Duration;

use writ_core::units::ByteSize;

/// Connections that the relay holds at once. At 16 KiB each when idle this is 256 MiB.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Connections of one session held at once: one agent cannot starve the others.
pub const CONNECTIONS_PER_SESSION_MAX: usize = 4_096;
/// Actions of one connection under way at once: above the streams that HTTP/2 allows.
pub const ACTIONS_PER_CONNECTION_MAX: usize = 512;
/// Sessions open at once.
pub const SESSIONS_MAX: usize = 4_096;

/// From accept to the end of the TLS hello or the first request head.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Between requests on a kept-alive connection.
pub const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
/// To connect to an upstream, TLS included.
pub const UPSTREAM_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From the end of a request to the first byte of the answer. Long, because models think.
pub const UPSTREAM_ANSWER_TIMEOUT: Duration = Duration::from_mins(10);
/// To mint a credential.
pub const MINT_TIMEOUT: Duration = Duration::from_secs(15);

/// A TLS `ClientHello`: larger ones are not sent by any client known to us.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;
/// A request or response head.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers in one head: as many as the HTTP/1 parser takes without memory of its own per request.
pub const HEADERS_MAX: usize = 100;
/// Streams of one HTTP/2 connection.
pub const H2_STREAMS_MAX: u32 = 256;
/// Body bytes buffered per direction of one exchange.
pub const BODY_WINDOW: ByteSize = ByteSize::kib(64);
/// Flow-control window of one stream towards a service: bounds what is held, and with it the speed over a long way.
pub const H2_STREAM_WINDOW: ByteSize = ByteSize::kib(256);
/// Flow-control window of a whole HTTP/2 connection, in either direction.
pub const H2_CONNECTION_WINDOW: ByteSize = ByteSize::mib(1);
/// Leaf certificates cached per session.
pub const LEAVES_PER_SESSION_MAX: usize = 256;
/// Idle upstream connections kept per session and service.
pub const UPSTREAM_IDLE_MAX: usize = 64;
/// How long an idle upstream connection is kept.
pub const UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// A secret that is placed in requests, bytes: leaves room in the smallest head that servers accept.
pub const SECRET_BYTES_MAX: usize = 16 * 1024;
/// Secrets in the store: each that is in use takes a locked page.
pub const SECRETS_MAX: usize = 4_096;

/// One evidence leaf (C2SP tlog-tiles: entries have a 16-bit length).
pub const LEAF_BYTES_MAX: usize = 65_535;
/// Evidence events waiting for the disk. Past it, new actions are refused; receipts have their place reserved.
pub const EVIDENCE_QUEUE_MAX: usize = 65_536;
/// An event that is not recorded within this time counts as not recorded.
pub const EVIDENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// A DNS message over UDP or TCP.
pub const DNS_BYTES_MAX: usize = 4_096;
/// DNS connections over TCP at once. Datagrams are answered one after the other.
pub const DNS_QUERIES_MAX: usize = 1_024;
/// DNS connections over TCP of one run: clients need one or two, and one run cannot take all.
pub const DNS_CONNECTIONS_PER_RUN_MAX: usize = 16;
/// Life of an answer, seconds: short, so that a changed configuration is seen soon; addresses are stable anyway.
pub const DNS_TTL_SECONDS: u32 = 30;
/// Names below a pattern that all runs together may ask for: an eighth of the synthetic addresses, so that listed
/// names always find a place.
pub const NAMES_ASKED_MAX: usize = 16_384;
/// Of these, one run: what an agent could push out that way is bounded, and it cannot use up the table for others.
pub const NAMES_ASKED_PER_RUN_MAX: usize = 1_024;

/// The longest time limit of a session.
pub const SESSION_TTL_MAX: Duration = Duration::from_hours(30 * 24);
/// A session's time limit when nobody says otherwise.
pub const SESSION_TTL_DEFAULT: Duration = Duration::from_hours(1);
/// A purpose, bytes.
pub const PURPOSE_BYTES_MAX: usize = 1_024;
/// A path kept in a record, bytes; longer ones are cut and end in `...`.
pub const RECORDED_PATH_BYTES_MAX: usize = 1_024;

/// Determining policies kept per key in a record; more are counted only, so that a leaf has room for them.
pub const DETERMINING_POLICIES_MAX: usize = 32;
/// A policy id, bytes.
pub const POLICY_ID_BYTES_MAX: usize = 128;
/// Agents, and humans, whose slices of the policy set are kept; past it they are built anew.
pub const POLICY_VIEWS_MAX: usize = 256;
/// Sets of conditional policies that slices share; past it they are built anew.
pub const POLICY_CONDITIONS_MAX: usize = 4_096;

/// Control connections held at once, of users other than root.
pub const CONTROL_CONNECTIONS_MAX: usize = 256;
/// Control connections of one uid held at once: nobody can keep others, or root, from being heard.
pub const CONTROL_CONNECTIONS_PER_UID_MAX: usize = 32;
/// A control request's body; secrets and command lines are the largest.
pub const CONTROL_BODY_BYTES_MAX: usize = 256 * 1024;
/// To receive a control request, and to answer it unless it is a stream.
pub const CONTROL_TIMEOUT: Duration = Duration::from_secs(30);
/// For control requests under way to end when the daemon stops.
pub const CONTROL_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
