//! Which files a process runs: its program and, for an interpreter, the script behind it.
//!
//! Of a launched process both are descriptors that its launcher holds; the daemon reads them through `/proc/PID/fd/N` of
//! the proven peer, so both speak of one file whatever happens to its path. Of a found process the program is what the
//! kernel shows as executable, and the script is *located* with the help of its arguments, then opened and digested.
//!
//! The weakness that remains: a found process can overwrite its arguments, so it can make its interpreter's script look
//! like another file. What counts is the digest of a file that is really there, so it can only pass for an agent whose
//! unchanged script it can name; shells and Java keep what they run open and are believed only if they do. Who needs
//! more than that launches the agent with `writ run`. Scripts are therefore always marked as inferred: their
//! interpreter opens them again by itself.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use writ_core::event::{Known, Script};

use super::digest::{Digests, Stamp};
use super::place::Root;
use super::script::{self, Claim, Interpreter};
use super::{Opened, Program, Refusal};
use crate::peer::Peer;

/// A file that was opened and digested.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    /// As the kernel resolved it, in the process's own mount namespace.
    pub(super) path: PathBuf,
    pub(super) sha256: Arc<str>,
    pub(super) owner: u32,
    /// Whether only its owner can write it.
    guarded: bool,
    /// Whether the path names this file on the host's own root too.
    pub(super) on_host: bool,
    stamp: Stamp,
}

/// The program and what is behind it.
#[derive(Debug, Clone)]
pub(super) struct Code {
    pub(super) program: Measured,
    /// The file that an interpreter runs, or that a launcher named after a program that is none.
    pub(super) script: Option<Measured>,
    pub(super) interpreter: Option<Interpreter>,
    /// What the arguments of a found process say about the script.
    pub(super) claim: Option<Claim>,
    how: How,
}

/// How the files were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Opened by a launcher.
    Launched,
    /// Shown by the kernel.
    Found,
    /// Shown by the kernel of a process that can choose what is shown.
    Unprovable,
}

/// How much of a script's first line counts (`BINPRM_BUF_SIZE`).
const FIRST_LINE_MAX: usize = 256;

/// The code that a launcher opened.
pub(super) fn opened(digests: &Digests, peer: &Peer, opened: Opened) -> Result<Code, Refusal> {
    let (program, _) = descriptor(digests, peer, opened.program)?;
    let script = opened.script.map(|fd| descriptor(digests, peer, fd)).transpose()?;
    let by_name = Interpreter::of(&program.path);
    // A file after the program is its script if the program is an interpreter, by name or by the file's own first line.
    // A line that names another kind of interpreter means that something stands between the two, such as a wrapper
    // that would choose the real one.
    let interpreter = match script.as_ref().and_then(|(_, file)| names_interpreter(file)) {
        None => by_name,
        Some(FirstLine { path, .. }) if program.is(&path) => by_name.or(Some(Interpreter::Other)),
        Some(FirstLine { kind, .. }) if by_name.is_none() || kind == by_name => by_name,
        Some(_) => Some(Interpreter::Wrapped),
    };
    let script = script.map(|(measured, _)| measured);
    Ok(Code { program, script, interpreter, claim: None, how: How::Launched })
}

/// The code of a process that runs.
pub(super) fn running(digests: &Digests, peer: &Peer) -> Result<Code, Refusal> {
    let failed = |source| Refusal::unattested("its program cannot be read", source);
    let file = open_regular(peer.folder(), "exe").map_err(failed)?;
    let path = link(peer.folder(), "exe").map_err(failed)?;
    let program = measure(digests, &file, path).map_err(failed)?;
    if !peer.shares_namespace("user")? {
        let (script, interpreter, claim) = (None, None, None);
        return Ok(Code { program, script, interpreter, claim, how: How::Unprovable });
    }
    let interpreter = Interpreter::of(&program.path);
    let mut code = Code { program, script: None, interpreter, claim: None, how: How::Found };
    if let Some(interpreter) = interpreter {
        code.locate(digests, peer, interpreter)?;
    }
    Ok(code)
}

impl Code {
    pub(super) fn program(&self) -> Program {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let script = self.script.as_ref().map(|script| Script {
            how: Known::Inferred,
            path: text(&script.path),
            sha256: script.sha256.to_string(),
        });
        Program { path: text(&self.program.path), sha256: self.program.sha256.to_string(), script }
    }

    /// The file behind the interpreter, if this is one.
    pub(super) fn behind(&self) -> Option<&Measured> {
        self.interpreter.and(self.script.as_ref())
    }

    pub(super) fn digest(&self) -> Option<&str> {
        match (self.how, self.interpreter) {
            (How::Unprovable, _) => None,
            (_, None) => Some(&self.program.sha256),
            (_, Some(_)) => self.script.as_ref().map(|script| &*script.sha256),
        }
    }

    pub(super) fn is_launched(&self) -> bool {
        self.how == How::Launched
    }

    /// Whether what the kernel shows of the program can be believed.
    pub(super) fn is_provable(&self) -> bool {
        self.how != How::Unprovable
    }

    /// Whether nobody but root can have put the interpreter there, so that it does what its name says. `env` never is:
    /// it runs whatever `PATH` leads to; nor is a wrapper.
    pub(super) fn has_trusted_interpreter(&self) -> bool {
        let itself = !matches!(self.interpreter, Some(Interpreter::Env | Interpreter::Wrapped));
        self.program.owner == 0 && self.program.guarded && itself
    }

    /// Whether the files are as they were, by their stamps alone.
    pub(super) fn is_as_it_was(&self, peer: &Peer) -> bool {
        let exe = || rustix::fs::statat(peer.folder(), "exe", AtFlags::empty()).ok();
        let program = match self.how {
            // Before it executes, its executable is still the launcher.
            How::Launched => exe().is_none_or(|exe| {
                let exe = Stamp::from(&exe);
                exe == self.program.stamp || !exe.same_file(&self.program.stamp)
            }),
            How::Found | How::Unprovable => exe().is_some_and(|exe| Stamp::from(&exe) == self.program.stamp),
        };
        let script = || match &self.script {
            None => true,
            Some(script) => Root::of(peer).is_ok_and(|root| root.stamp(&script.path) == Some(script.stamp)),
        };
        program && script()
    }

    /// The same, reading them again: a new link or a `chmod` changes a stamp and no content.
    pub(super) fn reads_as_it_did(&self, digests: &Digests, peer: &Peer) -> bool {
        let Ok(root) = Root::of(peer) else { return false };
        let same = |file: io::Result<File>, before: &Measured| {
            file.and_then(|file| digests.of(&file)).is_ok_and(|(_, digest)| digest == before.sha256)
        };
        let shown = open_regular(peer.folder(), "exe");
        let executes_it = shown.as_ref().is_ok_and(|exe| {
            exe.metadata().is_ok_and(|about| Stamp::from(&about).same_file(&self.program.stamp))
        });
        let program = match self.how {
            How::Launched if !executes_it => true,
            How::Launched | How::Found | How::Unprovable => same(shown, &self.program),
        };
        program && self.script.as_ref().is_none_or(|script| same(root.open(&script.path), script))
    }

    /// Finds the script of a running interpreter. What cannot be found, opened or believed is no script.
    fn locate(&mut self, digests: &Digests, peer: &Peer, interpreter: Interpreter) -> Result<(), Refusal> {
        let arguments = peer.file_bytes("cmdline")?;
        let arguments: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
        let Some(claim) = script::claim(interpreter, &arguments) else { return Ok(()) };
        let root = Root::of(peer)?;
        let found =
            script::candidates(&claim, &self.program.path, &root, &arguments).into_iter().find_map(|path| {
                let file = root.open(&path).ok()?;
                let resolved = Root::resolved(&file).ok()?;
                root.readable_by(peer, &resolved).then_some((file, resolved))
            });
        let Some((file, path)) = found else { return Ok(()) };
        let stamp = file.metadata().map(|about| Stamp::from(&about));
        let held = || stamp.is_ok_and(|stamp| holds_open(peer, &stamp));
        if interpreter.keeps_its_script_open() && !held() {
            return Ok(());
        }
        let measured = measure(digests, &file, path);
        self.script = Some(measured.map_err(|e| Refusal::unattested("its script cannot be read", e))?);
        self.claim = Some(claim);
        Ok(())
    }
}

impl Measured {
    /// Whether this path on the host leads to this file.
    fn is(&self, path: &Path) -> bool {
        rustix::fs::stat(path).is_ok_and(|about| Stamp::from(&about).same_file(&self.stamp))
    }
}

fn descriptor(digests: &Digests, peer: &Peer, fd: RawFd) -> Result<(Measured, File), Refusal> {
    let failed = |what| move |source: io::Error| Refusal::unattested(what, source);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(peer.folder(), "fd", flags, Mode::empty())
        .map_err(|errno| failed("its descriptors cannot be seen")(errno.into()))?;
    let name = fd.to_string();
    let file = open_regular(&folder, &name).map_err(failed("it is no regular file that can be read"))?;
    let path = link(&folder, &name).map_err(failed("its path cannot be read"))?;
    let measured = measure(digests, &file, path).map_err(failed("it cannot be read"))?;
    Ok((measured, file))
}

fn measure(digests: &Digests, file: &File, path: PathBuf) -> io::Result<Measured> {
    let about = file.metadata()?;
    let (stamp, sha256) = digests.of(file)?;
    let here = rustix::fs::stat(&path).is_ok_and(|here| Stamp::from(&here).same_file(&stamp));
    Ok(Measured {
        path,
        sha256,
        owner: about.uid(),
        guarded: about.mode() & 0o022 == 0,
        on_host: here,
        stamp,
    })
}

/// Looks before it opens: opening a device or fifo could block or act.
fn open_regular(folder: impl std::os::fd::AsFd, name: &str) -> io::Result<File> {
    let refused = || io::Error::from(io::ErrorKind::InvalidInput);
    let about = rustix::fs::statat(&folder, name, AtFlags::empty())?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return Err(refused());
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
    let opened = file.metadata()?;
    if opened.is_file() && Stamp::from(&opened).same_file(&Stamp::from(&about)) {
        Ok(file)
    } else {
        Err(refused())
    }
}

fn link(folder: impl std::os::fd::AsFd, name: &str) -> io::Result<PathBuf> {
    let text = rustix::fs::readlinkat(folder, name, Vec::new())?;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(text.as_bytes())))
}

/// The interpreter that a file's first line names.
struct FirstLine {
    path: PathBuf,
    /// What it is, or what `env` is to find.
    kind: Option<Interpreter>,
}

fn names_interpreter(file: &File) -> Option<FirstLine> {
    let mut head = Vec::with_capacity(FIRST_LINE_MAX);
    // Opened anew, so that reading it moves nobody's place in the file.
    let again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    again.take(FIRST_LINE_MAX as u64).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?.trim_ascii();
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let path = |word: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(word));
    let named = path(words.next()?);
    let kind = match Interpreter::of(&named) {
        Some(Interpreter::Env) => {
            words.find(|word| !word.starts_with(b"-")).and_then(|word| Interpreter::of(&path(word)))
        }
        kind => kind,
    };
    Some(FirstLine { path: named, kind })
}

/// Whether one of the process's descriptors is this file.
fn holds_open(peer: &Peer, stamp: &Stamp) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder: rustix::io::Result<OwnedFd> = rustix::fs::openat(peer.folder(), "fd", flags, Mode::empty());
    let Ok(entries) = folder.and_then(|folder| rustix::fs::Dir::read_from(&folder).map(|dir| (folder, dir)))
    else {
        return false;
    };
    let (folder, entries) = entries;
    entries.flatten().any(|entry| {
        rustix::fs::statat(&folder, entry.file_name(), AtFlags::empty())
            .is_ok_and(|about| Stamp::from(&about).same_file(stamp))
    })
}
