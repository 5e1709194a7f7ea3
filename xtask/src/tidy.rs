//! What no lint can see: the direction of dependencies, the size of files, names, module docs.
//!
//! It is a test, so it runs wherever tests run. Limits and exceptions are data, in `xtask/tidy.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

/// Type names that say nothing (STYLE.md, "Names").
const EMPTY_NAMES: [&str; 5] = ["Manager", "Helper", "Util", "Handler", "Info"];
/// What must not be left lying about.
const LEFTOVERS: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];

/// Everything that is untidy, one line each.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let rules: toml::Table = fs::read_to_string(root.join("xtask/tidy.toml"))?.parse()?;
    let mut found = Vec::new();
    for path in rust_files(root)? {
        let text = fs::read_to_string(root.join(&path))?;
        check_file(&path, &text, &rules, &mut found);
    }
    check_dependencies(root, &rules, &mut found)?;
    found.sort();
    Ok(found)
}

fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let files =
        rust_files_below(["benches", "crates", "tests", "xtask"].map(|name| root.join(name)).to_vec())?;
    files.iter().map(|path| Ok(path.strip_prefix(root)?.to_owned())).collect()
}

/// Every Rust file below these folders, in order.
pub(crate) fn rust_files_below(mut folders: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn check_file(path: &Path, text: &str, rules: &toml::Table, found: &mut Vec<String>) {
    let name = path.display();
    let mut say = |line: usize, what: String| found.push(format!("{name}:{line}: {what}"));
    if path.file_name().is_some_and(|f| f == "mod.rs") {
        say(1, "is a `mod.rs`; hint: `foo.rs` beside `foo/`".into());
    }
    if !text.starts_with("//!") {
        say(1, "has no module doc; hint: begin with `//!` and what it is".into());
    }
    let limit = integer(rules, "limits", "file_lines");
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
    let excused = table(rules, "long_files").is_some_and(|t| t.contains_key(&path.display().to_string()));
    let is_test = path.components().any(|c| c.as_os_str() == "tests");
    if lines > limit && !excused && !is_test {
        say(lines, format!("has {lines} lines without tests, more than {limit}"));
    }
    let own = path.ends_with("tidy.rs");
    for (number, line) in text.lines().enumerate() {
        if let Some(word) = LEFTOVERS.iter().find(|word| !own && has_word(line, word)) {
            say(number + 1, format!("holds `{word}`"));
        }
        if let Some(empty) =
            declared_type(line).and_then(|name| EMPTY_NAMES.iter().find(|e| name.ends_with(**e)))
        {
            say(number + 1, format!("declares a type named `...{empty}`, which says nothing"));
        }
    }
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|w| w == word)
}

fn declared_type(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().skip_while(|w| w.starts_with("pub"));
    matches!(words.next()?, "struct" | "enum" | "trait" | "type").then(|| words.next()).flatten().map(
        |name| {
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
            name.split_at_checked(end).map_or(name, |(head, _)| head)
        },
    )
}

fn check_dependencies(root: &Path, rules: &toml::Table, found: &mut Vec<String>) -> Result<()> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    anyhow::ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let members: BTreeSet<&str> = strings(&metadata, "workspace_members").collect();
    let packages = metadata.get("packages").and_then(Value::as_array).context("packages")?;

    let locked = packages.len();
    let limit = integer(rules, "limits", "locked_packages");
    if locked > limit {
        found.push(format!("Cargo.lock: {locked} packages, more than {limit}"));
    }
    let layers = layers(rules);
    let mut direct = BTreeSet::new();
    for package in packages.iter().filter(|p| text(p, "id").is_some_and(|id| members.contains(id))) {
        let Some(name) = text(package, "name") else { continue };
        let Some(layer) = layers.get(name) else {
            found.push(format!("{name}: is in no layer of xtask/tidy.toml"));
            continue;
        };
        let folder = text(package, "manifest_path").and_then(|path| Path::new(path).parent());
        let source = source_of(folder.context("manifest_path")?)?;
        for dependency in package.get("dependencies").and_then(Value::as_array).into_iter().flatten() {
            let Some(used) = text(dependency, "name") else { continue };
            if !has_word(&source, &used.replace('-', "_"))
                && !listed(rules, "unseen_uses", name).any(|u| u == used)
            {
                found.push(format!("{name}: declares {used} and does not use it"));
            }
            let Some(below) = layers.get(used) else {
                direct.insert(used.to_owned());
                continue;
            };
            let for_tests = text(dependency, "kind") == Some("dev");
            if !for_tests && below >= layer && !listed(rules, "neighbours", name).any(|n| n == used) {
                found.push(format!("{name}: uses {used}, which is not below it"));
            }
        }
    }
    let limit = integer(rules, "limits", "direct_dependencies");
    if direct.len() > limit {
        found.push(format!("Cargo.toml: {} direct dependencies, more than {limit}", direct.len()));
    }
    Ok(())
}

/// Everything that a package says in Rust.
fn source_of(folder: &Path) -> Result<String> {
    rust_files_below(vec![folder.to_owned()])?.iter().map(|path| Ok(fs::read_to_string(path)?)).collect()
}

/// Crate to the height of its layer; the file lists the lowest first, and TOML tables here keep no order, so the
/// heights are spelled out.
fn layers(rules: &toml::Table) -> BTreeMap<String, usize> {
    const ORDER: [&str; 7] = ["words", "host", "path", "engines", "plane", "programs", "beside"];
    let named = table(rules, "layers");
    let height = |layer: &&str| ORDER.iter().position(|name| name == layer).unwrap_or(0);
    ORDER
        .iter()
        .flat_map(|layer| {
            let crates =
                named.and_then(|t| t.get(*layer)).and_then(toml::Value::as_array).into_iter().flatten();
            crates.filter_map(move |name| Some((name.as_str()?.to_owned(), height(layer))))
        })
        .collect()
}

/// What a table of the rules lists for a crate.
fn listed<'a>(rules: &'a toml::Table, kind: &str, name: &str) -> impl Iterator<Item = &'a str> {
    let list = table(rules, kind).and_then(|t| t.get(name)).and_then(toml::Value::as_array);
    list.into_iter().flatten().filter_map(toml::Value::as_str)
}

fn table<'a>(rules: &'a toml::Table, name: &str) -> Option<&'a toml::Table> {
    rules.get(name).and_then(toml::Value::as_table)
}

fn integer(rules: &toml::Table, name: &str, key: &str) -> usize {
    let value = table(rules, name).and_then(|t| t.get(key)).and_then(toml::Value::as_integer);
    value.and_then(|v| usize::try_from(v).ok()).unwrap_or(0)
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

fn strings<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    value.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        let rules: toml::Table = "[limits]\nfile_lines = 3".parse().unwrap();
        let mut found = Vec::new();
        check_file(Path::new(path), text, &rules, &mut found);
        found
    }

    #[test]
    fn finds_what_it_looks_for() {
        assert_eq!(complaints("crates/a/src/b.rs", "//! doc\nstruct Good;\n"), Vec::<String>::new());
        assert_eq!(complaints("crates/a/src/mod.rs", "//! doc\n").len(), 1);
        assert_eq!(complaints("crates/a/src/b.rs", "fn f() {}\n").len(), 1);
        assert_eq!(complaints("crates/a/src/b.rs", "//! doc\n\n\n\n\n").len(), 1);
        assert_eq!(
            complaints("crates/a/src/b.rs", "//! doc\npub(crate) struct KeyManager<T>(T);\n").len(),
            1
        );
        assert_eq!(complaints("crates/a/src/b.rs", "//! doc\n// FIXME later\n").len(), 1);
    }
}
