//! What `PyPI`'s `joserfc` and `pyjwt` make of the tokens, and of proofs that they make themselves.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::site::{API, DOMAIN, ISSUER, Site, human_id, parent, python, run_id};

/// One question to the script, one answer.
async fn says(question: Value) -> Option<Value> {
    let mut command = python("peers.py")?;
    let answer = tokio::task::spawn_blocking(move || {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).unwrap()
    });
    Some(answer.await.unwrap())
}

#[tokio::test]
async fn two_libraries_verify_both_forms_with_the_published_keys() {
    let site = Site::new().await;
    let mut facts = site.draft("coder", 1, "alice");
    facts.delegation.parents = vec![parent(&site.draft("planner", 2, "alice"))];
    site.live.open(&facts);
    let alice = site.people.token("alice");
    let access = site.token(&site.fields()).await.token();
    let txn = site.token(&site.transaction(&alice, &facts.spiffe_id)).await.token();
    let keys = site.curl("/idp/keys", Vec::new()).await.body;
    for (token, typ, audience) in [(access, "at+jwt", API), (txn, "txntoken+jwt", DOMAIN)] {
        let question =
            json!({ "keys": keys, "token": token, "typ": typ, "audience": audience, "issuer": ISSUER });
        let Some(found) = says(question).await else { return };
        for library in ["joserfc", "pyjwt"] {
            let found = &found[library];
            assert_eq!((&found["header"]["typ"], &found["header"]["alg"]), (&json!(typ), &json!("ES256")));
            assert!(found["header"]["kid"].is_string());
            assert_eq!(found["claims"]["sub"], human_id("alice").as_str(), "{library}");
            let chain = json!([run_id("coder", 1).as_str(), run_id("planner", 2).as_str()]);
            assert_eq!(found["actors"], chain, "{library}");
            assert_eq!(found["wrong_audience"], json!(true), "{library}");
        }
    }
}

#[tokio::test]
async fn a_proof_of_another_library_binds_a_token_to_its_key() {
    let (site, _session) = Site::with_alice().await;
    let Some(made) = says(json!({ "proof": "https://localhost/idp/token" })).await else { return };
    let header = format!("DPoP: {}", made["proof"].as_str().unwrap());
    let token = site.post("/idp/token", &site.fields(), &["-H", &header]).await.token();
    assert_eq!(crate::site::claims(&token)["cnf"]["jkt"], made["thumbprint"]);
}
