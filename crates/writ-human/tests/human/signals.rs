//! Shared Signals, pushed and polled.

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};
use serde_json::{Value, json};
use writ_core::Clock;
use writ_human::{Action, Event, Refusal};

use crate::support::{Node, Provider, owner, run};

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";
const TRANSMITTER: &str = "https://ssf.example";

struct Bench {
    provider: Provider,
    node: Node,
}

impl Bench {
    async fn push() -> Self {
        let provider = Provider::start();
        let node = Node::open(&format!(
            "{}audiences = [\"api\"]\n[human.issuer.signals]\nissuer = \"{TRANSMITTER}\"\njwks = \"{}/jwks\"\n\
             audience = \"writ-node\"\ntoken = \"ssf\"\n",
            provider.configured(""),
            provider.url
        ))
        .await;
        Self { provider, node }
    }

    async fn poll() -> Self {
        let provider = Provider::start();
        let node = Node::open(&format!(
            "{}[human.issuer.signals]\nissuer = \"{TRANSMITTER}\"\njwks = \"{}/jwks\"\naudience = \"writ-node\"\n\
             deliver = \"poll\"\nendpoint = \"{}/test/poll\"\ntoken = \"ssf\"\n",
            provider.configured(""),
            provider.url,
            provider.url
        ))
        .await;
        Self { provider, node }
    }

    fn claims(&self, id: &str, event: &str, content: &Value, subject: &Value) -> Value {
        let now = self.node.clock.now().seconds();
        json!({
            "iss": TRANSMITTER, "aud": "writ-node", "iat": now, "jti": id, "sub_id": subject,
            "events": { event: content },
        })
    }

    fn alice(&self) -> Value {
        json!({ "format": "iss_sub", "iss": self.provider.url, "sub": "alice" })
    }

    async fn set(&self, claims: Value) -> String {
        self.provider.sign("RS256", json!({ "typ": "secevent+jwt" }), claims).await
    }

    async fn pushed(&self, token: &str) -> Response<Vec<u8>> {
        self.node.people.signals().push(&headers("Bearer a-bearer-token"), token.as_bytes()).await
    }

    /// Pushes and wants this error code of RFC 8935.
    async fn refuses(&self, token: &str, code: &str) {
        let answer = self.pushed(token).await;
        assert_eq!(answer.status(), 400, "{code}");
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(body["err"], code, "{body}");
        assert!(body["description"].is_string() && answer.headers()["content-language"] == "en");
    }
}

fn headers(authorization: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/secevent+jwt"));
    headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap());
    headers
}

#[test]
fn a_revoked_session_ends_the_human_everywhere_before_the_answer() {
    run(async {
        let bench = Bench::push().await;
        for (uid, user) in [(1000, "alice"), (1001, "bob"), (1002, "alice")] {
            bench.node.sign_in(&bench.provider, user, owner(uid, 7)).await;
        }
        let content = json!({ "event_timestamp": 1_700_000_000 });
        let token =
            bench.set(bench.claims("1", &format!("{CAEP}session-revoked"), &content, &bench.alice())).await;
        let answer = bench.pushed(&token).await;
        assert_eq!((answer.status().as_u16(), answer.body().len()), (202, 0));
        assert!(
            bench.node.people.who(1000, Some(7)).is_none() && bench.node.people.who(1002, Some(7)).is_none()
        );
        assert!(bench.node.people.who(1001, Some(7)).is_some());
        assert!(bench.node.record(1000, 7).is_none() && bench.node.record(1001, 7).is_some());
        let mut ended = bench.node.ended();
        assert_eq!(ended.pop(), Some((None, "signalled")));
        assert_eq!(ended.len(), 2);
        let signals = bench.node.told.signals.lock().unwrap();
        assert_eq!(
            (signals.len(), signals[0].event.clone(), signals[0].action),
            (1, Event::SessionRevoked, Action::End)
        );
        assert_eq!(signals[0].at.seconds(), 1_700_000_000);
    });
}

#[test]
fn each_event_has_its_consequence() {
    run(async {
        let bench = Bench::push().await;
        for (n, (event, content, ends)) in [
            (format!("{CAEP}session-revoked"), json!({}), true),
            (format!("{RISC}account-disabled"), json!({ "reason": "hijacking" }), true),
            (format!("{RISC}account-purged"), json!({}), true),
            (format!("{RISC}sessions-revoked"), json!({}), true),
            (
                format!("{CAEP}credential-change"),
                json!({ "credential_type": "fido2-platform", "change_type": "revoke" }),
                true,
            ),
            (
                format!("{CAEP}credential-change"),
                json!({ "credential_type": "password", "change_type": "delete" }),
                true,
            ),
            (
                format!("{CAEP}credential-change"),
                json!({ "credential_type": "password", "change_type": "create" }),
                false,
            ),
            (
                format!("{CAEP}risk-level-change"),
                json!({ "principal": "USER", "current_level": "HIGH" }),
                true,
            ),
            (format!("{CAEP}token-claims-change"), json!({ "claims": { "groups": [] } }), false),
            (format!("{CAEP}assurance-level-change"), json!({ "current_level": "nist-aal1" }), false),
            (format!("{CAEP}session-presented"), json!({}), false),
            (format!("{RISC}account-enabled"), json!({}), false),
            ("https://example.com/unheard-of".to_owned(), json!({}), false),
        ]
        .into_iter()
        .enumerate()
        {
            let uid = u32::try_from(n).unwrap();
            bench.node.sign_in(&bench.provider, "alice", owner(uid, 7)).await;
            let token = bench.set(bench.claims(&n.to_string(), &event, &content, &bench.alice())).await;
            assert_eq!(bench.pushed(&token).await.status(), 202, "{event}");
            assert_eq!(bench.node.people.who(uid, Some(7)).is_none(), ends, "{event}");
        }
    });
}

#[test]
fn changed_claims_are_asked_for_and_decided_by() {
    run(async {
        let bench = Bench::push().await;
        bench.node.sign_in(&bench.provider, "alice", owner(1000, 7)).await;
        bench.provider.ask("account", json!({ "name": "alice", "groups": [] })).await;
        let event = format!("{CAEP}token-claims-change");
        let token = bench.set(bench.claims("1", &event, &json!({ "claims": {} }), &bench.alice())).await;
        assert_eq!(bench.pushed(&token).await.status(), 202);
        assert!(bench.node.people.who(1000, Some(7)).unwrap().groups.is_empty());
        assert_eq!(bench.node.told.changed.lock().unwrap().len(), 1);
    });
}

#[test]
fn a_human_is_matched_in_each_form_and_only_at_the_transmitters_issuer() {
    run(async {
        let bench = Bench::push().await;
        let event = format!("{CAEP}session-revoked");
        let alice = bench.alice();
        for (n, subject) in [
            alice.clone(),
            json!({ "format": "email", "email": "Alice@Example.com" }),
            json!({ "format": "opaque", "id": "alice" }),
            json!({ "format": "complex", "user": alice, "session": { "format": "opaque", "id": "s" } }),
            json!({ "user": alice }),
        ]
        .into_iter()
        .enumerate()
        {
            bench.node.sign_in(&bench.provider, "alice", owner(1000, 7)).await;
            let token = bench.set(bench.claims(&format!("yes-{n}"), &event, &json!({}), &subject)).await;
            assert_eq!(bench.pushed(&token).await.status(), 202);
            assert!(bench.node.people.who(1000, Some(7)).is_none(), "{subject}");
        }
        bench.node.sign_in(&bench.provider, "alice", owner(1000, 7)).await;
        for (n, subject) in [
            json!({ "format": "iss_sub", "iss": "https://other.example", "sub": "alice" }),
            json!({ "format": "email", "email": "bob@example.com" }),
            json!({ "format": "complex", "device": { "format": "opaque", "id": "alice" } }),
            json!({}),
        ]
        .into_iter()
        .enumerate()
        {
            let token = bench.set(bench.claims(&format!("no-{n}"), &event, &json!({}), &subject)).await;
            assert_eq!(bench.pushed(&token).await.status(), 202);
            assert!(bench.node.people.who(1000, Some(7)).is_some(), "{subject}");
        }
    });
}

#[test]
fn a_caller_who_never_signed_in_is_ended_by_address_too() {
    run(async {
        let bench = Bench::push().await;
        let now = bench.node.clock.now().seconds();
        let claims = json!({
            "iss": bench.provider.url, "sub": "carol", "aud": "api", "iat": now, "exp": now + 600,
            "email": "carol@example.com",
        });
        let token = bench.provider.sign("RS256", json!({}), claims).await;
        let callers = bench.node.people.callers();
        let human = callers.verify(&token, "api").await.unwrap().human;
        let subject = json!({ "format": "email", "email": "carol@example.com" });
        let set =
            bench.set(bench.claims("1", &format!("{RISC}account-disabled"), &json!({}), &subject)).await;
        assert_eq!(bench.pushed(&set).await.status(), 202);
        let ended = bench.node.told.ended.lock().unwrap().clone();
        assert_eq!((ended.len(), &ended[0].human, ended[0].owner), (1, &human, None));
        assert_eq!(callers.verify(&token, "api").await.unwrap_err().refusal(), Some(Refusal::Revoked));
    });
}

#[test]
fn the_stream_is_verified_and_unknown_events_are_taken() {
    run(async {
        let bench = Bench::push().await;
        let stream = json!({ "format": "opaque", "id": "stream-1" });
        let event = format!("{SSF}verification");
        let token = bench.set(bench.claims("1", &event, &json!({ "state": "abc" }), &stream)).await;
        assert_eq!(bench.pushed(&token).await.status(), 202);
        assert_eq!(bench.node.told.signals.lock().unwrap()[0].event, Event::Verification);
        assert!(bench.node.ended().is_empty());
    });
}

#[test]
fn what_is_wrong_with_a_pushed_event_is_said_in_the_standards_words() {
    run(async {
        let bench = Bench::push().await;
        bench.node.sign_in(&bench.provider, "alice", owner(1000, 7)).await;
        let good = bench.claims("1", &format!("{CAEP}session-revoked"), &json!({}), &bench.alice());
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value;
            }
            claims
        };
        let now = bench.node.clock.now().seconds();
        for (claims, code) in [
            (with("iss", json!("https://evil.example")), "invalid_issuer"),
            (with("aud", json!("another")), "invalid_audience"),
            (with("aud", Value::Null), "invalid_request"),
            (with("jti", Value::Null), "invalid_request"),
            (with("iat", Value::Null), "invalid_request"),
            (with("iat", json!(now + 600)), "invalid_request"),
            (with("iat", json!(now - 8 * 86_400)), "invalid_request"),
            (with("events", Value::Null), "invalid_request"),
            (with("events", json!({})), "invalid_request"),
            (with("exp", json!(now + 600)), "invalid_request"),
            (with("sub", json!("alice")), "invalid_request"),
        ] {
            bench.refuses(&bench.set(claims).await, code).await;
        }
        // A token of another kind by the same keys: an ID token that looks like an event.
        for header in [json!({}), json!({ "typ": "JWT" }), json!({ "typ": "at+jwt" })] {
            let token = bench.provider.sign("RS256", header, good.clone()).await;
            bench.refuses(&token, "invalid_request").await;
        }
        // Algorithms that the profile does not have, and a key that is not the transmitter's.
        let kind = json!({ "typ": "secevent+jwt" });
        bench.node.clock.advance(Duration::from_secs(11));
        for key in ["PS256", "ES384", "Ed25519", "spare"] {
            let token = bench.provider.sign(key, kind.clone(), good.clone()).await;
            bench.refuses(&token, "invalid_key").await;
        }
        bench.refuses("not a token", "invalid_request").await;
        let mut plain = headers("Bearer a-bearer-token");
        plain.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let token = bench.set(good.clone()).await;
        assert_eq!(bench.node.people.signals().push(&plain, token.as_bytes()).await.status(), 400);
        assert!(bench.node.people.who(1000, Some(7)).is_some());
        // ES256 is taken beside RS256.
        let token = bench.provider.sign("ES256", kind, good).await;
        assert_eq!(bench.pushed(&token).await.status(), 202);
        assert!(bench.node.people.who(1000, Some(7)).is_none());
    });
}

#[test]
fn a_transmitter_without_its_token_is_not_heard() {
    run(async {
        let bench = Bench::push().await;
        bench.node.sign_in(&bench.provider, "alice", owner(1000, 7)).await;
        let event = format!("{CAEP}session-revoked");
        let token = bench.set(bench.claims("1", &event, &json!({}), &bench.alice())).await;
        for shown in ["Bearer another-token", "Basic a-bearer-token", "Bearer ", "Bearer a-bearer-token2"] {
            let answer = bench.node.people.signals().push(&headers(shown), token.as_bytes()).await;
            assert_eq!(answer.status(), 401, "{shown}");
            assert!(String::from_utf8_lossy(answer.body()).contains("authentication_failed"));
        }
        assert!(bench.node.people.who(1000, Some(7)).is_some());
        assert_eq!(bench.provider.count("/jwks").await, 1, "only the login asked for keys");
    });
}

#[test]
fn a_replayed_event_changes_nothing() {
    run(async {
        let bench = Bench::push().await;
        let event = format!("{CAEP}session-revoked");
        bench.node.sign_in(&bench.provider, "alice", owner(1000, 7)).await;
        let token = bench.set(bench.claims("1", &event, &json!({}), &bench.alice())).await;
        assert_eq!(bench.pushed(&token).await.status(), 202);
        bench.node.sign_in(&bench.provider, "alice", owner(1000, 7)).await;
        // The transmitter may send it again and is told that all is well; nothing follows.
        assert_eq!(bench.pushed(&token).await.status(), 202);
        assert!(bench.node.people.who(1000, Some(7)).is_some());
        assert_eq!(bench.node.told.signals.lock().unwrap().len(), 1);
    });
}

#[test]
fn what_is_not_durable_is_sent_again() {
    run(async {
        let bench = Bench::push().await;
        bench.node.sign_in(&bench.provider, "alice", owner(1000, 7)).await;
        let event = format!("{RISC}account-disabled");
        let token = bench.set(bench.claims("1", &event, &json!({}), &bench.alice())).await;
        bench.node.files.broken.store(1, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(bench.pushed(&token).await.status(), 503);
        assert!(bench.node.people.who(1000, Some(7)).is_none(), "cut all the same");
        bench.node.files.broken.store(0, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(bench.pushed(&token).await.status(), 202);
        assert!(bench.node.files.read("human-cuts").unwrap().contains("#alice"));
    });
}

#[test]
fn polled_events_are_taken_and_acknowledged() {
    run(async {
        let bench = Bench::poll().await;
        bench.node.sign_in(&bench.provider, "alice", owner(1000, 7)).await;
        bench.node.sign_in(&bench.provider, "bob", owner(1001, 7)).await;
        let event = format!("{CAEP}session-revoked");
        let good = bench.set(bench.claims("good", &event, &json!({}), &bench.alice())).await;
        let mut claims = bench.claims("bad", &event, &json!({}), &json!({ "format": "opaque", "id": "bob" }));
        claims["aud"] = json!("another");
        let bad = bench.set(claims).await;
        bench.provider.ask("queue", json!({ "sets": { "good": good, "bad": bad } })).await;
        assert_eq!(bench.node.people.signals().poll_once().await.unwrap(), 2);
        assert!(
            bench.node.people.who(1000, Some(7)).is_none() && bench.node.people.who(1001, Some(7)).is_some()
        );
        let queued = bench.provider.ask("queued", json!({})).await;
        assert_eq!((&queued["acks"], &queued["sets"]), (&json!(["good"]), &json!({})));
        assert_eq!(queued["errors"]["bad"]["err"], "invalid_audience");
        assert!(queued["asked"].as_array().unwrap().iter().all(|shown| shown == "Bearer a-bearer-token"));
        // A transmitter that is polled does not push.
        let again = bench.set(bench.claims("2", &event, &json!({}), &bench.alice())).await;
        bench.refuses(&again, "invalid_issuer").await;
        assert!(!bench.node.people.signals().takes_push());
    });
}

#[test]
fn the_daemons_task_polls_by_itself() {
    run(async {
        let bench = Bench::poll().await;
        bench.node.sign_in(&bench.provider, "alice", owner(1000, 7)).await;
        let event = format!("{CAEP}session-revoked");
        let token = bench.set(bench.claims("1", &event, &json!({}), &bench.alice())).await;
        bench.provider.ask("queue", json!({ "sets": { "1": token } })).await;
        let gone = async {
            while bench.node.people.who(1000, Some(7)).is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = bench.node.people.tend() => panic!("it ended"),
            () = gone => {}
        }
        assert_eq!(bench.node.ended().len(), 2);
    });
}

#[test]
fn an_event_signed_with_a_key_that_is_newer_than_those_known_is_sent_again() {
    run(async {
        let bench = Bench::push().await;
        bench.node.sign_in(&bench.provider, "alice", owner(1000, 7)).await;
        let event = format!("{CAEP}session-presented");
        let first = bench.set(bench.claims("1", &event, &json!({}), &bench.alice())).await;
        assert_eq!(bench.pushed(&first).await.status(), 202);
        // The transmitter rotates at once after its keys were fetched.
        bench.provider.ask("publish", json!({ "key": "spare" })).await;
        let revoked = bench.claims("2", &format!("{CAEP}session-revoked"), &json!({}), &bench.alice());
        let kind = json!({ "typ": "secevent+jwt" });
        let second = bench.provider.sign("spare", kind, revoked).await;
        assert_eq!(bench.pushed(&second).await.status(), 503);
        bench.node.clock.advance(Duration::from_secs(11));
        assert_eq!(bench.pushed(&second).await.status(), 202);
        assert!(bench.node.people.who(1000, Some(7)).is_none());
    });
}

#[test]
#[ignore = "measures"]
fn measure_from_push_to_the_end_and_one_caller() {
    run(async {
        let bench = Bench::push().await;
        let now = bench.node.clock.now().seconds();
        let claims =
            json!({ "iss": bench.provider.url, "sub": "bob", "aud": "api", "iat": now, "exp": now + 600 });
        let token = bench.provider.sign("RS256", json!({}), claims).await;
        bench.node.people.callers().verify(&token, "api").await.unwrap();
        let since = |start: Duration| bench.node.clock.monotonic().saturating_sub(start);
        let start = bench.node.clock.monotonic();
        for _ in 0..2000 {
            bench.node.people.callers().verify(&token, "api").await.unwrap();
        }
        println!("one caller: {:?}", since(start) / 2000);
        let mut spent = Vec::new();
        for n in 0..20 {
            bench.node.sign_in(&bench.provider, "alice", owner(1000, 7)).await;
            let event = format!("{CAEP}session-revoked");
            let set = bench.set(bench.claims(&n.to_string(), &event, &json!({}), &bench.alice())).await;
            let start = bench.node.clock.monotonic();
            let pushed = bench.pushed(&set);
            let gone = async {
                while bench.node.people.who(1000, Some(7)).is_some() {
                    tokio::task::yield_now().await;
                }
                since(start)
            };
            let (_, cut) = tokio::join!(pushed, gone);
            spent.push((cut, since(start)));
        }
        spent.sort();
        println!("cut, answered (median): {:?}; (worst): {:?}", spent[10], spent[19]);
    });
}
