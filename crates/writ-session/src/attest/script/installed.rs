//! What a file was installed as, read off the place where it lies.

use std::io::Read;
use std::path::Path;

use super::super::place::Root;

/// Distributions in one environment that are looked at.
const DISTRIBUTIONS_MAX: usize = 4_096;
/// A list of entry points, bytes.
const ENTRY_POINTS_MAX: u64 = 256 * 1024;

/// The Python module that a file below a library folder is: `.../python3.11/http/server.py` is `http.server`.
pub(super) fn module(path: &Path) -> Option<String> {
    let parts = parts(path)?;
    let library = parts.iter().rposition(|part| {
        matches!(*part, "site-packages" | "dist-packages") || part.starts_with("python3.")
    })?;
    let (file, folders) = parts.get(library + 1..)?.split_last()?;
    let stem = file.strip_suffix(".py")?;
    let last = (!matches!(stem, "__main__" | "__init__")).then_some(stem);
    let names: Vec<&str> = folders.iter().copied().chain(last).collect();
    (!names.is_empty()).then(|| names.join("."))
}

/// The package that a file was installed with: npm's below `node_modules`, Python's by the entry points of the environment
/// (`npx`, `uvx` and `pipx` run files of both kinds).
pub(super) fn package(root: &Root, path: &Path) -> Option<String> {
    npm(path).or_else(|| python(root, path))
}

fn npm(path: &Path) -> Option<String> {
    let parts = parts(path)?;
    let at = parts.iter().rposition(|part| *part == "node_modules")?;
    let name = parts.get(at + 1).filter(|name| !name.starts_with('.'))?;
    // A package is a folder: there is a file below it.
    let scoped = name.starts_with('@');
    let package = if scoped { format!("{name}/{}", parts.get(at + 2)?) } else { (*name).to_owned() };
    parts.get(at + if scoped { 3 } else { 2 }).map(|_| package)
}

/// A file `PREFIX/bin/NAME` belongs to the distribution in that environment which declares the command `NAME`.
fn python(root: &Root, path: &Path) -> Option<String> {
    let command = path.file_name()?.to_str()?;
    let bin = path.parent().filter(|folder| folder.file_name().is_some_and(|name| name == "bin"))?;
    let lib = bin.parent()?.join("lib");
    let pythons = root.names(&lib, DISTRIBUTIONS_MAX);
    let pythons = pythons.iter().filter(|name| name.to_string_lossy().starts_with("python3"));
    for packages in pythons.map(|python| lib.join(python).join("site-packages")) {
        let found = root.names(&packages, DISTRIBUTIONS_MAX).into_iter().find_map(|name| {
            let (distribution, _) = name.to_str()?.strip_suffix(".dist-info")?.rsplit_once('-')?;
            declares(root, &packages.join(&name), command).then(|| normal(distribution))
        });
        if found.is_some() {
            return found;
        }
    }
    None
}

fn declares(root: &Root, distribution: &Path, command: &str) -> bool {
    let Ok(file) = root.open(&distribution.join("entry_points.txt")) else { return false };
    let mut text = String::new();
    if file.take(ENTRY_POINTS_MAX).read_to_string(&mut text).is_err() {
        return false;
    }
    let mut scripts = false;
    text.lines().map(str::trim).any(|line| {
        if line.starts_with('[') {
            scripts = line == "[console_scripts]";
        }
        scripts && line.split_once('=').is_some_and(|(name, _)| name.trim() == command)
    })
}

/// The one spelling of a distribution's name (`PyPA`, names and normalization).
fn normal(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for part in name.split(['-', '_', '.']).filter(|part| !part.is_empty()) {
        if !normal.is_empty() {
            normal.push('-');
        }
        normal.push_str(&part.to_ascii_lowercase());
    }
    normal
}

fn parts(path: &Path) -> Option<Vec<&str>> {
    path.components().skip(1).map(|part| Path::new(part.as_os_str()).to_str()).collect::<Option<Vec<_>>>()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::Peer;

    #[test]
    fn modules_and_packages_are_read_off_the_place() {
        let of = |path: &str| module(Path::new(path));
        assert_eq!(of("/usr/lib/python3.11/http/server.py").as_deref(), Some("http.server"));
        assert_eq!(of("/v/lib/python3.12/site-packages/tool/__main__.py").as_deref(), Some("tool"));
        assert_eq!((of("/home/a/server.py"), of("/usr/lib/python3.11/x.so")), (None, None));
        let of = |path: &str| npm(Path::new(path));
        assert_eq!(of("/h/.npm/_npx/1/node_modules/cowsay/cli.js").as_deref(), Some("cowsay"));
        assert_eq!(of("/x/node_modules/a/node_modules/@s/b/bin/c.js").as_deref(), Some("@s/b"));
        assert_eq!(
            (of("/x/node_modules/.bin/c"), of("/x/node_modules/a.js"), of("/x/a.js")),
            (None, None, None)
        );
    }

    #[test]
    fn a_command_of_an_environment_belongs_to_the_distribution_that_declares_it() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            writ_host::durable::replace(&path, text.as_bytes(), 0o755).unwrap();
            path
        };
        let site = "lib/python3.12/site-packages";
        put(&format!("{site}/other-1.dist-info/entry_points.txt"), "[gui_scripts]\ncoder = x:y\n");
        put(
            &format!("{site}/My_Coder-1.2.dist-info/entry_points.txt"),
            "[console_scripts]\ncoder = my.coder:main\n",
        );
        let (one, _two) = UnixStream::pair().unwrap();
        let root = Root::of(&Peer::of(one.as_fd()).unwrap()).unwrap();
        assert_eq!(package(&root, &put("bin/coder", "")).as_deref(), Some("my-coder"));
        assert_eq!(package(&root, &put("bin/code", "")), None);
    }
}
