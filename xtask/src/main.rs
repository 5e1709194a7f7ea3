//! The project's own chores. `cargo xtask tidy` checks what no lint can; `cargo xtask docs` writes the reference pages.

mod claims;
mod configuration;
mod docs;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

const USAGE: &str = "usage: cargo xtask tidy | docs";

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    let done = match argument.as_deref() {
        Some("tidy") => tidy_command(),
        Some("docs") => docs::write(&root()),
        _ => Err(anyhow::anyhow!(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn tidy_command() -> Result<()> {
    let mut found = tidy::check(&root())?;
    found.extend(docs::stale(&root())?);
    found.extend(claims::unfounded(&root())?);
    for line in &found {
        complain(line);
    }
    anyhow::ensure!(found.is_empty(), "{} untidy places", found.len());
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a program for the terminal")]
fn complain(line: &str) {
    eprintln!("{line}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let found = tidy::check(&root()).unwrap();
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }

    #[test]
    fn the_reference_pages_are_fresh() {
        let found = docs::stale(&root()).unwrap();
        assert!(found.is_empty(), "run `cargo xtask docs`:\n{}", found.join("\n"));
    }

    #[test]
    fn every_test_that_a_page_names_exists() {
        let found = claims::unfounded(&root()).unwrap();
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }
}
