//! What makes a run's TLS clients trust its session's authority: files below `/run/writ/runs/RUN` and, for what is governed
//! without having been launched, `/run/writ/agents/AGENT`. Readable by all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use writ_core::{AgentName, Layout, RunId};
use writ_host::durable::{self, FileError};
use writ_session::launch::Certificates;

/// Where the system's roots lie on the distributions that we know; the first that is there is taken.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// Writes the root alone, and together with the system's roots.
pub(crate) fn write(layout: &Layout, run: RunId, root_pem: &str) -> Result<Certificates, FileError> {
    durable::folder(&layout.run(), 0o755)?;
    durable::folder(&layout.run_files(), 0o755)?;
    fill(&folder(layout, run), root_pem)
}

/// The same for what is governed without having been launched: `/run/writ/agents/AGENT`, which units can name before
/// there is any run.
pub(crate) fn write_for_agent(
    layout: &Layout,
    agent: &AgentName,
    root_pem: &str,
) -> Result<Certificates, FileError> {
    let agents = layout.agent_files();
    durable::folder(&agents, 0o755)?;
    fill(&agents.join(agent.as_str()), root_pem)
}

fn fill(folder: &Path, root_pem: &str) -> Result<Certificates, FileError> {
    durable::folder(folder, 0o755)?;
    let (authority, bundle) = (folder.join("ca.pem"), folder.join("bundle.pem"));
    durable::replace(&authority, root_pem.as_bytes(), 0o644)?;
    let mut all = system_roots();
    all.push_str(root_pem);
    durable::replace(&bundle, all.as_bytes(), 0o644)?;
    let truststore = folder.join("truststore.jks");
    durable::replace(&truststore, &java(&all), 0o644)?;
    Ok(Certificates { authority, bundle, truststore: Some(truststore) })
}

/// The roots as Java wants them: a key store of its first format (`sun.security.provider.JavaKeyStore`), which every Java
/// reads and which is little more than a list.
///
/// Magic, version, number of entries; for each the tag of a trusted certificate, an alias, a time, the kind and the
/// certificate; at the end SHA-1 over password, salt and all before. There is nothing secret in it: the password is
/// the one that Java tries by itself, and guards nothing.
fn java(bundle: &str) -> Vec<u8> {
    // A root that cannot be read is none that could be trusted.
    let roots: Vec<_> = CertificateDer::pem_slice_iter(bundle.as_bytes()).filter_map(Result::ok).collect();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
    let text = |text: &str| {
        [&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes()[..], text.as_bytes()].concat()
    };
    let mut store = [&0xfeed_feed_u32.to_be_bytes()[..], &number(2), &number(roots.len())].concat();
    for (n, root) in roots.iter().enumerate() {
        const TRUSTED: usize = 2;
        let head = [&number(TRUSTED)[..], &text(&format!("root-{n}")), &[0; 8], &text("X.509")].concat();
        store.extend([head.as_slice(), &number(root.len()), root.as_ref()].concat());
    }
    let password: Vec<u8> = "changeit".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let salted = [&password[..], b"Mighty Aphrodite", &store].concat();
    store.extend(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &salted).as_ref());
    store
}

/// Removes a run's files. That there are none is no error.
pub(crate) fn remove(layout: &Layout, run: RunId) -> io::Result<()> {
    match fs::remove_dir_all(folder(layout, run)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn folder(layout: &Layout, run: RunId) -> PathBuf {
    layout.run_files().join(run.to_string())
}

/// The system's roots; none where the system has none, and then the run trusts its own authority alone.
fn system_roots() -> String {
    let bundle = SYSTEM_BUNDLES.iter().map(Path::new).find_map(|path| fs::read_to_string(path).ok());
    let mut text = bundle.unwrap_or_default();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
