//! Cedar's corpus: policies, entities and requests that we did not write, with the answers of the verified model.
//!
//! From github.com/cedar-policy/cedar-integration-tests, Apache-2.0; a sample with a fixed seed, so that the test
//! stays short. `WRIT_CORPUS_CASES` takes another number of cases.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use cedar_policy::{Context, Decision, Entities, EntityUid, PolicyId, Request, Schema};
use serde_json::Value;

use super::equality::{indexed, plain, sliced};

const CASES: usize = 300;

/// The folder of the unpacked corpus, or nothing with the reason printed.
fn unpack(into: &Path) -> Option<PathBuf> {
    let shared = std::env::var_os("WRIT_TEST_DATA").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let archive =
        shared.unwrap_or_else(|| root.join("../../../shared/data")).join("cedar/corpus-tests.tar.gz");
    if !archive.exists() {
        println!("skipped: no corpus at {}", archive.display());
        return None;
    }
    let status = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(into).status();
    assert!(status.is_ok_and(|status| status.success()), "tar cannot read {}", archive.display());
    Some(into.to_owned())
}

#[test]
fn cedars_corpus_is_decided_as_its_model_says() {
    let folder = tempfile::tempdir().unwrap();
    let Some(root) = unpack(folder.path()) else { return };
    let mut cases: Vec<PathBuf> = std::fs::read_dir(root.join("corpus-tests"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name().is_some_and(|n| {
                let name = n.to_string_lossy();
                name.ends_with(".json") && !name.ends_with(".entities.json")
            })
        })
        .collect();
    // Names are hashes of the content: their order is a fixed shuffle.
    cases.sort();
    let wanted = std::env::var("WRIT_CORPUS_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(CASES);
    let (mut requests, mut allowed, mut failed) = (0_usize, 0_usize, 0_usize);
    for case in cases.iter().take(wanted) {
        for (decision, errors) in run(&root, case) {
            requests += 1;
            allowed += usize::from(decision == Decision::Allow);
            failed += usize::from(errors);
        }
    }
    println!("{requests} requests: {allowed} allowed, {failed} with errors");
    assert!(requests > 4 * wanted.min(cases.len()), "most cases have 8 requests");
    assert!(allowed > 0 && failed > 0, "a corpus without both decisions and errors shows nothing");
}

fn run(root: &Path, case: &Path) -> Vec<(Decision, bool)> {
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let json: Value = serde_json::from_str(&std::fs::read_to_string(case).unwrap()).unwrap();
    let set: cedar_policy::PolicySet = read(json["policies"].as_str().unwrap()).parse().unwrap();
    let (schema, _) = Schema::from_cedarschema_str(&read(json["schema"].as_str().unwrap())).unwrap();
    let entities = Entities::from_json_str(&read(json["entities"].as_str().unwrap()), Some(&schema)).unwrap();
    let (rules, index) = indexed(&set);
    let asked = json["requests"].as_array().unwrap();
    asked.iter().map(|asked| one(case, asked, &schema, &entities, (&set, &rules, &index))).collect()
}

fn one(
    case: &Path,
    asked: &Value,
    schema: &Schema,
    entities: &Entities,
    (set, rules, index): (&cedar_policy::PolicySet, &[crate::slice::Rule], &crate::index::Index),
) -> (Decision, bool) {
    let uid = |key: &str| EntityUid::from_json(asked[key].clone()).unwrap();
    let action = uid("action");
    let context = Context::from_json_value(asked["context"].clone(), Some((schema, &action))).unwrap();
    let request = Request::new(uid("principal"), action, uid("resource"), context, None).unwrap();
    let ids = |key: &str| -> BTreeSet<String> {
        asked[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| PolicyId::new(id.as_str().unwrap()).to_string())
            .collect()
    };
    let decision = if asked["decision"] == "allow" { Decision::Allow } else { Decision::Deny };
    let expected = (decision, ids("reason"), ids("errors"));
    let place = case.display();
    assert_eq!(plain(set, &request, entities), expected, "plain: {place}: {}", asked["description"]);
    assert_eq!(
        sliced(rules, index, &request, entities),
        expected,
        "sliced: {place}: {}",
        asked["description"]
    );
    (decision, !expected.2.is_empty())
}
