//! The trap row "selectors, tokens or bodies in logs": never.

use std::io::Write;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tonic::Code;
use tracing_subscriber::fmt::MakeWriter;
use writ_workload::proto::{JwtsvidRequest, ValidateJwtsvidRequest, WitsvidRequest, X509svidRequest};

use crate::world::{World, entitled, meant, now, settings, soon};

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Kept {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Everything is logged, at the finest level, also by the libraries; and none of it is what was handed out or sent in.
#[tokio::test]
async fn tokens_and_keys_are_never_logged() {
    let kept = Kept::default();
    let filter = "trace,h2=info,hyper=trace,tonic=trace";
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(kept.clone()).init();
    let world = World::with(settings("[identity]\nwit = true\n")).await;
    let mut identity = entitled("coder", 1);
    identity.hint = "hint-of-the-operator".into();
    let ended = identity.ended.clone();
    world.processes.entitle(std::process::id(), &[identity]);
    let mut client = world.raw().await;
    let mut secrets = Vec::new();
    let mut svids = client.fetch_x509svid(meant(X509svidRequest {})).await.unwrap().into_inner();
    let message = soon("svids", svids.message()).await.unwrap().unwrap();
    let key = &message.svids[0].x509_svid_key;
    secrets.push(STANDARD.encode(key));
    secrets.push(
        key.iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|n| char::from_digit(n.into(), 16).unwrap())
            .collect(),
    );
    secrets.push(format!("{:?}", key.to_vec()).trim_matches(['[', ']']).to_owned());
    assert_eq!(format!("{:?}", message.svids[0]), "X509svid(..)");
    let ask = JwtsvidRequest { audience: vec!["secret-audience".into()], spiffe_id: String::new() };
    let token = client.fetch_jwtsvid(meant(ask)).await.unwrap().into_inner().svids[0].svid.clone();
    let mut wits = client.fetch_witsvid(meant(WitsvidRequest::default())).await.unwrap().into_inner();
    let wit = soon("wits", wits.message()).await.unwrap().unwrap().svids[0].clone();
    // Refusals are where others wrote what they should not.
    let check = ValidateJwtsvidRequest { audience: "other".into(), svid: token.clone() };
    let refused = client.validate_jwtsvid(meant(check)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    world.authority.replace(now()).await.unwrap();
    soon("the rotation", svids.message()).await.unwrap().unwrap();
    ended.cancel();
    assert!(soon("the end", svids.message()).await.is_err());
    secrets.extend(token.split('.').map(str::to_owned));
    secrets.extend(wit.wit_svid.split('.').map(str::to_owned));
    secrets.extend([wit.wit_svid_key, "secret-audience".into(), "hint-of-the-operator".into()]);
    let log = String::from_utf8_lossy(&kept.0.lock().unwrap()).into_owned();
    assert!(log.len() > 1_000, "something was logged");
    for secret in secrets.iter().filter(|secret| secret.len() > 8) {
        let shown = secret.get(..12).unwrap();
        assert!(!log.contains(secret.as_str()), "`{shown}...` was logged");
    }
}
