//! Where container runtimes put their cgroups. Pure.
//!
//! Only root makes cgroups outside of subtrees that were given away, so a name means a container only where every part
//! above it is a slice or a folder of the runtime itself. Below a service's cgroup that service may make what it likes.
//! The outermost container counts: what is inside was made by it.

/// A container runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    Docker,
    Podman,
    Containerd,
    Crio,
}

impl Runtime {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::Crio => "crio",
        }
    }
}

/// The container that a cgroup belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: String,
    pub(crate) runtime: Runtime,
    /// Whether it lies in the subtree of a user's manager.
    pub(crate) rootless: bool,
    /// The uid of the pod around it.
    pub(crate) pod: Option<String>,
}

/// Folders that runtimes make with the `cgroupfs` driver, and who makes containers right below.
const FOLDERS: [(&str, Option<Runtime>); 8] = [
    ("docker", Some(Runtime::Docker)),
    ("libpod_parent", Some(Runtime::Podman)),
    ("default", Some(Runtime::Containerd)),
    ("k8s.io", Some(Runtime::Containerd)),
    ("kubepods", None),
    ("burstable", None),
    ("besteffort", None),
    ("guaranteed", None),
];
/// Names of containers with the `systemd` driver, and some with `cgroupfs`.
const PREFIXES: [(&str, Runtime); 6] = [
    ("docker-", Runtime::Docker),
    ("libpod-", Runtime::Podman),
    ("cri-containerd-", Runtime::Containerd),
    ("nerdctl-", Runtime::Containerd),
    ("containerd-", Runtime::Containerd),
    ("crio-", Runtime::Crio),
];

impl Place {
    /// The container of this cgroup, if it is one's.
    pub(crate) fn parse(cgroup: &str) -> Option<Self> {
        let (mut below, mut pod, mut rootless) = (None, None, false);
        for part in cgroup.split('/').filter(|part| !part.is_empty()) {
            if let Some((id, runtime)) = named(part).or_else(|| Some((id(part)?, below?))) {
                return Some(Self { id: id.to_owned(), runtime, rootless, pod });
            }
            below = None;
            if let Some(uid) = pod_uid(part) {
                pod = Some(uid);
                // Without a prefix it is the kubelet's default runtime.
                below = Some(Runtime::Containerd);
            } else if part.starts_with("user@") && part.ends_with(".service") && !rootless {
                rootless = true;
            } else if let Some((_, runtime)) = FOLDERS.iter().find(|(folder, _)| *folder == part) {
                below = *runtime;
            } else if part.rsplit_once('.').is_none_or(|(_, kind)| kind != "slice") {
                return None;
            }
        }
        None
    }
}

fn named(part: &str) -> Option<(&str, Runtime)> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    PREFIXES.iter().find_map(|(prefix, runtime)| Some((id(name.strip_prefix(prefix)?)?, *runtime)))
}

fn id(text: &str) -> Option<&str> {
    let hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (text.len() == 64 && hex).then_some(text)
}

/// `pod<uid>`, or `kubepods-burstable-pod<uid>.slice` with `_` for `-`.
fn pod_uid(part: &str) -> Option<String> {
    let uid = match part.strip_suffix(".slice") {
        Some(slice) => slice.starts_with("kube").then_some(slice)?.rsplit_once("-pod")?.1.replace('_', "-"),
        None => part.strip_prefix("pod")?.to_owned(),
    };
    let shaped = uid.len() >= 8 && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    shaped.then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "7d2a0f3e-5f0b-4c7a-9a53-0d9f6f1e2b3c";

    #[test]
    fn each_runtimes_layouts_are_known() {
        let under = UID.replace('-', "_");
        let cases = [
            (format!("/system.slice/docker-{ID}.scope"), Runtime::Docker, false),
            (format!("/system.slice/docker-{ID}.scope/init"), Runtime::Docker, false),
            (format!("/docker/{ID}"), Runtime::Docker, false),
            (format!("/agents.slice/docker-{ID}.scope"), Runtime::Docker, false),
            (format!("/machine.slice/libpod-{ID}.scope/container"), Runtime::Podman, false),
            (format!("/libpod_parent/libpod-{ID}"), Runtime::Podman, false),
            (format!("/system.slice/nerdctl-{ID}.scope"), Runtime::Containerd, false),
            (format!("/default/{ID}"), Runtime::Containerd, false),
            (format!("/kubepods/burstable/pod{UID}/{ID}"), Runtime::Containerd, true),
            (format!("/kubepods/pod{UID}/{ID}"), Runtime::Containerd, true),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/cri-containerd-{ID}.scope"
                ),
                Runtime::Containerd,
                true,
            ),
            (
                format!("/kubepods.slice/kubepods-pod{under}.slice/crio-{ID}.scope/container"),
                Runtime::Crio,
                true,
            ),
            (
                format!(
                    "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{under}.slice/docker-{ID}.scope"
                ),
                Runtime::Docker,
                true,
            ),
        ];
        for (cgroup, runtime, in_pod) in cases {
            let place = Place::parse(&cgroup).unwrap_or_else(|| panic!("{cgroup}"));
            assert_eq!((place.id.as_str(), place.runtime), (ID, runtime), "{cgroup}");
            assert_eq!(place.pod.as_deref(), in_pod.then_some(UID), "{cgroup}");
            assert!(!place.rootless);
        }
    }

    #[test]
    fn a_name_that_anybody_could_have_made_is_no_container() {
        for cgroup in [
            "/".to_owned(),
            "/system.slice/docker.service".to_owned(),
            format!("/system.slice/worker.service/docker-{ID}.scope"),
            format!("/user.slice/user-1000.slice/session-1.scope/docker-{ID}.scope"),
            format!("/writ/run/{ID}"),
            format!("/{ID}"),
            format!("/docker/{}", ID.to_uppercase()),
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/docker/x{ID}"),
        ] {
            assert_eq!(Place::parse(&cgroup), None, "{cgroup}");
        }
    }

    #[test]
    fn the_outermost_container_counts() {
        let inner = "f".repeat(64);
        let cgroup = format!("/system.slice/docker-{ID}.scope/kubelet.slice/cri-containerd-{inner}.scope");
        assert_eq!(Place::parse(&cgroup).unwrap().id, ID);
    }

    #[test]
    fn a_users_containers_are_marked_as_theirs() {
        let cgroup =
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container");
        assert!(Place::parse(&cgroup).unwrap().rootless);
    }
}
