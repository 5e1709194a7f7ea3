//! Leaves as they are written: canonical, and read back.

use super::*;
use serde_json::{Value, json};

const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn actor() -> Value {
    json!({"spiffe_id": format!("spiffe://example.org/agent/coder/run/{ID}"), "session": ID, "run": ID,
           "human": "unix:ann", "agent": "coder"})
}

fn process() -> Value {
    json!({"start_us": 5, "pid": 7, "exec_generation": 1})
}

fn request() -> Value {
    json!({"service": "forge", "path": "/a\u{7f}\u{1}\u{e9}\"\\", "operation": "forge/read",
        "method": "GET", "host": "forge.test", "effect": "read",
        "arguments": {"z": "1\u{0}", "a": ["z", "\u{e9}"], "n": -7, "t": true}})
}

fn decided(mut more: Value) -> Value {
    let key = json!({"policies": ["b", "a"], "permitted": true});
    let body = json!({
        "action": ID, "actor": actor(), "assurance": "kernel", "conn": ID, "process": process(),
        "keys": {"policy_digest": "00", "human": key, "agent": key},
        "request": request(),
        "tool_path": [{"name": "unix:ann", "kind": "human", "how": "observed"}],
    });
    if let (Some(more), Value::Object(body)) = (more.as_object_mut(), body) {
        more.extend(body);
    }
    more
}

/// One body of every kind with every optional field present.
#[expect(clippy::too_many_lines, reason = "one list, an entry for each kind")]
fn bodies() -> Vec<(&'static str, Value)> {
    vec![
        ("node.started", json!({"version": "1", "dangers": ["x"], "assurance": "kernel-lsm"})),
        ("node.stopped", json!({"cut": 1})),
        ("evidence.dropped", json!({"count": 3})),
        ("evidence.recovered", json!({"replayed": 3, "cut": 1, "abandoned": 2})),
        ("config.loaded", json!({"uid": 0, "policy_digest": "00", "config_digest": "11"})),
        ("config.refused", json!({"uid": 0, "problems": 2})),
        ("secret.set", json!({"uid": 0, "name": "token"})),
        ("secret.removed", json!({"uid": 0, "name": "token"})),
        (
            "session.opened",
            json!({"uid": 1, "script": {"sha256": "00", "path": "/x.py", "how": "inferred"}, "purpose": "p",
            "process": process(), "login_uid": 1, "dangers": ["without_namespaces"],
            "expires_us": 9, "exe_sha256": "00", "exe": "/bin/x", "audit_session": 4,
            "assurance": "kernel", "actor": actor(), "acts_for": "starter", "display": "Ann",
            "grants": [["forge:a:read"]], "groups": ["unix:dev"], "parents": [ID]}),
        ),
        (
            "session.joined",
            json!({"groups": ["x"], "expires_us": 9, "display": "Ann", "below": ID, "actor": actor()}),
        ),
        ("session.ended", json!({"cause": "exited", "actor": actor()})),
        ("revocation.ordered", json!({"target": "human:unix:ann", "sessions": 1, "by": "uid:0"})),
        (
            "human.signed_in",
            json!({"uid": 1, "human": "oidc:https://id.test#ann", "groups": ["x"], "display": "Ann",
            "audit_session": 4, "amr": ["pwd"]}),
        ),
        ("human.signed_out", json!({"uid": 1, "human": "oidc:https://id.test#ann", "cause": "asked"})),
        (
            "human.signal",
            json!({"jti": "1", "issuer": "https://id.test", "human": "oidc:https://id.test#ann",
            "event": "session-revoked"}),
        ),
        (
            "identity.issued",
            json!({"serial": "01", "form": "jwt-svid", "expires_us": 9, "audience": ["x"], "actor": actor()}),
        ),
        ("identity.authority", json!({"state": "active", "generation": 2, "expires_us": 9})),
        ("agent.pinned", json!({"uid": 0, "digest": "00", "agent": "coder"})),
        (
            "agent.refused",
            json!({"uid": 1, "reason": "session.no_run", "process": process(), "exe": "/bin/x", "agent": "coder"}),
        ),
        ("process.executed", json!({"process": process(), "parent": 1, "exe": "/bin/x", "actor": actor()})),
        (
            "connection.refused",
            json!({"transport": "tcp", "reason": "session.no_run", "process": process(),
            "destination": "x:1", "conn": ID, "actor": actor()}),
        ),
        (
            "action.refused",
            decided(json!({"reason": "policy.agent_not_permitted", "labels": ["read:untrusted"]})),
        ),
        (
            "action.intended",
            decided(json!({"observed": "policy.human_not_permitted", "terms": {
            "labels": ["read:untrusted"], "counted": [{"policy": "a", "obligation": "limit 3/min", "amount": 1}],
            "approvals": [ID], "acquired": ["read:secret"]}})),
        ),
        (
            "approval.requested",
            json!({"seal": "00", "rules": ["a: approve owner, 10m"], "request": request(), "expires_us": 9,
            "body_sha256": "00", "body_bytes": 1, "approval": ID, "actor": actor(), "action": ID}),
        ),
        (
            "approval.answered",
            json!({"settled": true, "note": "fine", "meets": ["a"], "by": "unix:bob", "approval": ID, "answer": "approved", "actor": actor()}),
        ),
        ("approval.closed", json!({"cause": "expired", "approval": ID, "actor": actor()})),
        (
            "action.closed",
            json!({"status": 200, "service": "forge", "scrubbed": 0, "actor": actor(),
            "reason": "gate.client_gone", "outcome": "completed", "operation": "forge/read", "lease": ID,
            "lease_fate": "standing", "duration_us": 5, "bytes_up": 1, "bytes_down": 2, "action": ID}),
        ),
    ]
}

/// RFC 8785 for the values that leaves have: ASCII keys, whole numbers.
fn jcs(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.iter().collect();
            keys.sort_by(|a, b| a.0.cmp(b.0));
            let fields: Vec<_> =
                keys.iter().map(|(k, v)| format!("{}:{}", Value::from(k.as_str()), jcs(v))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(jcs).collect::<Vec<_>>().join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

fn leaf(kind: &str, body: &Value, version: u32) -> String {
    json!({"v": version, "kind": kind, "seq": 3, "time_us": 4, "body": body}).to_string()
}

#[test]
fn every_event_is_written_in_its_sorted_form_and_reads_back() {
    let bodies = bodies();
    assert_eq!(bodies.iter().map(|b| b.0).collect::<Vec<_>>(), Event::KINDS, "a sample of every kind");
    for (kind, body) in bodies {
        let parsed = Leaf::decode(leaf(kind, &body, 1).as_bytes()).unwrap();
        let encoded = parsed.encode().unwrap();
        let value: Value = serde_json::from_slice(&encoded).unwrap();
        assert_eq!(String::from_utf8(encoded.clone()).unwrap(), jcs(&value), "{kind}: field order");
        assert_eq!(jcs(&value["body"]), jcs(&body), "{kind}: a field was lost, or the sample lacks one");
        assert_eq!(Leaf::decode(&encoded).unwrap(), parsed);
        assert_eq!(parsed.event.kind(), kind);
    }
}

#[test]
fn what_was_written_before_groups_were_recorded_reads_back_and_stays_as_it_was() {
    let body = json!({"expires_us": 9, "display": null, "below": ID, "actor": actor()});
    let old = leaf("session.joined", &body, 1);
    let parsed = Leaf::decode(old.as_bytes()).unwrap();
    let canonical = jcs(&serde_json::from_str(&old).unwrap());
    assert_eq!(String::from_utf8(parsed.encode().unwrap()).unwrap(), canonical);
}

#[test]
fn what_a_newer_version_wrote_is_refused() {
    let body = json!({"cut": 1});
    assert!(matches!(Leaf::decode(leaf("node.slept", &body, 1).as_bytes()), Err(LeafError::Kind(_))));
    let newer = Leaf::decode(leaf("node.stopped", &body, 2).as_bytes());
    assert!(matches!(newer, Err(LeafError::Version(2))));
    let extra = json!({"cut": 1, "more": 1});
    assert!(matches!(Leaf::decode(leaf("node.stopped", &extra, 1).as_bytes()), Err(LeafError::Malformed(_))));
    for bytes in [&b""[..], b"{", b"[]", b"\xff", b"{\"v\":1}"] {
        assert!(Leaf::decode(bytes).is_err());
    }
}
