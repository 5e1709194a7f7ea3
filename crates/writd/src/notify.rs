//! Tells a service manager how the daemon fares (`sd_notify(3)`): one datagram to `$NOTIFY_SOCKET`, if there is one.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends a state such as `READY=1` or `STOPPING=1`. That nobody listens is no error.
pub(crate) fn send(socket: Option<&OsStr>, state: &str) {
    let Some(path) = socket else { return };
    let sent =
        address(path).and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(target: "writ::writd", %error, "the service manager was not told");
    }
}

fn address(path: &OsStr) -> std::io::Result<SocketAddr> {
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    }
}
