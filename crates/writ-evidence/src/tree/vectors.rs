//! Proof vectors of the transparency-dev Merkle library (Apache-2.0), valid and broken.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::Value;

use super::{Growth, Hash, leaf_hash, verify_consistency, verify_inclusion};

fn files(folder: &str) -> Vec<PathBuf> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/merkle/testdata").join(folder);
    let (mut waiting, mut found) = (vec![root], Vec::new());
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { waiting.push(path) } else { found.push(path) }
        }
    }
    if found.is_empty() {
        println!("skipped: no vectors at `../shared/data/merkle` beside the repository");
    }
    found
}

/// Some vectors say `don't care` where a root stands: any hash does, the same for the same words.
fn hash(value: &Value) -> Option<Hash> {
    let text = value.as_str().unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    if bytes.starts_with(b"don't care") { Some(leaf_hash(&bytes)) } else { bytes.try_into().ok() }
}

fn hashes(value: &Value) -> Option<Vec<Hash>> {
    value.as_array().map_or(Some(Vec::new()), |list| list.iter().map(hash).collect())
}

fn check(folder: &str, verify: impl Fn(&Value) -> Option<bool>) {
    let files = files(folder);
    assert!(files.is_empty() || files.len() > 90, "{} vectors", files.len());
    for path in files {
        let vector: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let good = verify(&vector).unwrap_or(false);
        assert_eq!(good, vector["wantErr"] == false, "{}: {}", path.display(), vector["desc"]);
    }
}

#[test]
fn inclusion() {
    check("inclusion", |vector| {
        let (leaf, root) = (hash(&vector["leafHash"])?, hash(&vector["root"])?);
        let (index, size) = (vector["leafIdx"].as_u64()?, vector["treeSize"].as_u64()?);
        Some(verify_inclusion(&leaf, index, size, &hashes(&vector["proof"])?, &root).is_ok())
    });
}

#[test]
fn consistency() {
    check("consistency", |vector| {
        let growth = Growth {
            old_size: vector["size1"].as_u64()?,
            new_size: vector["size2"].as_u64()?,
            old_root: &hash(&vector["root1"])?,
            new_root: &hash(&vector["root2"])?,
        };
        Some(verify_consistency(growth, &hashes(&vector["proof"])?).is_ok())
    });
}
