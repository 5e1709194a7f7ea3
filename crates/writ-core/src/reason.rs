//! Why something was refused or failed: one enum, from which reference page, responses and records are written.
//!
//! A code is `part.situation`; it is stable and may be matched on. The first line of a variant's doc is the
//! public text: what an agent is told. It never names another session, a path, a key or a query.

use serde::{Deserialize, Serialize};

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The agent asked for what it may not have, or asked wrongly.
    Agent,
    /// The service, or the way to it.
    Upstream,
    /// Writ or its configuration.
    Local,
}

impl Origin {
    /// The word in records and responses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Upstream => "upstream",
            Self::Local => "local",
        }
    }
}

macro_rules! reasons {
    ($($code:literal $name:ident $origin:ident $status:literal $text:literal $hint:literal;)*) => {
        /// Every reason there is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason { $(#[doc = $text] $name,)* }

        impl Reason {
            /// All of them, in the order of the reference page.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The stable code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// Whose fault it is.
            pub const fn origin(self) -> Origin {
                match self { $(Self::$name => Origin::$origin),* }
            }

            /// The HTTP status of a refusal with this reason.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }

            /// What the agent is told.
            pub const fn public_text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// What the operator should do next.
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint),* }
            }

            /// The reason with this code.
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

reasons! {
    "capture.unknown_peer" UnknownPeer Local 403
        "the kernel does not know who opened this connection"
        "run `writ doctor`; the connection came from outside a governed run, or the hand-off missed";
    "capture.unknown_destination" UnknownDestination Agent 403
        "the destination is no known service"
        "add the host to a file in `services/`, or list the address there";
    "capture.protocol_refused" ProtocolRefused Agent 403
        "this kind of traffic is not allowed"
        "only TCP and DNS leave a governed run";
    "capture.name_refused" NameRefused Agent 403
        "the name is not resolved, because no policy could allow it"
        "add the host to a file in `services/`";
    "session.no_run" NoRun Agent 403
        "the process belongs to no run"
        "start the program with `writ run`";
    "session.ended" SessionEnded Agent 403
        "the session has ended"
        "start a new one with `writ run`";
    "session.expired" SessionExpired Agent 403
        "the session's time limit has passed"
        "start a new one with `writ run --ttl`";
    "session.revoked" SessionRevoked Agent 403
        "the session was revoked"
        "see `writ log --session`";
    "session.no_human" NoHuman Agent 403
        "this run acts for its callers, and the request names none of them"
        "send the handle that came with the caller's request, or its `traceparent`; or register the agent as autonomous";
    "session.two_humans" TwoHumans Agent 403
        "the request names more than one caller"
        "send the handle and trace context of one request only";
    "session.not_granted" NotGranted Agent 403
        "the session was not granted this"
        "start the run with a `--grant` that covers it; see `writ why`";
    "session.signed_out" SignedOut Agent 403
        "the human behind the session has signed out or was disabled"
        "sign in again with `writ login`";
    "caller.missing" CallerMissing Agent 401
        "the request carries no token of its caller"
        "send the caller's token where the `[[serve]]` block of the agent's file expects it";
    "caller.refused" CallerRefused Agent 401
        "the caller's token is not accepted"
        "see the daemon's log; its issuer, audience and times must fit the `[[serve]]` block";
    "caller.unverified" CallerUnverified Local 503
        "the caller's token cannot be verified now"
        "see the daemon's log: the issuer could not be asked";
    "caller.no_server" NoServer Local 503
        "the agent's server is not there"
        "start it with `writ run`, so that the run itself listens on the port of its `[[serve]]` block";
    "caller.ungoverned" Ungoverned Agent 403
        "the caller is no agent that is let in"
        "run it with `writ run`, or say `ungoverned = true` in the `[[serve]]` block";
    "identity.unattested" Unattested Agent 403
        "it could not be proven what this process is"
        "see the daemon's log for what was missing";
    "identity.changed" IdentityChanged Agent 403
        "the program is not the one that this agent was approved with"
        "look at what changed, then `writ agent approve`";
    "identity.no_agent" NoAgent Agent 403
        "the process is no registered agent"
        "see the daemon's log; add a `[[match]]` block to the agent's file, or start it with the program that the file names";
    "catalog.no_service" NoService Agent 403
        "no service has this name and port"
        "add it to a file in `services/`";
    "catalog.no_operation" NoOperation Agent 403
        "the request is no known operation of the service"
        "add an operation for this method and path to the service's file";
    "catalog.ambiguous_request" AmbiguousRequest Agent 400
        "the request can be read in more than one way"
        "remove dot segments, encoded slashes, repeated names and overrides of the method";
    "catalog.argument_refused" ArgumentRefused Agent 400
        "an argument of the request is missing, or is not of its type"
        "see `writ service show` for the arguments of the operation";
    "catalog.body_refused" BodyRefused Agent 400
        "the request's body is not such that its arguments can be read"
        "send JSON as `application/json`, or for GraphQL one document as `query`, and no content coding";
    "catalog.body_too_large" BodyTooLarge Agent 413
        "the request's body is larger than is read for arguments"
        "see the limits page";
    "catalog.several_operations" SeveralOperations Agent 400
        "the request does several things at once"
        "send each GraphQL root field in a request of its own";
    "mcp.headers_refused" McpHeaders Agent 400
        "the headers of the MCP request and its body do not agree"
        "`MCP-Protocol-Version`, `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*` must be as the body says, of a revision that is known";
    "mcp.tool_changed" ToolChanged Agent 403
        "the tool is not the one that was approved: its definition has changed"
        "read what it says now (`writ service import --mcp`), put its digest in the service's file, then `writ reload`";
    "mcp.tool_unseen" ToolUnseen Agent 403
        "the tool's definition has not been seen since the enforcer started"
        "list the tools first; a tool with a `digest` is called only after it was listed as approved";
    "mcp.answer_refused" McpAnswer Upstream 502
        "the MCP server's answer cannot be passed on"
        "it is no JSON-RPC that every client reads alike, too large, or asks the client for what the service's file does not name";
    "policy.agent_not_permitted" AgentNotPermitted Agent 403
        "no policy permits this agent to do this"
        "see `writ why`; add a permit for the agent";
    "policy.human_not_permitted" HumanNotPermitted Agent 403
        "no policy permits the human behind this agent to do this"
        "see `writ why`; add a permit for the human";
    "policy.agent_forbidden" AgentForbidden Agent 403
        "a policy forbids this agent to do this"
        "see `writ why` for the forbidding policy";
    "policy.human_forbidden" HumanForbidden Agent 403
        "a policy forbids the human behind this agent to do this"
        "see `writ why` for the forbidding policy";
    "policy.error" PolicyError Local 403
        "the policy could not be evaluated"
        "run `writ policy check`";
    "policy.limit_reached" LimitReached Agent 429
        "this has been done as often as policy lets it be done for now"
        "wait, or see the `@limit` or `@budget` of the policy that `writ why` names";
    "policy.labels_full" LabelsFull Local 403
        "the session can take no more labels"
        "see the limits page; start a new session";
    "approval.required" ApprovalRequired Agent 403
        "policy lets this be done with somebody's approval only"
        "see `writ approvals`";
    "approval.denied" ApprovalDenied Agent 403
        "somebody who was asked for approval said no"
        "see `writ why` for who and why";
    "approval.pending" ApprovalPending Agent 503
        "nobody has approved this yet"
        "see `writ approvals`; the same request goes on once it is approved";
    "approval.expired" ApprovalExpired Agent 403
        "nobody approved this in time"
        "ask again while an approver is there, see `writ approvals`";
    "evidence.unavailable" EvidenceUnavailable Local 503
        "the action cannot be recorded, so it is refused"
        "free disk space or repair the log: `writ verify`";
    "broker.no_secret" NoSecret Local 502
        "the credential for this service is not available"
        "store it with `writ secret set`";
    "broker.failed" BrokerFailed Local 502
        "the credential for this service could not be prepared"
        "see the daemon's log";
    "broker.unsafe_channel" UnsafeChannel Local 502
        "the credential may not travel over an unverified channel"
        "use TLS for this service, or say `danger_plaintext_credential` in its file";
    "proxy.name_mismatch" NameMismatch Agent 421
        "the names given in address, TLS and request do not agree"
        "the client must send the same name in DNS, SNI and Host";
    "proxy.no_server_name" NoServerName Agent 403
        "the TLS hello names no server"
        "the client must send SNI";
    "proxy.not_tls" NotTls Agent 403
        "the service speaks TLS, and this is none"
        "connect with https, or declare `protocol = \"http\"` for the service";
    "proxy.bad_request" BadRequest Agent 400
        "the request is malformed"
        "the client's HTTP is not strict enough to be relayed safely";
    "proxy.method_refused" MethodRefused Agent 405
        "the method is not relayed"
        "CONNECT and TRACE are never relayed";
    "proxy.upgrade_refused" UpgradeRefused Agent 403
        "the protocol upgrade is not relayed"
        "only WebSocket upgrades are relayed";
    "proxy.too_large" TooLarge Agent 431
        "the request head is too large"
        "see the limits page";
    "proxy.body_timeout" BodyTimeout Agent 408
        "the request's body did not arrive in time"
        "see the limits page for the time allowed";
    "proxy.busy" Busy Local 503
        "the relay is at its limit"
        "see `writ status`; raise the limit or wait";
    "proxy.upstream_unresolved" UpstreamUnresolved Upstream 502
        "the service's name cannot be resolved"
        "check the host's DNS";
    "proxy.upstream_refused" UpstreamRefused Upstream 502
        "the service cannot be reached"
        "check that it is up and that this host may reach it";
    "proxy.upstream_address_refused" UpstreamAddressRefused Upstream 502
        "the service's address is not one that may be used"
        "the name resolved to a private or local address; set `upstream` in the service's file if that is meant";
    "proxy.upstream_tls" UpstreamTls Upstream 502
        "the service's certificate is not trusted"
        "check the certificate, or name its CA in the service's file";
    "proxy.upstream_timeout" UpstreamTimeout Upstream 504
        "the service did not answer in time"
        "check the service; see the limits page for the time allowed";
    "proxy.upstream_broken" UpstreamBroken Upstream 502
        "the service broke off its answer"
        "check the service";
    "proxy.echo_unreadable" EchoUnreadable Upstream 502
        "the answer is in an encoding that cannot be checked for the credential"
        "the service must answer in identity, gzip, br, zstd or deflate";
    "gate.not_ready" NotReady Local 503
        "the enforcer is not ready"
        "wait, or see `writ status`";
    "gate.client_gone" ClientGone Agent 499
        "the client went away before the end"
        "nothing to do";
    "gate.abandoned" Abandoned Local 500
        "the daemon stopped before the action ended"
        "the record is honest: whether the request arrived is unknown";
}

impl Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let code = String::deserialize(d)?;
        Self::from_code(&code).ok_or_else(|| serde::de::Error::custom(format!("no reason `{code}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_well_formed_and_read_back() {
        for reason in Reason::ALL {
            let (part, situation) = reason.code().split_once('.').unwrap();
            assert!(part.bytes().chain(situation.bytes()).all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
            assert!(!reason.public_text().ends_with('.') && !reason.hint().is_empty());
        }
    }
}
