//! A real service manager of the test's own: its units are in a slice of the test's.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;
use writ_testkit::wait;

/// The manager. It and its units end with this.
pub struct Systemd {
    dir: TempDir,
    slice: PathBuf,
    manager: Child,
}

const SYSTEMD: &str = "/lib/systemd/systemd";

/// Enters the slice, which is then the root of its units, and shows the manager a hierarchy of version 2 alone and a `/run` of
/// its own, in which a system manager seems to be.
const BEGIN: &str = r#"
    echo 0 > "$SLICE/cgroup.procs"
    mount --bind "$HIERARCHY" /mnt
    umount -R -l /sys/fs/cgroup
    mount --move /mnt /sys/fs/cgroup
    mkdir -p "$DIR/host/systemd/system"
    mount --bind "$DIR/host" /run
    exec "$0" --user
"#;

impl Systemd {
    /// In the calling thread's network. `slice` is a cgroup of the test's own, named `*.slice`, with nobody in it.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(slice: &Path) -> Self {
        let dir = TempDir::with_prefix("writ-systemd-").expect("temporary folder");
        for folder in ["run", "config/systemd/user"] {
            fs::create_dir_all(dir.path().join(folder)).expect("folder");
        }
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "sh", "-euc", BEGIN, SYSTEMD]);
        command.env("SLICE", slice).env("HIERARCHY", slice.parent().expect("the hierarchy"));
        let command = command.env("DIR", dir.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let manager = around(command, dir.path()).stderr(Stdio::null()).spawn().expect("systemd");
        let systemd = Self { dir, slice: slice.to_owned(), manager };
        let answers = || systemd.control(["show-environment"]).status.success().then_some(());
        wait::until("systemd runs", answers);
        systemd
    }

    /// Writes a unit's file. It is read at the next `daemon-reload`, or when the unit is started first.
    ///
    /// # Panics
    /// If that fails.
    pub fn unit(&self, name: &str, text: &str) {
        let path = self.dir.path().join("config/systemd/user").join(name);
        fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).expect("a unit");
    }

    /// `systemctl`, with these arguments.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn control<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Output {
        let mut command = Command::new("systemctl");
        command.arg("--user").args(arguments);
        around(&mut command, self.dir.path()).output().expect("systemctl")
    }
}

fn around<'c>(command: &'c mut Command, dir: &Path) -> &'c mut Command {
    let command = command.env("XDG_RUNTIME_DIR", dir.join("run")).env("XDG_CONFIG_HOME", dir.join("config"));
    command.env("HOME", dir).env_remove("DBUS_SESSION_BUS_ADDRESS")
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let kill = fs::File::options().write(true).open(self.slice.join("cgroup.kill"));
        drop(kill.and_then(|mut kill| kill.write_all(b"1")));
        drop(self.manager.wait());
        for name in ["app.slice", "init.scope", "session.slice", "background.slice"] {
            crate::place::remove(&self.slice.join(name));
        }
    }
}
