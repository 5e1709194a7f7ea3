//! The forge of `demo/forge`: nginx, git-http-backend and a REST API behind one token.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A running forge; ends when dropped.
#[derive(Debug)]
pub struct Forge {
    dir: PathBuf,
    port: u16,
}

impl Forge {
    /// Starts it below `dir`, listening on loopback.
    pub fn start(dir: &Path) -> Self {
        let forge = Self { dir: dir.to_owned(), port: 8443 };
        let status = Command::new(scripts().join("start"))
            .arg(dir)
            .arg(forge.port.to_string())
            .status()
            .expect("demo/forge/start");
        assert!(status.success(), "the forge did not start");
        forge
    }

    /// The token that opens it: the planted secret.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.dir.join("token")).expect("token")
    }

    /// The root that its certificate hangs on.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The bare repository `acme/site`.
    pub fn repository(&self) -> PathBuf {
        self.dir.join("git/acme/site.git")
    }

    /// Requests that reached it, as nginx wrote them down.
    pub fn access_log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log/access.log")).unwrap_or_default()
    }
}

impl Drop for Forge {
    fn drop(&mut self) {
        drop(Command::new(scripts().join("stop")).arg(&self.dir).status());
    }
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo/forge")
}
