//! Configuration files as text, for the commands that work offline.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use writ_catalog::Services;
use writ_control::Class;
use writ_core::Service;
use writ_core::config::Problems;

use crate::failure::Failure;

/// The files of one folder with this ending, by name, each with its text.
pub(crate) fn read(folder: &Path, ending: &str) -> Result<Vec<(PathBuf, String)>, Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        Failure::caused("cli.unreadable", format!("cannot read `{}`", path.display()), &error)
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, error))? {
        let path = entry.map_err(|error| failed(folder, error))?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.is_file() && path.extension().is_some_and(|found| found == ending) {
            paths.push(path);
        }
    }
    paths.sort();
    let text = |path: PathBuf| match std::fs::read_to_string(&path) {
        Ok(text) => Ok((path, text)),
        Err(error) => Err(failed(&path, error)),
    };
    paths.into_iter().map(text).collect()
}

/// The services of these folders together.
pub(crate) fn services(folders: &[PathBuf]) -> Result<Vec<Arc<Service>>, Failure> {
    let mut files = Vec::new();
    for folder in folders {
        files.extend(read(folder, "toml")?);
    }
    let named: Vec<_> = files.iter().map(|(path, text)| (path.display().to_string(), text)).collect();
    let mut problems = Problems::default();
    let texts = named.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    match Services::read(texts, &mut problems) {
        Some(services) => Ok(services.iter().cloned().collect()),
        None if problems.is_empty() => {
            Err(Failure::new(Class::Invalid, "config.invalid", "the services could not be read"))
        }
        None => Err(Failure::invalid("the services", &problems)),
    }
}
