//! What will be done to the process, computed from facts alone: nothing here looks at the host.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::environment;
use super::table;
use super::{Become, Prepared};

/// Everything that `apply` does, in data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Whom to become, if the caller is root.
    pub become_user: Option<Become>,
    /// What to hide. Paths that do not exist are passed over.
    pub masks: Vec<Mask>,
    /// Files to mount over others. Targets that do not exist are passed over.
    pub binds: Vec<Bind>,
    /// The program's whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where the program starts.
    pub folder: PathBuf,
    /// Whether the filter lets `io_uring` through.
    pub io_uring: bool,
    /// Whether to go on where no namespace can be had.
    pub without_namespaces: bool,
    /// Whether the process is in a run already, and keeps its namespaces, mounts and filter.
    pub nested: bool,
}

/// A place to hide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// The place.
    pub path: PathBuf,
    /// Paths below it that stay visible.
    pub reveal: Vec<PathBuf>,
    /// Whether the folder stays writable (and empty, and the run's own).
    pub writable: bool,
}

/// A file to mount over another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// What is to be seen.
    pub source: PathBuf,
    /// Where.
    pub target: PathBuf,
}

/// What the plan is made from, beside the daemon's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The caller's environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The caller's working folder, absolute.
    pub folder: PathBuf,
}

impl Plan {
    /// The plan for this caller with these answers.
    pub fn new(caller: &Caller, prepared: &Prepared) -> Self {
        let binds = table::SYSTEM_BUNDLES.iter().map(|target| Bind {
            source: prepared.certificates.bundle.clone(),
            target: PathBuf::from(target),
        });
        let nested = prepared.nested;
        Self {
            become_user: if nested { None } else { prepared.become_user.clone() },
            masks: if nested { Vec::new() } else { masks(caller, prepared) },
            binds: binds.filter(|_| !nested).collect(),
            environment: environment::of_run(&caller.environment, prepared),
            folder: caller.folder.clone(),
            io_uring: prepared.terms.io_uring,
            without_namespaces: prepared.terms.without_namespaces,
            nested,
        }
    }
}

fn masks(caller: &Caller, prepared: &Prepared) -> Vec<Mask> {
    let grants = grants(prepared);
    let runtime = PathBuf::from(format!("/run/user/{}", prepared.uid));
    let mut masks: Vec<Mask> = Vec::new();
    for path in places(caller, prepared) {
        // Granted whole, or already under a mask: nothing to do.
        let granted = grants.iter().any(|grant| path.starts_with(grant));
        if granted || masks.iter().any(|mask| path.starts_with(&mask.path)) {
            continue;
        }
        let reveal = grants.iter().filter(|grant| grant.starts_with(&path)).cloned().collect();
        let writable = path == runtime;
        masks.push(Mask { path, reveal, writable });
    }
    masks
}

/// Shortest first, so that a folder is hidden before what lies in it is looked at.
fn places(caller: &Caller, prepared: &Prepared) -> Vec<PathBuf> {
    let value =
        |name: &str| caller.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let mut homes = vec![prepared.home.clone()];
    homes.extend(value("HOME").map(PathBuf::from));
    let mut places: Vec<PathBuf> = Vec::new();
    for home in homes.iter().filter(|home| home.is_absolute() && home.as_path() != Path::new("/")) {
        places.extend(table::HOME.iter().map(|name| home.join(name)));
    }
    places.extend(table::WORK.iter().map(|name| caller.folder.join(name)));
    for pointed in table::POINTERS.iter().filter_map(|name| value(name)) {
        let paths = std::env::split_paths(&pointed).map(|path| caller.folder.join(path));
        places.extend(paths.filter(|path| hideable(path, caller)));
    }
    places.extend(table::SYSTEM.iter().map(PathBuf::from));
    places.extend(prepared.hide.iter().cloned());
    places.extend(["/run/user/", "/tmp/tmux-"].map(|head| PathBuf::from(format!("{head}{}", prepared.uid))));
    places.sort_by_key(|path| path.as_os_str().len());
    places.dedup();
    places
}

/// A variable that points at the working folder or above it would hide the work itself.
fn hideable(path: &Path, caller: &Caller) -> bool {
    path.components().count() > 2 && !caller.folder.starts_with(path)
}

fn grants(prepared: &Prepared) -> Vec<PathBuf> {
    let files = prepared.terms.files.iter().map(|text| match text.strip_prefix("~/") {
        Some(rest) => prepared.home.join(rest),
        None => PathBuf::from(text),
    });
    files.chain(prepared.terms.unix_sockets.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::Certificates;

    fn prepared() -> Prepared {
        Prepared {
            uid: 1000,
            gid: 1000,
            home: "/home/ada".into(),
            become_user: None,
            terms: crate::agent::Terms { io_uring: true, ..Default::default() },
            hide: vec!["/run/writ/control.sock".into()],
            certificates: Certificates {
                authority: "/run/writ/runs/R/ca.pem".into(),
                bundle: "/run/writ/runs/R/bundle.pem".into(),
                truststore: None,
            },
            variables: std::collections::BTreeMap::default(),
            nested: false,
        }
    }

    fn caller(environment: &[(&str, &str)]) -> Caller {
        Caller {
            environment: environment.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            folder: "/home/ada/work".into(),
        }
    }

    fn find<'p>(plan: &'p Plan, path: &str) -> Option<&'p Mask> {
        plan.masks.iter().find(|mask| mask.path == Path::new(path))
    }

    #[test]
    fn credentials_on_disk_and_sockets_are_hidden() {
        let plan = Plan::new(&caller(&[]), &prepared());
        for path in [
            "/home/ada/.aws",
            "/home/ada/.config/gh",
            "/home/ada/.netrc",
            "/home/ada/.docker",
            "/home/ada/.kube",
            "/home/ada/.ssh",
            "/home/ada/work/.env",
            "/run/user/1000",
            "/run/docker.sock",
            "/run/dbus",
            "/run/writ/control.sock",
            "/run/nscd",
        ] {
            assert!(find(&plan, path).is_some(), "{path}");
        }
        assert!(find(&plan, "/run/user/1000").unwrap().writable);
        assert!(!find(&plan, "/home/ada/.aws").unwrap().writable);
        assert!(find(&plan, "/run/writ").is_none(), "the run reads its certificates there");
    }

    #[test]
    fn both_homes_are_hidden_when_they_differ() {
        let plan = Plan::new(&caller(&[("HOME", "/root")]), &prepared());
        assert!(find(&plan, "/root/.aws").is_some() && find(&plan, "/home/ada/.aws").is_some());
    }

    #[test]
    fn grants_lift_a_mask_or_reveal_below_it() {
        let mut prepared = prepared();
        prepared.terms.files = vec!["~/.netrc".into(), "~/.aws/config".into(), "/home/ada/.kube".into()];
        prepared.terms.unix_sockets = vec!["/run/docker.sock".into(), "/run/user/1000/db.sock".into()];
        let plan = Plan::new(&caller(&[]), &prepared);
        for path in ["/home/ada/.netrc", "/home/ada/.kube", "/run/docker.sock"] {
            assert!(find(&plan, path).is_none(), "{path}");
        }
        assert_eq!(find(&plan, "/home/ada/.aws").unwrap().reveal, [Path::new("/home/ada/.aws/config")]);
        assert_eq!(find(&plan, "/run/user/1000").unwrap().reveal, [Path::new("/run/user/1000/db.sock")]);
        assert!(find(&plan, "/home/ada/.ssh").is_some(), "others stay hidden");
    }

    #[test]
    fn files_that_variables_point_at_are_hidden_but_never_the_work_itself() {
        let environment = [
            ("KUBECONFIG", "/srv/k/one:two"),
            ("AWS_CONFIG_FILE", "/home/ada/work"),
            ("GH_CONFIG_DIR", "/"),
            ("NETRC", "/home"),
        ];
        let plan = Plan::new(&caller(&environment), &prepared());
        assert!(find(&plan, "/srv/k/one").is_some());
        assert!(find(&plan, "/home/ada/work/two").is_some());
        for path in ["/home/ada/work", "/", "/home"] {
            assert!(find(&plan, path).is_none(), "{path}");
        }
    }

    #[test]
    fn folders_come_before_what_lies_in_them_and_only_once() {
        let plan = Plan::new(&caller(&[("HOME", "/home/ada")]), &prepared());
        for (n, mask) in plan.masks.iter().enumerate() {
            assert!(
                plan.masks.iter().skip(n + 1).all(|later| !later.path.starts_with(&mask.path)),
                "{mask:?}"
            );
        }
    }

    #[test]
    fn the_bundle_covers_every_system_bundle() {
        let plan = Plan::new(&caller(&[]), &prepared());
        assert!(plan.binds.iter().all(|bind| bind.source == Path::new("/run/writ/runs/R/bundle.pem")));
        assert!(plan.binds.iter().any(|bind| bind.target == Path::new("/etc/ssl/certs/ca-certificates.crt")));
    }
}
