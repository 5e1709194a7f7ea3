//! Two governed runs that call each other, with real identities of a real authority; neither knows of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};
use serde_json::{Map, Value, json};
use writ_core::config::{self, Problems};
use writ_core::event::Event;
use writ_core::serve::ServeTls;
use writ_core::service::AgentPeer;
use writ_core::{
    AgentName, Clock, HumanId, Protocol, Reason, Secret, Serve, SpiffeId, Timestamp, TrustDomain,
};
use writ_gate::{Caller, Parent, Session, Vouch};
use writ_host::{SystemClock, SystemIds};
use writ_identity::mtls::{self, Presented, Verifier};
use writ_identity::{Authority, KEYS, Keep, KeepError, Surroundings, validate};
use writ_proxy::{Identities, Svids};

use crate::service_agent::{ServiceAgent, empty, human, mirror, serve};
use crate::world::{HOST, service};

const TYP: &str = "writ-call+jwt";

#[derive(Debug, Default)]
struct Memory(Mutex<HashMap<String, Vec<u8>>>);

impl Keep for Memory {
    fn load(&self, name: &str) -> Result<Option<Secret<[u8]>>, KeepError> {
        Ok(self.0.lock().unwrap().get(name).cloned().map(Secret::<[u8]>::new).transpose()?)
    }

    fn store(&self, name: &str, value: &[u8]) -> Result<(), KeepError> {
        self.0.lock().unwrap().insert(name.to_owned(), value.to_vec());
        Ok(())
    }
}

/// What a daemon makes of its trust domain's authority.
struct Node(Authority);

impl Node {
    async fn open() -> Arc<Self> {
        let domain = TrustDomain::new("writ.test").unwrap();
        let mut problems = Problems::default();
        let settings = config::read("writd.toml", "", KEYS, &mut problems, |table| {
            writ_identity::settings(table, &domain)
        });
        let surroundings = Surroundings {
            keep: Arc::new(Memory::default()),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds::default()),
        };
        let authority = Authority::open(domain, settings.unwrap(), surroundings).await.unwrap();
        authority.tick(SystemClock.now()).await.unwrap();
        Arc::new(Self(authority))
    }

    fn identities(self: &Arc<Self>) -> Identities {
        Identities { svids: self.clone(), vouch: self.clone() }
    }

    fn presented(&self, session: &Session) -> Arc<Presented> {
        let svid = self.0.issuer().x509(&session.facts().spiffe_id, session.expires()).unwrap();
        let presented = Arc::new(Presented::default());
        presented.set(&svid).unwrap();
        presented
    }

    fn verifier(&self, admit: impl Fn(&SpiffeId) -> bool + Send + Sync + 'static) -> Verifier {
        let bundles = self.0.bundles();
        Verifier::new(Arc::new(move || bundles.borrow().clone()), Arc::new(SystemClock), Arc::new(admit))
    }
}

impl Svids for Node {
    fn client(&self, session: &Session, peer: &AgentPeer) -> Result<Arc<ClientConfig>, Reason> {
        let (peer, own) = (peer.clone(), session.facts().spiffe_id.trust_domain().to_owned());
        let verifier = self.verifier(move |id| peer.is(id, &own));
        mtls::client(self.presented(session), verifier).map(Arc::new).map_err(|_| Reason::UpstreamTls)
    }

    fn server(&self, session: &Session, _anyone: bool) -> Result<Arc<ServerConfig>, Reason> {
        mtls::server(self.presented(session), self.verifier(|_| true))
            .map(Arc::new)
            .map_err(|_| Reason::NoServer)
    }

    fn peer(&self, chain: &[CertificateDer<'_>]) -> Option<SpiffeId> {
        mtls::peer(chain).ok()
    }
}

impl Vouch for Node {
    fn vouch(&self, session: &Session, to: &AgentPeer) -> Result<String, Reason> {
        let facts = session.facts();
        let own = Parent {
            agent: facts.agent.clone(),
            run: facts.run,
            session: facts.id,
            spiffe_id: facts.spiffe_id.clone(),
        };
        let parents: Vec<_> = facts.delegation.parents.iter().cloned().chain([own]).collect();
        let claims = json!({
            "sub": facts.human.id.as_str(),
            "name": facts.human.display,
            "groups": facts.human.groups,
            "parents": parents,
            "to": to.to_string(),
            "until": session.expires().seconds(),
            "exp": SystemClock.now().seconds() + 60,
        });
        let Value::Object(claims) = claims else { return Err(Reason::BrokerFailed) };
        self.0
            .issuer()
            .sign(TYP, &claims)
            .map(|token| token.expose().to_owned())
            .map_err(|_| Reason::BrokerFailed)
    }

    fn believe(&self, said: &str, from: &SpiffeId, to: &Session) -> Result<Caller, Reason> {
        let bundles = self.0.bundles().borrow().clone();
        let bundle = bundles.get(from.trust_domain()).ok_or(Reason::CallerRefused)?;
        let believed =
            validate::token(said, TYP, bundle, SystemClock.now()).map_err(|_| Reason::CallerRefused)?;
        caller(&believed.claims, from, to).ok_or(Reason::CallerRefused)
    }
}

fn caller(claims: &Map<String, Value>, from: &SpiffeId, to: &Session) -> Option<Caller> {
    let meant: AgentPeer = claims.get("to")?.as_str()?.parse().ok()?;
    let parents: Vec<Parent> = serde_json::from_value(claims.get("parents")?.clone()).ok()?;
    let bound = meant.is(&to.facts().spiffe_id, from.trust_domain()) && parents.last()?.spiffe_id == *from;
    bound.then_some(Caller {
        human: HumanId::new(claims.get("sub")?.as_str()?).ok()?,
        display: claims.get("name")?.as_str().map(str::to_owned),
        groups: serde_json::from_value(claims.get("groups")?.clone()).ok()?,
        expires: Timestamp::from_micros(claims.get("until")?.as_u64()? * 1_000_000),
        parents,
    })
}

/// A caller and a callee on one node: what the caller asks `api.test`, the callee's own server answers.
struct Pair {
    calling: ServiceAgent,
    called: ServiceAgent,
    door: std::net::SocketAddr,
}

async fn pair(meant: &str, let_in: &str) -> Pair {
    let node = Node::open().await;
    let mut called = ServiceAgent::new(service(Protocol::Https, "127.0.0.1:1".parse().unwrap(), None)).await;
    called.identities = Some(node.identities());
    let block =
        Serve { tls: ServeTls::Spiffe, agents: vec![let_in.parse().unwrap()], ..serve(mirror().await) };
    let door = called.door(block).await;
    let mut api = service(Protocol::Https, door, None);
    api.upstream.peer = Some(meant.parse().unwrap());
    let calling = ServiceAgent::new(api).await;
    drop(calling.world.relay.clone().with_identities(node.identities()));
    Pair { calling, called, door }
}

impl Pair {
    async fn ask(&self, name: &str) -> (u16, String) {
        let handle = self.calling.join(name).await.handle;
        let request = Request::get(format!("https://{HOST}/a"))
            .header("authorization", format!("Bearer {}", handle.as_str()))
            // No agent can say for whom it calls.
            .header("writ-caller", "forged")
            .body(empty())
            .unwrap();
        let answer = self.calling.http2().await.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&text).into_owned())
    }
}

#[tokio::test]
async fn a_run_calls_another_one_and_both_act_for_the_same_human() {
    let pair = pair("agent:tester", "agent:tester").await;
    let (status, text) = pair.ask("ann").await;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("\"authorization\": \"Bearer wrh_") && !text.contains("writ-caller"), "{text}");
    assert!(text.contains("\"host\": \"api.test\""), "{text}");
    let handle = text.split("Bearer ").nth(1).unwrap().get(..writ_gate::Handle::LENGTH).unwrap();
    let handles = [handle];
    let marks = writ_gate::Marks { handles: &handles, trace: None };
    let called = &pair.called;
    let acting = writ_gate::Identify::acting(&*called.registry, &called.world.session, &marks).unwrap();
    let facts = acting.facts();
    assert_eq!((&facts.human.id, facts.run), (&human("ann"), called.world.session.facts().run));
    let chain: Vec<_> = facts.delegation.parents.iter().map(|parent| &parent.spiffe_id).collect();
    assert_eq!(chain, [&pair.calling.world.session.facts().spiffe_id]);
    let path: Vec<_> = acting.tool_path(&[]).into_iter().map(|hop| hop.name).collect();
    assert_eq!(path[1], pair.calling.world.session.facts().run.to_string(), "{path:?}");

    // Another human over the same runs is another session, and another connection.
    let (status, _) = pair.ask("bob").await;
    assert_eq!(status, 200);
    let joined = |event: &Event| {
        let Event::SessionJoined(joined) = event else { return None };
        Some(joined.actor.human.clone())
    };
    let joined: Vec<_> = called.world.log.events().iter().filter_map(joined).collect();
    assert_eq!(joined, [human("ann"), human("bob")]);
}

#[tokio::test]
async fn an_agent_that_is_not_named_is_not_let_in_and_another_callee_is_not_believed() {
    let not_named = pair("agent:tester", "agent:planner").await;
    let (status, text) = not_named.ask("ann").await;
    assert_eq!(status, 403, "{text}");
    assert!(text.contains("caller.ungoverned"), "{text}");
    let not_meant = pair("agent:planner", "agent:tester").await;
    let (status, text) = not_meant.ask("ann").await;
    assert_eq!(status, 502, "{text}");
    assert!(text.contains("proxy.upstream_tls"), "{text}");
    for pair in [not_named, not_meant] {
        let joined = |event: &&Event| matches!(event, Event::SessionJoined(_));
        assert_eq!(pair.called.world.log.events().iter().filter(joined).count(), 0);
    }
}

#[tokio::test]
async fn an_ungoverned_peer_is_refused() {
    let pair = pair("agent:tester", "agent:tester").await;
    let output = tokio::process::Command::new("curl")
        .args(["-sSk", "--max-time", "20", "-H", "Authorization: Bearer token-ann"])
        .arg(format!("https://{}/", pair.door))
        .output()
        .await
        .unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    pair.called.world.log.refused(Reason::Ungoverned).await;
}

#[tokio::test]
async fn what_a_node_says_counts_between_these_two_runs_only_and_not_for_long() {
    let node = Node::open().await;
    let agents = [
        ServiceAgent::new(service(Protocol::Https, "127.0.0.1:1".parse().unwrap(), None)).await,
        ServiceAgent::new(service(Protocol::Https, "127.0.0.1:1".parse().unwrap(), None)).await,
    ];
    let ann = agents[0].join("ann").await.session;
    let (from, to) = (&agents[0].world.session.facts().spiffe_id, &agents[1].world.session);
    let said = node.vouch(&ann, &AgentPeer::Agent(AgentName::new("tester").unwrap())).unwrap();
    assert_eq!(node.believe(&said, from, to).unwrap().human, human("ann"));
    assert!(node.believe(&said, from, to).unwrap().expires <= ann.expires());
    assert_eq!(
        node.believe(&said, &to.facts().spiffe_id, to),
        Err(Reason::CallerRefused),
        "said by another run"
    );
    let other = node.vouch(&ann, &AgentPeer::Agent(AgentName::new("planner").unwrap())).unwrap();
    assert_eq!(node.believe(&other, from, to), Err(Reason::CallerRefused), "said to another agent");
    let elsewhere = Node::open().await;
    assert_eq!(elsewhere.believe(&said, from, to), Err(Reason::CallerRefused), "said by another node");
    assert!(Duration::from_mins(1) < ann.expires().since(SystemClock.now()));
}
