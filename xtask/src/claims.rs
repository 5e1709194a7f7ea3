//! Pages that name a test as proof: each of these tests must be there.
//!
//! A claim is `crate::file test_name` in backticks, where `file` is the stem of a file below the crate (`bypass` for
//! `tests/bypass/main.rs`). Whether the test proves what the page says, only a reader can tell.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::tidy;

/// The pages that make claims.
const PAGES: [&str; 2] = ["ARCHITECTURE.md", "docs/traps.md"];

/// The claims without a test, one line each.
pub(crate) fn unfounded(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for page in PAGES {
        let text = fs::read_to_string(root.join(page))?;
        let claims = claims(&text);
        anyhow::ensure!(!claims.is_empty(), "{page}: names no test at all");
        for (place, test) in claims {
            if !exists(root, place, test)? {
                found.push(format!("{page}: there is no test `{place} {test}`"));
            }
        }
    }
    Ok(found)
}

fn claims(text: &str) -> BTreeSet<(&str, &str)> {
    let quoted = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    quoted.filter_map(|quote| quote.split_once(' ')).filter(|(place, test)| is_claim(place, test)).collect()
}

fn is_claim(place: &str, test: &str) -> bool {
    let of = |extra: &'static str| {
        move |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || extra.contains(c)
    };
    place.starts_with("writ")
        && place.contains("::")
        && place.chars().all(of("-_:"))
        && test.chars().all(of("_"))
}

fn exists(root: &Path, place: &str, test: &str) -> Result<bool> {
    let Some((name, file)) = place.split_once("::") else { return Ok(false) };
    let folder = if name == "writ-e2e" { root.join("tests/e2e") } else { root.join("crates").join(name) };
    let stem = file.rsplit("::").next().unwrap_or(file);
    let needle = format!("fn {test}(");
    for path in tidy::rust_files_below(vec![folder])? {
        if stem_of(&path).is_some_and(|s| s == stem) && fs::read_to_string(&path)?.contains(&needle) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A test in several files is known by its folder.
fn stem_of(path: &Path) -> Option<&OsStr> {
    let stem = path.file_stem()?;
    if stem == "main" { path.parent()?.file_name() } else { Some(stem) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_found_and_other_code_is_not() {
        let text = "see `writ-core::id a_tag_is_never_zero` and `writ run --agent x` and `Gate::action`";
        assert_eq!(claims(text), BTreeSet::from([("writ-core::id", "a_tag_is_never_zero")]));
    }

    #[test]
    fn a_test_that_is_not_there_is_noticed() {
        let root = crate::root();
        assert!(exists(&root, "writ-core::id", "a_tag_is_never_zero").unwrap());
        assert!(!exists(&root, "writ-core::id", "a_tag_is_sometimes_zero").unwrap());
        assert!(!exists(&root, "writ-core::units", "a_tag_is_never_zero").unwrap());
    }
}
