//! Cgroups that Writ did not make, and processes in them that it did not launch.

use std::fs;
use std::io::Write;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use writ_testkit::{AGENT_UID, Host, wait};

use crate::World;

/// A program that asks a service, whatever its agent.
pub const CURL: &str = "/usr/bin/curl";

/// A host that may govern what is in the slice, whose agent `worker` may read.
pub fn governing(test: &str, place: &Place, before: impl FnOnce(&Host)) -> Option<World> {
    World::configured(test, |host| {
        let settings =
            format!("[capture]\ncgroup = \"{}\"\nwatch = \"{}\"\n", host.cgroup_name(), place.watch());
        host.configure("writd.toml", &settings);
        host.configure("policies/worker.cedar", "@id(\"worker-reads\")\npermit (principal == Writ::Agent::\"worker\", action in Writ::Action::\"read\", resource);\n");
        before(host);
    })
}

/// A cgroup in a slice of the test's own; whoever is left in the slice ends with it.
pub struct Place(pub PathBuf);

impl Place {
    /// `None` where this process may make none.
    pub fn new(test: &str) -> Option<Self> {
        let name = || format!("writ-govern-{test}-{}.slice", std::process::id());
        rustix::process::geteuid().is_root().then(|| Self::make(&name()))
    }

    fn make(slice: &str) -> Self {
        let text = fs::read_to_string("/proc/self/mountinfo").expect("a place");
        let of_line = |line: &str| {
            let (left, right) = line.split_once(" - ")?;
            right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4).map(PathBuf::from)).flatten()
        };
        let slice = text.lines().find_map(of_line).expect("a place").join(slice);
        fs::create_dir(&slice).expect("a place");
        let place = Self(slice.join("place"));
        fs::create_dir(&place.0).expect("a place");
        place
    }

    /// The slice's folder.
    pub fn slice(&self) -> &Path {
        self.0.parent().expect("a place")
    }

    /// The slice as the kernel names it.
    pub fn watch(&self) -> String {
        format!("/{}", self.slice().file_name().expect("a place").to_str().expect("a place"))
    }

    /// Another cgroup in the slice. It ends with it, or is removed here.
    pub fn beside(&self, name: &str) -> Beside<'_> {
        let folder = self.slice().join(name);
        fs::create_dir_all(&folder).expect("a place");
        Beside(Self(folder), PhantomData)
    }

    /// As a service manager starts it: root enters the cgroup, then becomes the user, then the program.
    pub fn command(&self, host: &Host, argv: &[&str]) -> Command {
        let script = "echo $$ > \"$0/cgroup.procs\"; exec setpriv --reuid \"$1\" --regid \"$1\" --clear-groups -- \"${@:2}\"";
        let mut command = Command::new("bash");
        command.args(["-c", script]).arg(&self.0).arg(AGENT_UID.to_string()).args(argv);
        command.env("CURL_CA_BUNDLE", host.path("run/writ/agents/worker/bundle.pem"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
        command
    }

    /// Runs it.
    pub fn run(&self, host: &Host, argv: &[&str]) -> Output {
        self.command(host, argv).output().expect("a place")
    }

    /// A curl that runs and asks for nothing until it is told.
    pub fn waiting(&self, host: &Host) -> Child {
        let mut command = self.command(host, &[CURL, "-sS", "--max-time", "20", "-K", "-"]);
        let child = command.stdin(Stdio::piped()).spawn().expect("a place");
        let exe = PathBuf::from(format!("/proc/{}/exe", child.id()));
        let is_curl = || fs::read_link(&exe).is_ok_and(|path| path == Path::new(CURL)).then_some(());
        wait::until("curl runs", is_curl);
        child
    }
}

/// Lives shorter than the slice that it is in.
pub struct Beside<'a>(Place, PhantomData<&'a Place>);

impl std::ops::Deref for Beside<'_> {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Ok(mut kill) = fs::File::options().write(true).open(self.0.join("cgroup.kill")) else { return };
        drop(kill.write_all(b"1"));
        wait::until("an empty cgroup", || fs::remove_dir(&self.0).ok());
        // The last one in it takes it along.
        drop(fs::remove_dir(self.slice()));
    }
}

/// Removes a cgroup with those in it, once they are empty.
///
/// # Panics
/// If they do not get empty.
pub fn remove(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).for_each(|path| remove(&path));
    wait::until("an empty cgroup", || (fs::remove_dir(folder).is_ok() || !folder.exists()).then_some(()));
}
