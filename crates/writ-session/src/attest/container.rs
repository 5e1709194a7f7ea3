//! The container: its id from the cgroup, and what its runtime says of it.
//!
//! Which processes a container has is the kernel's word; what image and labels it has is its runtime's, and whoever may
//! start containers there chooses them. A rootless runtime answers for its own user only, and that user can make cgroups
//! with any name and answer anything: of rootless containers nothing is said. What a runtime said is kept while it may
//! be asked again; ids are never used twice.

mod describe;
mod layout;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use writ_core::Attestor;
use writ_core::selector::Key;
use writ_gate::limits;

pub(super) use describe::digest_of;
pub(super) use layout::Place;

use super::{Attest, Facts, Subject, Unknown, cgroup};
use describe::Description;

/// Where the runtimes of this host are asked. A place that is not there is passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtimes {
    /// Docker's API socket.
    pub docker_socket: PathBuf,
    /// Docker's own folder, read where the socket does not answer.
    pub docker_folder: PathBuf,
    /// Podman's API socket.
    pub podman_socket: PathBuf,
    /// The folder of containers-storage: Podman's and CRI-O's.
    pub storage_folder: PathBuf,
    /// The same of containers that do not outlive a boot.
    pub storage_run_folder: PathBuf,
    /// containerd's state.
    pub containerd_folder: PathBuf,
}

impl Default for Runtimes {
    fn default() -> Self {
        Self {
            docker_socket: "/run/docker.sock".into(),
            docker_folder: "/var/lib/docker".into(),
            podman_socket: "/run/podman/podman.sock".into(),
            storage_folder: "/var/lib/containers/storage".into(),
            storage_run_folder: "/run/containers/storage".into(),
            containerd_folder: "/run/containerd".into(),
        }
    }
}

/// The attestor.
#[derive(Debug)]
pub(super) struct Containers {
    runtimes: Runtimes,
    known: Mutex<HashMap<String, Arc<Description>>>,
}

/// What only the runtime knows.
const DESCRIBED: [Key; 5] = [
    Key::ContainerName,
    Key::ContainerImage,
    Key::ContainerImageId,
    Key::ContainerImageDigest,
    Key::ContainerLabel,
];

impl Containers {
    pub(super) fn new(runtimes: Runtimes) -> Self {
        Self { runtimes, known: Mutex::default() }
    }

    fn describe(&self, place: &Place) -> Result<Arc<Description>, String> {
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&place.id) {
            return Ok(Arc::clone(known));
        }
        let described = Arc::new(describe::ask(&self.runtimes, place)?);
        if described.labels.is_none() {
            // Its runtime may say more once it answers.
            return Ok(described);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Containers come and go; which of them is forgotten does not matter.
        if known.len() >= limits::CONTAINERS_MAX
            && let Some(one) = known.keys().next().cloned()
        {
            known.remove(&one);
        }
        known.insert(place.id.clone(), Arc::clone(&described));
        Ok(described)
    }
}

impl Attest for Arc<Containers> {
    fn attestor(&self) -> Attestor {
        Attestor::Container
    }

    fn attest(&self, subject: &Subject<'_>, facts: &mut Facts<'_>) -> Result<(), Unknown> {
        let path = cgroup::of(subject.peer).map_err(unknown)?;
        self.say(&path, facts)
    }
}

impl Containers {
    /// See [`super::Attestors::container_labels`].
    pub(super) fn labels(&self, cgroup: &str) -> Result<Option<BTreeMap<String, String>>, String> {
        let Some(place) = Place::parse(cgroup).filter(|place| !place.rootless) else { return Ok(None) };
        let described = self.describe(&place)?;
        let silent = || format!("{} does not say which labels it has", place.runtime.as_str());
        described.labels.clone().map(Some).ok_or_else(silent)
    }

    fn say(&self, cgroup: &str, facts: &mut Facts<'_>) -> Result<(), Unknown> {
        let Some(place) = Place::parse(cgroup) else { return Ok(()) };
        if place.rootless {
            let what = "it is in a rootless container, of which only its own user could tell";
            return Err(unknown(what.to_owned()));
        }
        facts.add(Key::ContainerId, &place.id);
        facts.add(Key::ContainerRuntime, place.runtime.as_str());
        if !DESCRIBED.iter().any(|key| facts.wants(*key)) {
            return Ok(());
        }
        let described = self.describe(&place).map_err(unknown)?;
        let Description { name, image, image_id, digests, labels } = &*described;
        let single =
            [(Key::ContainerName, name), (Key::ContainerImage, image), (Key::ContainerImageId, image_id)];
        for (key, value) in single {
            if let Some(value) = value {
                facts.add(key, value);
            }
        }
        for digest in digests {
            facts.add(Key::ContainerImageDigest, digest);
        }
        for (name, value) in labels.iter().flatten() {
            facts.add(Key::ContainerLabel, &format!("{name}={value}"));
        }
        Ok(())
    }
}

fn unknown(what: String) -> Unknown {
    Unknown { attestor: Attestor::Container, what }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::conformance;
    use super::super::facts::Wanted;
    use super::describe::tests::{self as recorded, ID};
    use super::*;

    fn said(containers: &Containers, cgroup: &str) -> (Vec<String>, Option<String>) {
        let (wanted, mut selectors) = (Wanted::everything(), BTreeSet::new());
        let mut facts = Facts::new(Attestor::Container, &wanted, &mut selectors);
        let unknown = containers.say(cgroup, &mut facts).err().map(|unknown| unknown.what);
        (selectors.iter().map(ToString::to_string).collect(), unknown)
    }

    #[test]
    fn the_attestor_conforms() {
        let dir = tempfile::tempdir().unwrap();
        conformance::check(&Arc::new(Containers::new(recorded::nowhere(dir.path()))));
    }

    #[test]
    fn a_container_is_what_its_runtime_says_and_is_asked_for_once() {
        let dir = tempfile::tempdir().unwrap();
        let runtimes = recorded::nowhere(dir.path());
        let answers = recorded::docker(&runtimes.docker_socket);
        let containers = Containers::new(runtimes);
        let cgroup = format!("/system.slice/docker-{ID}.scope");
        let (facts, unknown) = said(&containers, &cgroup);
        assert_eq!(unknown, None);
        for fact in [
            format!("container:id:{ID}"),
            "container:runtime:docker".to_owned(),
            "container:name:coder".to_owned(),
            "container:image:registry.example/coder:1".to_owned(),
            format!("container:image-id:sha256:{}", "1".repeat(64)),
            format!("container:image-digest:sha256:{}", "2".repeat(64)),
            "container:label:team=platform".to_owned(),
        ] {
            assert!(facts.contains(&fact), "{fact} is not among {facts:?}");
        }
        assert_eq!(said(&containers, &cgroup).0, facts);
        assert_eq!(answers.join().unwrap(), 2, "one question for the container, one for its image");
    }

    #[test]
    fn a_runtime_that_does_not_answer_leaves_the_id_alone() {
        let dir = tempfile::tempdir().unwrap();
        let containers = Containers::new(recorded::nowhere(dir.path()));
        let (facts, unknown) = said(&containers, &format!("/docker/{ID}"));
        assert_eq!(facts, [format!("container:id:{ID}"), "container:runtime:docker".to_owned()]);
        assert!(unknown.unwrap().contains("does not answer"));
    }

    #[test]
    fn labels_are_those_that_the_runtime_names_and_are_never_guessed() {
        let dir = tempfile::tempdir().unwrap();
        let runtimes = recorded::nowhere(dir.path());
        let containers = Containers::new(runtimes.clone());
        let docker = format!("/system.slice/docker-{ID}.scope");
        assert!(containers.labels(&docker).unwrap_err().contains("does not answer"));
        let answers = recorded::docker(&runtimes.docker_socket);
        let labels = containers.labels(&docker).unwrap().unwrap();
        assert_eq!(labels.into_iter().collect::<Vec<_>>(), [("team".to_owned(), "platform".to_owned())]);
        answers.join().unwrap();
        // Podman keeps them where only it can read them: that is not the same as none.
        let list = runtimes.storage_folder.join("overlay-containers/containers.json");
        std::fs::create_dir_all(list.parent().unwrap()).unwrap();
        writ_host::durable::replace(&list, format!("[{{\"id\": \"{ID}\"}}]").as_bytes(), 0o600).unwrap();
        let containers = Containers::new(runtimes);
        let podman = format!("/machine.slice/libpod-{ID}.scope");
        assert!(containers.labels(&podman).unwrap_err().contains("does not say"));
        let rootless = format!("/user.slice/user-7.slice/user@7.service/user.slice/libpod-{ID}.scope");
        for none in ["/system.slice/coder.service", rootless.as_str()] {
            assert_eq!(containers.labels(none), Ok(None));
        }
    }

    #[test]
    fn a_rootless_container_proves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let containers = Containers::new(recorded::nowhere(dir.path()));
        let cgroup = format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope");
        let (facts, unknown) = said(&containers, &cgroup);
        assert!(facts.is_empty() && unknown.is_some());
    }

    #[test]
    fn a_process_in_a_real_cgroup_is_that_containers_and_not_that_units() {
        // As Docker lays it out under systemd.
        let name = format!("docker-{ID}.scope");
        let Some(place) = conformance::Cgroup::make("writ-attest-container", &name) else { return };
        let running = conformance::Running::new(std::process::Command::new("sleep").arg("600"));
        place.take_in(&running);
        let own = cgroup::of(&running.peer()).unwrap();
        assert!(own.ends_with(&format!(".slice/{name}")), "{own}");
        let dir = tempfile::tempdir().unwrap();
        let runtimes = recorded::nowhere(dir.path());
        let answers = recorded::docker(&runtimes.docker_socket);
        let (facts, unknown) = said(&Containers::new(runtimes), &own);
        assert_eq!(unknown, None);
        assert!(facts.contains(&"container:label:team=platform".to_owned()), "{facts:?}");
        answers.join().unwrap();
        drop(running);
    }
}
