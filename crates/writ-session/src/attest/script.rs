//! The script behind an interpreter: path, digest, module, package and lock file.
//!
//! The digest is of the file that was opened. Module and package are read off the place where that file lies
//! (`node_modules/NAME`, `site-packages`, a tool's own environment); a module of a found process may also be what its
//! arguments say. Who can write the place can choose those names, so rules may use them only beside a digest (see
//! `agent::matching`). A path counts only if it leads to that very file from the host's root too.

mod arguments;
mod installed;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use writ_core::Attestor;
use writ_core::selector::Key;

pub(super) use arguments::{Claim, claim};

use super::digest::Digests;
use super::place::Root;
use super::{Attest, Facts, Subject, Unknown};

/// A program whose identity is that of a file it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interpreter {
    Python,
    Node,
    Bun,
    Deno,
    Ruby,
    Perl,
    Java,
    Shell,
    /// `env`, which executes what `PATH` leads to.
    Env,
    /// Another one: by name, or because the script's own first line names it.
    Other,
    /// Not the one that the script's first line names.
    Wrapped,
}

impl Interpreter {
    /// By the file name that the kernel shows. A copy under another name is no interpreter: then it is a program like any
    /// other, with a digest of its own that no agent but a careless one is pinned to.
    pub(super) fn of(program: &Path) -> Option<Self> {
        let name = program.file_name()?.to_str()?;
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
        match stem {
            "python" | "pypy" | "graalpy" => Some(Self::Python),
            "node" | "nodejs" => Some(Self::Node),
            "bun" => Some(Self::Bun),
            "deno" => Some(Self::Deno),
            "ruby" | "jruby" => Some(Self::Ruby),
            "perl" => Some(Self::Perl),
            "java" => Some(Self::Java),
            "sh" | "bash" | "dash" | "zsh" | "ksh" | "mksh" | "ash" => Some(Self::Shell),
            "env" => Some(Self::Env),
            "php" | "lua" | "luajit" | "tclsh" | "Rscript" | "pwsh" | "dotnet" | "guile" | "elixir" => {
                Some(Self::Other)
            }
            _ => None,
        }
    }

    /// Shells read their script line by line, Java its archive class by class.
    pub(super) fn keeps_its_script_open(self) -> bool {
        matches!(self, Self::Shell | Self::Java)
    }

    /// The names of lock files, best first.
    fn locks(self) -> &'static [&'static str] {
        const NODE: &[&str] = &[
            "package-lock.json",
            "npm-shrinkwrap.json",
            "pnpm-lock.yaml",
            "yarn.lock",
            "bun.lock",
            "bun.lockb",
        ];
        match self {
            Self::Python => &["uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml"],
            Self::Node => NODE,
            Self::Bun => &["bun.lock", "bun.lockb", "package-lock.json", "yarn.lock"],
            Self::Deno => &["deno.lock", "package-lock.json"],
            Self::Ruby => &["Gemfile.lock", "gems.locked"],
            Self::Perl => &["cpanfile.snapshot"],
            Self::Java => &["gradle.lockfile"],
            Self::Shell | Self::Env | Self::Other | Self::Wrapped => &[],
        }
    }
}

/// Folders above a script in which a lock file is looked for.
const LOCK_DEPTH: usize = 8;
/// Modules are looked for below these, from the interpreter's prefix.
const PYTHON_FOLDERS: [&str; 4] = ["", "site-packages", "dist-packages", "lib-dynload"];

/// The file that this command line makes an interpreter run, for a launcher that is about to open it. `program` is the
/// interpreter, links resolved. `Err` if the program is no interpreter.
pub(crate) fn named(program: &Path, arguments: &[OsString]) -> Result<Option<PathBuf>, NoInterpreter> {
    let interpreter = Interpreter::of(program).ok_or(NoInterpreter)?;
    let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
    let Some(claim) = claim(interpreter, &arguments) else { return Ok(None) };
    let Ok(root) = Root::own() else { return Ok(None) };
    Ok(candidates(&claim, program, &root, &arguments).into_iter().next())
}

/// The program is not one whose identity is that of a file it reads.
#[derive(Debug)]
pub(crate) struct NoInterpreter;

/// The files that a claim could mean, best first.
pub(super) fn candidates(claim: &Claim, program: &Path, root: &Root, arguments: &[&[u8]]) -> Vec<PathBuf> {
    let absolute = |path: &str| root.absolute(Path::new(path));
    match claim {
        Claim::File(path) => {
            let path = absolute(path);
            let with = |ending: &str| PathBuf::from(format!("{}{ending}", path.display()));
            let endings = ["", ".js", ".mjs", ".cjs", "/index.js", "/__main__.py"];
            endings.into_iter().map(with).filter(|path| root.has_file(path)).collect()
        }
        Claim::Module(module) => {
            let file = module.replace('.', "/");
            let forms = [format!("{file}.py"), format!("{file}/__main__.py")];
            let named = arguments.first().and_then(|name| std::str::from_utf8(name).ok());
            // A virtual environment's `bin/python` is a link: its prefix is where the link lies.
            let prefixes = [named.filter(|name| name.contains('/')).map(absolute), Some(program.to_owned())];
            let libraries = prefixes.iter().flatten().flat_map(|program| libraries(program, root));
            let folders: Vec<PathBuf> = [absolute(".")].into_iter().chain(libraries).collect();
            let all = folders.iter().flat_map(|folder| forms.iter().map(|form| folder.join(form)));
            all.filter(|path| root.has_file(path)).collect()
        }
    }
}

/// The library folders of a Python: `PREFIX/lib/python3.X` and what is below.
fn libraries(program: &Path, root: &Root) -> Vec<PathBuf> {
    let Some(prefix) = program.parent().and_then(Path::parent) else { return Vec::new() };
    let mut found = Vec::new();
    for prefix in [prefix.to_owned(), prefix.join("local")] {
        let lib = prefix.join("lib");
        let mut names = root.names(&lib, 1_024);
        names.retain(|name| name.to_string_lossy().starts_with("python3"));
        // The interpreter's own version, where its name tells.
        let own = program.file_name().map(PathBuf::from);
        names.sort_by_key(|name| (Some(name) != own.as_ref(), std::cmp::Reverse(name.clone())));
        let below = names.iter().flat_map(|name| PYTHON_FOLDERS.map(|folder| lib.join(name).join(folder)));
        found.extend(below);
    }
    found
}

/// The attestor.
#[derive(Debug)]
pub(super) struct Scripts {
    locks: Digests,
}

impl Scripts {
    pub(super) fn new(clock: Arc<dyn writ_core::Clock>) -> Self {
        Self { locks: Digests::new(clock) }
    }

    fn lock(&self, root: &Root, script: &Path, interpreter: Interpreter) -> Option<Arc<str>> {
        let folders = script.ancestors().skip(1).take(LOCK_DEPTH);
        let paths = folders.flat_map(|folder| interpreter.locks().iter().map(|name| folder.join(name)));
        let file = paths.into_iter().find_map(|path| root.open(&path).ok())?;
        self.locks.of(&file).ok().map(|(_, digest)| digest)
    }
}

impl Attest for Scripts {
    fn attestor(&self) -> Attestor {
        Attestor::Script
    }

    fn attest(&self, subject: &Subject<'_>, facts: &mut Facts<'_>) -> Result<(), Unknown> {
        let unknown = |what: &str| Unknown { attestor: Attestor::Script, what: what.to_owned() };
        if !subject.code.is_provable() {
            return Err(unknown(
                "it has a user namespace of its own, and can choose what is shown as its program",
            ));
        }
        let Some(interpreter) = subject.code.interpreter else { return Ok(()) };
        let Some(script) = subject.code.behind() else {
            return Err(unknown("it is an interpreter, and what it runs was not found"));
        };
        facts.add(Key::ScriptSha256, &script.sha256);
        if script.on_host
            && let Some(path) = script.path.to_str()
        {
            facts.add(Key::ScriptPath, path);
        }
        let wants = |facts: &Facts<'_>, keys: &[Key]| keys.iter().any(|key| facts.wants(*key));
        if !wants(facts, &[Key::ScriptModule, Key::ScriptPackage, Key::ScriptLockSha256]) {
            return Ok(());
        }
        let root = Root::of(subject.peer).map_err(|_| unknown("its root cannot be seen"))?;
        let claimed = match &subject.code.claim {
            Some(Claim::Module(module)) => Some(module.clone()),
            Some(Claim::File(_)) | None => None,
        };
        if let Some(module) = installed::module(&script.path).or(claimed) {
            facts.add(Key::ScriptModule, &module);
        }
        if facts.wants(Key::ScriptPackage)
            && let Some(package) = installed::package(&root, &script.path)
        {
            facts.add(Key::ScriptPackage, &package);
        }
        if facts.wants(Key::ScriptLockSha256)
            && let Some(lock) = self.lock(&root, &script.path, interpreter)
        {
            facts.add(Key::ScriptLockSha256, &lock);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    #[test]
    fn the_attestor_conforms() {
        conformance::check(&Scripts::new(Arc::new(writ_host::SystemClock)));
    }

    #[test]
    fn interpreters_are_known_by_the_name_that_the_kernel_shows() {
        let of = |path: &str| Interpreter::of(Path::new(path));
        assert_eq!(of("/usr/bin/python3.11"), Some(Interpreter::Python));
        assert_eq!(of("/opt/node-22/bin/node"), Some(Interpreter::Node));
        assert_eq!(of("/usr/bin/perl5.36.0"), Some(Interpreter::Perl));
        assert_eq!(of("/bin/dash"), Some(Interpreter::Shell));
        assert_eq!(of("/usr/bin/php8.3"), Some(Interpreter::Other));
        assert_eq!((of("/usr/bin/pythonic"), of("/usr/bin/cat"), of("/")), (None, None, None));
    }
}
