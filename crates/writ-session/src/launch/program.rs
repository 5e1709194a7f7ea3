//! Which file will be executed: found as a shell would find it, opened once, and executed by that descriptor.
//!
//! A script is not executed by descriptor (its interpreter would be given `/dev/fd/N` as its name, and find the
//! descriptor closed). Its first line is read here instead, as the kernel does it: the interpreter is opened and
//! executed, with the script's path as its argument. The interpreter opens that path again, so what it reads may
//! be another file than the one digested; the record marks it as inferred. `#!/usr/bin/env NAME` is resolved here as
//! `env` would, so that the interpreter is the one that was opened and not whatever `PATH` leads to a moment later.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::{Command, LaunchError};
use crate::attest;

/// What will be executed.
#[derive(Debug)]
pub(super) struct Opened {
    /// The program, never a script.
    pub(super) program: OwnedFd,
    /// The script that it interprets, or the file named right after it.
    pub(super) script: Option<OwnedFd>,
    /// All arguments, the program's name first.
    pub(super) arguments: Vec<OsString>,
}

impl Opened {
    pub(super) fn descriptors(&self) -> (RawFd, Option<RawFd>) {
        (self.program.as_raw_fd(), self.script.as_ref().map(AsRawFd::as_raw_fd))
    }
}

/// Interpreters of interpreters of interpreters: as many as the kernel allows (`BINPRM_MAX_RECURSION`).
const SCRIPTS_MAX: usize = 4;
/// How much of the first line counts (`BINPRM_BUF_SIZE`).
const FIRST_LINE_MAX: usize = 256;

/// Finds and opens the program of this command.
pub(super) fn open(command: &Command) -> Result<Opened, LaunchError> {
    let mut path = find(command, &command.program)?;
    let mut program = open_file(&path)?;
    let mut arguments = vec![command.program.clone()];
    arguments.extend(command.arguments.iter().cloned());
    let mut script = None;
    for _ in 0..SCRIPTS_MAX {
        let Some((interpreter, argument)) = shebang(&program) else { break };
        let (interpreter, argument) = through_env(command, interpreter, argument);
        // As the kernel does: interpreter, its one argument, the script's path, the rest.
        let rest = arguments.into_iter().skip(1);
        let head = [interpreter.clone().into_os_string()].into_iter().chain(argument);
        arguments = head.chain([path.into_os_string()]).chain(rest).collect();
        script.get_or_insert(program);
        path = interpreter;
        program = open_file(&path)?;
    }
    if shebang(&program).is_some() {
        return Err(LaunchError::Program {
            name: path.into(),
            source: io::Error::from_raw_os_error(libc::ELOOP),
        });
    }
    let script = script.or_else(|| {
        let resolved =
            std::fs::read_link(format!("/proc/self/fd/{}", program.as_raw_fd())).unwrap_or_default();
        match attest::named_script(&resolved, &arguments) {
            Ok(named) => named_file(named.map(OsString::from).as_ref()),
            Err(_) => named_file(arguments.get(1)),
        }
    });
    Ok(Opened { program, script, arguments })
}

/// What `env` would execute: `#!/usr/bin/env NAME`, and `-S` with plain words. Anything else is left to `env` itself.
fn through_env(
    command: &Command,
    interpreter: PathBuf,
    argument: Option<OsString>,
) -> (PathBuf, Vec<OsString>) {
    let words = || {
        let text = argument.as_ref()?.to_str()?;
        let (text, split) = text.strip_prefix("-S").map_or((text, false), |text| (text.trim(), true));
        let plain = |word: &str| !word.contains(['=', '"', '\'', '\\', '$', '#']);
        let words: Vec<&str> = if split { text.split_ascii_whitespace().collect() } else { vec![text] };
        let words: Vec<OsString> =
            words.into_iter().map(|word| plain(word).then(|| word.into())).collect::<Option<_>>()?;
        let name = words.first().filter(|name| !name.as_bytes().starts_with(b"-"))?;
        Some((find(command, name).ok()?, words.get(1..)?.to_vec()))
    };
    let is_env = interpreter.file_name().is_some_and(|name| name == "env");
    is_env.then(words).flatten().unwrap_or_else(|| (interpreter, argument.into_iter().collect()))
}

fn find(command: &Command, name: &OsString) -> Result<PathBuf, LaunchError> {
    let missing = |source| LaunchError::Program { name: name.clone(), source };
    if name.is_empty() || name.as_bytes().contains(&0) {
        return Err(missing(io::ErrorKind::InvalidInput.into()));
    }
    if name.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(name));
    }
    let paths = command.environment.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.clone());
    let paths = paths.unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let found =
        std::env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| is_executable(path));
    found.ok_or_else(|| missing(io::ErrorKind::NotFound.into()))
}

fn is_executable(path: &Path) -> bool {
    path.is_file()
        && rustix::fs::accessat(rustix::fs::CWD, path, rustix::fs::Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

/// Opened as a path alone, so that a program may be executed that may not be read.
fn open_file(path: &Path) -> Result<OwnedFd, LaunchError> {
    let failed = |source: io::Error| LaunchError::Program { name: path.into(), source };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let about = rustix::fs::fstat(&file).map_err(|errno| failed(errno.into()))?;
    let regular = FileType::from_raw_mode(about.st_mode) == FileType::RegularFile;
    if regular && is_executable(path) {
        Ok(file)
    } else {
        Err(failed(io::ErrorKind::PermissionDenied.into()))
    }
}

/// The interpreter and its argument, if the file begins with `#!`.
fn shebang(file: &OwnedFd) -> Option<(PathBuf, Option<OsString>)> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut head = Vec::with_capacity(FIRST_LINE_MAX);
    // A program that may not be read is no script: the kernel could not read it for an interpreter either.
    File::open(path).ok()?.take(FIRST_LINE_MAX as u64).read_to_end(&mut head).ok()?;
    first_line(&head)
}

fn first_line(head: &[u8]) -> Option<(PathBuf, Option<OsString>)> {
    let line = head.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?.trim_ascii();
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
    let (interpreter, rest) = line.split_at_checked(end)?;
    if interpreter.is_empty() {
        return None;
    }
    let rest = rest.trim_ascii();
    let argument = (!rest.is_empty()).then(|| OsString::from_vec(rest.to_vec()));
    Some((PathBuf::from(OsStr::from_bytes(interpreter)), argument))
}

/// The file that an argument names, if it does: `python tool.py`. A claim, for the record alone.
fn named_file(argument: Option<&OsString>) -> Option<OwnedFd> {
    let argument = argument.filter(|text| !text.as_bytes().starts_with(b"-"))?;
    let file = rustix::fs::open(argument, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let about = rustix::fs::fstat(&file).ok()?;
    // One that may not be read is nothing to digest, and the daemon must not read it for the caller.
    let readable = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).is_ok();
    (FileType::from_raw_mode(about.st_mode) == FileType::RegularFile && readable).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(program: &Path, arguments: &[&str]) -> Command {
        Command {
            program: program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            folder: "/".into(),
            is_server: false,
        }
    }

    fn link(fd: &OwnedFd) -> PathBuf {
        std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap()
    }

    #[test]
    fn the_path_is_searched_and_the_file_opened() {
        let opened = open(&command(Path::new("cat"), &["/etc/passwd"])).unwrap();
        assert_eq!(link(&opened.program).file_name().unwrap(), "cat");
        assert_eq!(opened.arguments, ["cat", "/etc/passwd"]);
        for missing in ["no-such-program-here", "/etc/passwd", "/", ""] {
            assert!(open(&command(Path::new(missing), &[])).is_err(), "{missing}");
        }
    }

    #[test]
    fn the_script_behind_an_interpreter_is_attested_and_the_interpreter_executed() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("tool");
        writ_host::durable::replace(&script, b"#!/bin/sh -e\necho\n", 0o755).unwrap();
        let opened = open(&command(&script, &["a", "b"])).unwrap();
        assert_eq!(link(opened.script.as_ref().unwrap()), script);
        assert_ne!(link(&opened.program), script);
        assert_eq!(opened.arguments, ["/bin/sh", "-e", script.to_str().unwrap(), "a", "b"]);

        let second = dir.path().join("second");
        let line = format!("#!{}\n", script.display());
        writ_host::durable::replace(&second, line.as_bytes(), 0o755).unwrap();
        let opened = open(&command(&second, &["x"])).unwrap();
        let (script, second) = (script.to_str().unwrap(), second.to_str().unwrap());
        assert_eq!(opened.arguments, ["/bin/sh", "-e", script, second, "x"]);
        assert_eq!(link(opened.script.as_ref().unwrap()), Path::new(second));
    }

    #[test]
    fn a_file_named_after_the_interpreter_is_a_claim_and_an_option_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("x.py");
        writ_host::durable::replace(&script, b"1", 0o644).unwrap();
        let path = script.to_str().unwrap();
        assert!(open(&command(Path::new("sh"), &[path])).unwrap().script.is_some());
        assert!(open(&command(Path::new("sh"), &["-c", path])).unwrap().script.is_none());
        assert!(open(&command(Path::new("sh"), &["/dev/null"])).unwrap().script.is_none());
    }

    #[test]
    fn the_interpreter_that_env_would_find_is_opened_itself() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("tool");
        let opened = |line: &str| {
            writ_host::durable::replace(&script, line.as_bytes(), 0o755).unwrap();
            open(&command(&script, &["a"])).unwrap()
        };
        let name = |opened: &Opened| link(&opened.program).file_name().unwrap().to_owned();
        let (sh, path) = (std::fs::canonicalize("/bin/sh").unwrap(), script.to_str().unwrap());
        let plain = opened("#!/usr/bin/env sh\n");
        assert_eq!(Some(&*name(&plain)), sh.file_name());
        assert_eq!(plain.arguments.get(1..), Some(&[path.into(), "a".into()][..]));
        let split = opened("#!/usr/bin/env -S sh -e -u\n");
        assert_eq!(split.arguments.get(1..), Some(&["-e".into(), "-u".into(), path.into(), "a".into()][..]));
        for left in
            ["#!/usr/bin/env -S A=1 sh\n", "#!/usr/bin/env -i sh\n", "#!/usr/bin/env no-such-program\n"]
        {
            assert_eq!(name(&opened(left)), "env", "{left}");
        }
    }

    #[test]
    fn a_file_after_an_interpreters_options_is_the_script_and_code_loaded_beside_it_makes_it_none() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("x.sh");
        writ_host::durable::replace(&script, b"1", 0o644).unwrap();
        let path = script.to_str().unwrap();
        let opened = |arguments: &[&str]| open(&command(Path::new("bash"), arguments)).unwrap().script;
        assert_eq!(link(&opened(&["-e", "-o", "pipefail", path]).unwrap()), script);
        assert!(opened(&["--init-file", path, path]).is_none());
        assert!(open(&command(Path::new("perl"), &["-MStrict", path])).unwrap().script.is_none());
    }

    #[test]
    fn a_script_that_interprets_itself_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("loop");
        writ_host::durable::replace(&script, format!("#!{}\n", script.display()).as_bytes(), 0o755).unwrap();
        assert!(open(&command(&script, &[])).is_err());
    }

    #[test]
    fn first_lines_are_read_as_the_kernel_reads_them() {
        let read = |text: &str| first_line(text.as_bytes());
        assert_eq!(read("#! /bin/x  a b \nrest"), Some(("/bin/x".into(), Some("a b".into()))));
        assert_eq!(read("#!/bin/x"), Some(("/bin/x".into(), None)));
        assert_eq!(read("\u{7f}ELF"), None);
        assert_eq!(read("#!\n/bin/x"), None);
    }
}
