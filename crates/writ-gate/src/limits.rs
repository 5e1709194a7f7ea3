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
/// A request's body that is read for arguments, and one of a form: calls of APIs are small. What is larger is refused.
pub const ARGUMENT_BODY_BYTES_MAX: usize = 1024 * 1024;
/// For a body that is read for arguments to arrive.
pub const ARGUMENT_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Bodies that are held for their arguments at once: 256 MiB.
pub const ARGUMENT_BODIES_MAX: usize = 256;
/// Of these, of one session: one agent cannot keep others from acting.
pub const ARGUMENT_BODIES_PER_SESSION_MAX: usize = 64;
/// Lists and objects within each other in a JSON body.
pub const JSON_DEPTH_MAX: usize = 64;
/// Arguments that an operation names, besides those of its path.
pub const ARGUMENTS_MAX: usize = 32;
/// Texts in an argument that is a set of them.
pub const ARGUMENT_STRINGS_MAX: usize = 256;
/// Messages on their way to one side of a server over standard input and output.
pub const STDIO_LINES_MAX: usize = 64;
/// For what such a server said last to reach its client once it exited.
pub const STDIO_DRAIN: Duration = Duration::from_secs(5);
/// Calls of an MCP server that stand on the way to what it does meanwhile.
pub const CALLS_ON_PATH_MAX: usize = 8;
/// Labels of one session.
pub const LABELS_MAX: usize = 64;
/// Limits and budgets that one session is counted against.
pub const LEDGER_COUNTERS_MAX: usize = 1_024;
/// Approvals of one session that hold for the rest of it.
pub const STANDING_APPROVALS_MAX: usize = 256;
/// An action waits this long on the wire for its approval; the same request may come again for as long as its policy says.
pub const APPROVAL_WAIT: Duration = Duration::from_mins(5);
/// Approvals that are asked for at once.
pub const APPROVALS_MAX: usize = 1_024;
/// Of these, for one session: one agent cannot bury the question of another.
pub const APPROVALS_PER_SESSION_MAX: usize = 16;
/// What an approver is shown of a body.
pub const APPROVAL_PREVIEW_BYTES_MAX: usize = 4 * 1024;
/// How often one action is decided again because its session changed meanwhile.
pub const DECISIONS_PER_ACTION_MAX: usize = 8;
/// Tokens of a GraphQL document.
pub const GRAPHQL_TOKENS_MAX: usize = 10_000;
/// Selections and values within each other in a GraphQL document.
pub const GRAPHQL_DEPTH_MAX: usize = 64;
/// A message of an MCP server, bytes as sent: what comes back is looked at before the client is shown it.
pub const MCP_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of such messages that are held at once.
pub const MCP_HELD_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Of these, of one session: one server that takes its time cannot keep others from being heard.
pub const MCP_HELD_BYTES_PER_SESSION_MAX: usize = 32 * 1024 * 1024;
/// The text of a request's id that is repeated in a refusal, bytes; longer ones are not.
pub const MCP_ID_BYTES_MAX: usize = 256;
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
/// Digests of files kept; past it the oldest is read again.
pub const DIGESTS_MAX: usize = 8_192;
/// A program or script that is digested; larger ones are not attested. The largest agents known are below 300 MiB.
pub const ATTESTED_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Attested processes remembered, so that asking again costs a look and no reading.
pub const ATTESTED_MAX: usize = 16_384;
/// Ancestors of a process that are looked at.
pub const ANCESTORS_MAX: usize = 32;
/// Containers and pods remembered.
pub const CONTAINERS_MAX: usize = 4_096;
/// An answer of a container runtime or kubelet: a node has at most some hundred pods.
pub const RUNTIME_ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// For a container runtime or kubelet to answer.
pub const RUNTIME_TIMEOUT: Duration = Duration::from_secs(10);
/// Digests pinned for one agent; approved ones push out the oldest.
pub const PINS_PER_AGENT_MAX: usize = 256;
/// A purpose, bytes.
pub const PURPOSE_BYTES_MAX: usize = 1_024;
/// A text of an argument kept in a record, bytes; longer ones are cut and end in `...`.
pub const RECORDED_ARGUMENT_BYTES_MAX: usize = 256;
/// Texts of all arguments in a record together, bytes; where they would be more, each is cut to an equal share.
pub const RECORDED_ARGUMENTS_BYTES_MAX: usize = 4_096;
/// Texts of a set kept in a record; more are counted only.
pub const RECORDED_STRINGS_MAX: usize = 16;
/// Groups of a human kept in a record, bytes with three for each; where they are more, none are.
pub const RECORDED_GROUPS_BYTES_MAX: usize = 8_192;
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
/// Values of an argument that a suggested policy lists; past it the argument is left open.
pub const SUGGESTED_VALUES_MAX: usize = 8;
/// A text, bytes, that a suggested policy takes for the name of something; what is longer, or has white space, is free text.
pub const SUGGESTED_TEXT_BYTES_MAX: usize = 64;

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

/// Logins under way at once; past it, a new one is refused.
pub const LOGINS_MAX: usize = 256;
/// Logins of one uid under way at once: nobody can keep others from logging in.
pub const LOGINS_PER_UID_MAX: usize = 16;
/// From the start of a login in a browser to the code that comes back.
pub const LOGIN_TIMEOUT: Duration = Duration::from_mins(10);
/// Login sessions that are signed in at once: the refresh token of each takes a locked page.
pub const SIGN_INS_MAX: usize = 1_024;
/// Groups kept of one human.
pub const HUMAN_GROUPS_MAX: usize = 256;
/// A group, name or address of a human as an issuer writes it, bytes.
pub const HUMAN_TEXT_BYTES_MAX: usize = 256;
/// The body of an issuer's answer.
pub const ISSUER_BODY_BYTES_MAX: usize = 1024 * 1024;
/// To connect to an issuer, ask and read its answer.
pub const ISSUER_TIMEOUT: Duration = Duration::from_secs(15);
/// Difference between the clocks of issuer and node that is put up with.
pub const CLOCK_SKEW: Duration = Duration::from_mins(1);
/// Keys of one issuer.
pub const ISSUER_KEYS_MAX: usize = 64;
/// How long an issuer's keys and description are used before they are fetched again.
pub const ISSUER_FRESH: Duration = Duration::from_hours(1);
/// How long they are used while fetching fails.
pub const ISSUER_USABLE: Duration = Duration::from_hours(24);
/// Between two fetches of the same: a flood of unknown key ids causes no flood of fetches.
pub const ISSUER_FETCH_PAUSE: Duration = Duration::from_secs(10);
/// The oldest token of a caller, by its time of issue, that is taken; a revocation is remembered as long.
pub const CALLER_TOKEN_AGE_MAX: Duration = Duration::from_hours(7 * 24);
/// Callers remembered by address, so that a signal that names an address finds them.
pub const CALLERS_REMEMBERED_MAX: usize = 16_384;
/// The oldest signal that is taken, by its time of issue: a transmitter may have waited for us that long.
pub const SIGNAL_AGE_MAX: Duration = Duration::from_hours(7 * 24);
/// Signals whose ids are remembered, so that none is taken twice.
pub const SIGNALS_REMEMBERED_MAX: usize = 16_384;
/// Signals fetched by one poll.
pub const SIGNALS_PER_POLL_MAX: usize = 64;
/// The longest a transmitter may hold a poll open.
pub const SIGNAL_POLL_TIMEOUT: Duration = Duration::from_mins(2);

/// Callers of one run that are served at once: each has a session of their own.
pub const CALLERS_PER_RUN_MAX: usize = 4_096;
/// Callers of all runs together.
pub const CALLERS_MAX: usize = 16_384;
/// Traces remembered of one caller; past it their own oldest is forgotten, never somebody else's.
pub const TRACES_PER_CALLER_MAX: usize = 1_024;
/// To verify a caller's token, an issuer that must be asked included.
pub const CALLER_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections of callers held at once, on all listeners.
pub const CALLER_CONNECTIONS_MAX: usize = 8_192;

/// Connections to the Workload API held at once, of users other than root: one for every session.
pub const WORKLOAD_CONNECTIONS_MAX: usize = 4_096;
/// Connections of one uid to the Workload API held at once: agents of one user share it, and nobody can keep others
/// from their identity.
pub const WORKLOAD_CONNECTIONS_PER_UID_MAX: usize = 1_024;
/// Calls of one connection to the Workload API under way at once: clients keep four streams, Envoy one per secret.
pub const WORKLOAD_STREAMS_MAX: u32 = 32;
/// From accept to the first call on the Workload API.
pub const WORKLOAD_HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// For calls on the Workload API to be told the end when the daemon stops.
pub const WORKLOAD_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// A request on the Workload API; a JWT to validate is the largest.
pub const WORKLOAD_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Identities of one process: what it is told, and what is signed for it at a time.
pub const WORKLOAD_IDENTITIES_MAX: usize = 16;
/// Audiences of one JWT-SVID; one is recommended by the standard.
pub const WORKLOAD_AUDIENCES_MAX: usize = 16;
/// Secrets that one secret-discovery stream names.
pub const WORKLOAD_SECRETS_MAX: usize = 256;
/// Over this time an update that concerns everybody is spread, so that not all streams sign at once. Far below the
/// second within which a change is promised.
pub const WORKLOAD_SPREAD: Duration = Duration::from_millis(250);

/// Connections to the identity endpoints over TLS held at once.
pub const WEB_CONNECTIONS_MAX: usize = 1_024;
/// Of these, from one address: one peer cannot keep out others.
pub const WEB_CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
/// Streams of one HTTP/2 connection there.
pub const WEB_STREAMS_MAX: u32 = 32;
/// A request's head there.
pub const WEB_HEAD_BYTES_MAX: usize = 16 * 1024;
/// A request's body there: tokens to exchange are the largest.
pub const WEB_BODY_BYTES_MAX: usize = 64 * 1024;
/// For the TLS handshake, for the head of a request, and for the rest of it with its answer; each.
pub const WEB_TIMEOUT: Duration = Duration::from_secs(10);
/// A whole connection there: clients come back, and a certificate that was replaced is seen.
pub const WEB_CONNECTION_TIMEOUT: Duration = Duration::from_mins(5);

/// A signed token that is read, bytes: what fits in a request head beside everything else.
pub const TOKEN_BYTES_MAX: usize = 32 * 1024;
/// The longest life of a token that the authority signs for others: its key stays published that long.
pub const ISSUED_TOKEN_TTL_MAX: Duration = Duration::from_hours(1);
/// Audiences that tokens are issued for.
pub const TOKEN_AUDIENCES_MAX: usize = 1_024;
/// Actors in the chain of an issued token: a human, and a run that a run started, and so on.
pub const ACTORS_MAX: usize = 16;
/// The context of a transaction that a client brings, bytes; every hop carries it on.
pub const TRANSACTION_CONTEXT_BYTES_MAX: usize = 4 * 1024;
/// From the making of a proof of a key to its last use.
pub const PROOF_AGE_MAX: Duration = Duration::from_mins(1);
/// How far a proof's maker may be ahead of our clock.
pub const PROOF_AHEAD_MAX: Duration = Duration::from_secs(5);
/// Proofs of a key that are remembered, so that none is taken twice.
pub const PROOFS_MAX: usize = 65_536;
/// Of these, of one client.
pub const PROOFS_PER_CLIENT_MAX: usize = 4_096;
/// Certificates of a peer's chain beyond its leaf.
pub const CHAIN_CERTIFICATES_MAX: usize = 8;
/// A trust bundle, or the answer of an upstream authority, bytes: hundreds of keys.
pub const BUNDLE_BYTES_MAX: usize = 1024 * 1024;
/// To fetch a trust bundle, or to ask an upstream authority, redirections included.
pub const FEDERATION_TIMEOUT: Duration = Duration::from_secs(15);
/// Redirections that a trust bundle is followed through.
pub const FEDERATION_REDIRECTS_MAX: usize = 3;
/// Trust domains that are federated with.
pub const FEDERATION_MAX: usize = 256;
