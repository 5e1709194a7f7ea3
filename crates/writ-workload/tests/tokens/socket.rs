//! On the Workload API's socket the kernel says who asks.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use writ_core::Clock;
use writ_workload::{Entitled, Parts, Server, Workloads};

use crate::site::{Answer, Fields, Me, Site, claims, human_id, run, run_id, with};

/// Sends a form to the socket, by HTTP/2 as the Workload API speaks it.
async fn send(site: &Site, path: &str, fields: &Fields, extra: &[&str]) -> Answer {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "30", "-D", "-", "--http2-prior-knowledge", "--unix-socket"]);
    command.arg(site.folder.path().join("workload.sock")).args(extra);
    for (name, value) in fields {
        command.arg("--data-urlencode").arg(format!("{name}={value}"));
    }
    command.arg(format!("http://localhost{path}"));
    run(command).await
}

#[tokio::test]
async fn a_process_exchanges_without_showing_who_it_is() {
    let (site, session) = Site::with_alice().await;
    let (one, ended) = (run_id("coder", 1), CancellationToken::new());
    let expires = site.clock.now().plus(Duration::from_mins(1));
    let me = Entitled { spiffe_id: one.clone(), ended: ended.clone(), expires, hint: String::new() };
    let me = Arc::new(Me(watch::Sender::new(vec![me].into())));
    let parts = Parts { workloads: Arc::clone(&me) as Arc<dyn Workloads>, ..site.parts.clone() };
    let server = Server::bind(&site.folder.path().join("workload.sock")).unwrap();
    let server = server.with_tokens(Arc::clone(&site.tokens));
    let _serving = tokio::spawn(server.serve(parts, site.stop.clone()));
    let meant = ["-H", "workload.spiffe.io: true"];
    let bare = with(with(site.fields(), "actor_token", ""), "actor_token_type", "");
    let token = send(&site, "/token", &bare, &meant).await.token();
    let claims = claims(&token);
    assert_eq!(
        (&claims["sub"], &claims["client_id"]),
        (&json!(human_id("alice").as_str()), &json!(one.as_str()))
    );
    assert!(claims["exp"].as_u64().unwrap() <= expires.seconds());
    assert_eq!(site.log.issued()[0].actor, session.actor());
    let asked = send(&site, "/introspect", &vec![("token", token)], &meant).await;
    assert_eq!(asked.body["active"], true);
    // It cannot be another run by showing that one's token, and nobody is tricked into asking.
    let other = site.exchange(&site.people.token("alice"), &run_id("coder", 2));
    send(&site, "/token", &other, &meant).await.is_refused("another run", 400, "invalid_grant", &other);
    send(&site, "/token", &bare, &[]).await.is_refused("not meant", 400, "invalid_request", &bare);
    ended.cancel();
    send(&site, "/token", &bare, &meant).await.is_refused("ended", 401, "invalid_client", &bare);
}
