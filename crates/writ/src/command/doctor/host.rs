//! What the kernel and the host offer.

use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use writ_control::api::{Check, CheckState};
use writ_core::secret::Protection;
use writ_core::{Layout, Secret};

use super::{finding, good};

/// `CGROUP2_SUPER_MAGIC` and `BPF_FS_MAGIC` of `linux/magic.h`.
const CGROUP2: u64 = 0x6367_7270;
const BPFFS: u64 = 0xcafe_4a11;

pub(super) fn checks(layout: &Layout) -> Vec<Check> {
    vec![
        kernel(),
        btf(),
        lsm(),
        landlock(),
        lockdown(),
        jit(),
        cgroup(),
        bpffs(layout),
        namespaces(),
        secret_memory(),
    ]
}

fn kernel() -> Check {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 5) {
        return good("kernel", format!("Linux {release}"));
    }
    let found = format!("Linux {release}");
    let cost = "callers of the control socket cannot be proven, so every call is refused";
    finding("kernel", CheckState::Bad, [&found, cost, "use Linux 6.5 or newer"])
}

fn btf() -> Check {
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        return good("kernel type data", "present");
    }
    let cost = "the enforcer cannot be loaded: no run can start";
    finding("kernel type data", CheckState::Bad, ["missing", cost, "use a kernel with CONFIG_DEBUG_INFO_BTF"])
}

/// The security modules that the kernel runs, as it lists them.
fn modules() -> String {
    std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default()
}

/// That the module is listed does not mean that programs load: only who may load one finds out, which the daemon does.
fn lsm() -> Check {
    let cost = "assurance is `kernel` instead of `kernel-lsm`: what root does inside a run is less confined";
    if modules().split(',').any(|module| module == "bpf") {
        let found = "listed; whether programs load, the daemon finds out (`BPF LSM programs`)";
        return finding("BPF LSM", CheckState::Unknown, [found, &format!("if not: {cost}"), ""]);
    }
    finding("BPF LSM", CheckState::Weaker, ["not listed by the kernel", cost, "boot with `lsm=...,bpf`"])
}

fn landlock() -> Check {
    if modules().split(',').any(|module| module == "landlock") {
        return good("Landlock", "active");
    }
    let cost = "abstract Unix sockets and signals out of a run are not shut off by the kernel";
    finding("Landlock", CheckState::Weaker, ["not active", cost, "boot with `lsm=landlock,...`"])
}

fn lockdown() -> Check {
    let text = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let mode =
        text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("none", |(mode, _)| mode);
    if mode != "confidentiality" {
        return good("kernel lockdown", mode);
    }
    let cost = "the enforcer may not read what it must: no run can start";
    finding("kernel lockdown", CheckState::Bad, [mode, cost, "use `lockdown=integrity`"])
}

fn jit() -> Check {
    match std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").as_deref().map(str::trim) {
        Ok("0") => finding(
            "BPF compiler",
            CheckState::Weaker,
            [
                "off",
                "kernel programs are interpreted: every connection costs more",
                "sysctl net.core.bpf_jit_enable=1",
            ],
        ),
        _ => good("BPF compiler", "on"),
    }
}

fn cgroup() -> Check {
    let path = Path::new("/sys/fs/cgroup");
    if filesystem(path) != Some(CGROUP2) {
        let hint = "boot with `systemd.unified_cgroup_hierarchy=1`";
        return finding(
            "cgroup v2",
            CheckState::Bad,
            ["not mounted at /sys/fs/cgroup", "runs cannot be told apart: none can start", hint],
        );
    }
    let writable =
        rustix::fs::accessat(CWD, path, rustix::fs::Access::WRITE_OK, rustix::fs::AtFlags::EACCESS);
    match (rustix::process::geteuid().is_root(), writable) {
        (true, Err(_)) => finding(
            "cgroup v2",
            CheckState::Bad,
            ["mounted read-only", "no run can be given a cgroup", "run writd outside this container"],
        ),
        _ => good("cgroup v2", "mounted"),
    }
}

fn bpffs(layout: &Layout) -> Check {
    let path = layout.bpffs();
    let above = path.parent().unwrap_or(Path::new("/"));
    if filesystem(&path) == Some(BPFFS) || filesystem(above) == Some(BPFFS) {
        return good("BPF file system", "mounted");
    }
    let found = format!("none at `{}`", path.display());
    finding(
        "BPF file system",
        CheckState::Weaker,
        [&found, "the daemon mounts one of its own when it starts", ""],
    )
}

fn namespaces() -> Check {
    let text = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    let most = text.trim().parse::<u64>().unwrap_or(0);
    let restricted =
        |path: &str, value: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    let refused = most == 0
        || restricted("/proc/sys/kernel/unprivileged_userns_clone", "0")
        || restricted("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1");
    if !refused {
        return good("user namespaces", "allowed");
    }
    let cost = "runs that ordinary users start cannot have sockets and credential files hidden from them";
    let hint =
        "allow them (`sysctl user.max_user_namespaces`, or an AppArmor profile with `userns` for writ)";
    finding("user namespaces", CheckState::Weaker, ["restricted for ordinary users", cost, hint])
}

fn secret_memory() -> Check {
    match Secret::<[u8]>::new(vec![0]).map(|probe| probe.protection()) {
        Ok(Protection::MemfdSecret) => good("secret memory", "memfd_secret"),
        Ok(Protection::Locked) => finding(
            "secret memory",
            CheckState::Weaker,
            [
                "locked pages",
                "root on this host can read lent credentials in the daemon's memory",
                "boot with `secretmem.enable=1`",
            ],
        ),
        Err(error) => finding(
            "secret memory",
            CheckState::Bad,
            [&error.to_string(), "no credential can be kept", "raise RLIMIT_MEMLOCK"],
        ),
    }
}

fn filesystem(path: &Path) -> Option<u64> {
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    u64::try_from(rustix::fs::fstatfs(&file).ok()?.f_type).ok()
}
