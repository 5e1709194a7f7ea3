//! A disk that gets full.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::World;

/// What fills the disk below the evidence, until it is taken away.
pub struct Ballast(PathBuf);

/// Gives the evidence a small file system of its own, which this thread's children alone see, and starts the daemon anew: room
/// for two segments and their archive.
///
/// # Panics
/// If that fails.
pub fn shrink(world: &mut World) {
    world.host.stop();
    let evidence = world.host.path("var/lib/writ/evidence");
    let copy = world.host.path("copy");
    run("cp", &["-a", text(&evidence), text(&copy)]);
    #[expect(deprecated, reason = "the safe successor asks for a scope that a whole test is")]
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS).expect("a mount namespace");
    run("mount", &["--make-rprivate", "/"]);
    run("mount", &["-t", "tmpfs", "-o", "size=96m,mode=700", "tmpfs", text(&evidence)]);
    run("sh", &["-c", &format!("cp -a {}/. {}", copy.display(), evidence.display())]);
    world.host.start();
}

impl Ballast {
    /// Fills the disk and lets the agent `coder` act until it is refused.
    ///
    /// # Panics
    /// If it never is.
    #[must_use]
    pub fn drop_in(world: &World) -> Self {
        let ballast = world.host.path("var/lib/writ/evidence/ballast");
        let mut fill = Command::new("dd");
        let filled = fill.args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", ballast.display())).output();
        assert!(!filled.expect("dd").status.success(), "the disk is full");
        // Segments are preallocated, so it takes a while until one more is needed: less with long paths, which are recorded.
        // Bounded; ends at the first refusal.
        let long = format!("https://echo.test/debug/{}", "x".repeat(900));
        let script = format!(
            "n=0; while [ $n -lt 400 ]; do n=$((n + 1)); \
             case $(curl -sS -w '%{{http_code}}\\n' {} 2>&1) in *503*) echo refused; exit;; esac; done",
            [long.as_str(); 40].join(" ")
        );
        let refused = world.host.run("coder", ["sh", "-c", &script]);
        assert_eq!(refused.stdout, "refused\n", "actions are refused on a full disk: {refused:?}");
        Self(ballast)
    }

    /// There is room again.
    ///
    /// # Panics
    /// If it cannot be removed.
    pub fn remove(self) {
        std::fs::remove_file(self.0).expect("the ballast");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of plain text")
}

fn run(program: &str, args: &[&str]) {
    assert!(Command::new(program).args(args).status().expect("a program").success(), "{program} {args:?}");
}
