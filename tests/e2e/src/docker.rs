//! A real Docker of the test's own: its containers are in a slice of the test's, and it leaves nothing behind.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;
use writ_testkit::wait;

/// The daemon. It and its containers end with this.
pub struct Docker {
    dir: TempDir,
    slice: PathBuf,
    daemon: Child,
}

const IMAGE: &str = "host:1";

/// Enters the slice, shows Docker a hierarchy of version 2 alone whose controllers it cannot switch on, and a `/run` of its own.
const BEGIN: &str = r#"
    echo 0 > "$SLICE/cgroup.procs"
    mount --bind "$HIERARCHY" /mnt
    umount -R -l /sys/fs/cgroup
    mount --move /mnt /sys/fs/cgroup
    : > "$DIR/sink"
    for folder in "" "/$NAME" "/$NAME/docker"; do
        mkdir -p "/sys/fs/cgroup$folder"
        mount --bind "$DIR/sink" "/sys/fs/cgroup$folder/cgroup.subtree_control"
    done
    mkdir "$DIR/run"
    mount --bind "$DIR/run" /run
    exec dockerd --data-root "$DIR/root" --exec-root "$DIR/exec" --pidfile "$DIR/docker.pid" -H "unix://$DIR/docker.sock" \
        --group root --bridge none --iptables=false --ip-forward=false --ip-masq=false --userland-proxy=false \
        --storage-driver vfs --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$NAME/docker" \
        --oom-score-adjust 0 --log-level warn
"#;

impl Docker {
    /// In the calling thread's network. `slice` is a cgroup of the test's own, named `*.slice`.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(slice: &Path) -> Self {
        let dir = TempDir::with_prefix("writ-docker-").expect("temporary folder");
        // What starts containers is no container, and has a cgroup of its own.
        let managers = slice.join("managers");
        fs::create_dir(&managers).expect("a cgroup");
        let log = fs::File::create(dir.path().join("log")).expect("log");
        let begin = ["-m", "--propagation", "private", "sh", "-euc", BEGIN];
        let daemon = Command::new("unshare")
            .args(begin)
            .env("DIR", dir.path())
            .env("HOME", dir.path())
            .env("SLICE", &managers)
            .env("HIERARCHY", slice.parent().expect("the hierarchy"))
            .env("NAME", slice.file_name().expect("a name"))
            .env("TMPDIR", dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("dockerd");
        let docker = Self { dir, slice: slice.to_owned(), daemon };
        wait::until("Docker answers", || docker.run(["version"]).status.success().then_some(()));
        docker.import();
        docker
    }

    /// Its API.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// The client, with these arguments.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Output {
        let mut client = Command::new("/usr/bin/docker");
        client.env("DOCKER_HOST", format!("unix://{}", self.socket().display())).env("HOME", self.dir.path());
        client.args(arguments).stdin(Stdio::null()).output().expect("docker")
    }

    /// The arguments of a container that runs what this host has installed, up to those of the command.
    pub fn container<'a>(more: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
        let run = ["run", "--pull", "never", "-v", "/usr:/usr:ro", "-v", "/etc:/etc:ro"];
        [&run, more, &[IMAGE], command].concat()
    }

    /// An image with nothing but the folders that are mounted over, and the links of a merged `/usr`.
    fn import(&self) {
        let image = self.dir.path().join("image");
        for folder in ["usr", "etc", "tmp", "run", "proc", "sys", "dev", "data"] {
            fs::create_dir_all(image.join(folder)).expect("folder");
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{link}"), image.join(link)).expect("link");
        }
        let tar = self.dir.path().join("image.tar");
        let made = Command::new("tar").arg("-C").arg(&image).arg("-cf").arg(&tar).arg(".").status();
        assert!(made.expect("tar").success());
        let imported = self.run(["import", tar.to_str().expect("a path"), IMAGE]);
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // All of it, the daemon included: nothing is kept.
        let kill = fs::File::options().write(true).open(self.slice.join("cgroup.kill"));
        drop(kill.and_then(|mut kill| kill.write_all(b"1")));
        drop(self.daemon.wait());
        for below in ["docker", "managers"] {
            crate::place::remove(&self.slice.join(below));
        }
    }
}
