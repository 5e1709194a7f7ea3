//! A network namespace with only loopback up, for the calling thread and what it starts.

use std::process::Command;

use rustix::thread::UnshareFlags;

/// Moves the calling thread into a network namespace of its own. `false` (with the reason printed) if this process may
/// not; the test is then skipped.
#[must_use]
pub fn enter(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: {test}: needs root for namespaces, cgroups and BPF");
        return false;
    }
    #[expect(deprecated, reason = "the safe successor asks for a scope that a whole test is")]
    rustix::thread::unshare(UnshareFlags::NEWNET).expect("own network namespace");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip");
    assert!(up.success(), "loopback is not up");
    // A default route, so that a packet for elsewhere reaches the egress filter instead of failing for want of a way.
    for family in ["-4", "-6"] {
        let route =
            Command::new("ip").args([family, "route", "add", "default", "dev", "lo"]).status().expect("ip");
        assert!(route.success(), "no default route {family}");
    }
    true
}
