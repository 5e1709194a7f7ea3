//! `writd.toml`: the daemon's own settings. Read once at start; `writ reload` does not touch them.

use std::path::PathBuf;

use writ_core::config::{self, KeyDoc, Problems, Table};
use writ_core::{AgentName, TrustDomain};
use writ_human::Issuer;
use writ_identity::IdentitySettings;
use writ_identity::exchange::TokenSettings;
use writ_session::{Govern, Kubelet, Runtimes, govern};

/// The daemon's settings, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The SPIFFE trust domain of runs.
    pub trust_domain: TrustDomain,
    /// Name of the cgroup below the cgroup2 mount.
    pub cgroup: String,
    /// The cgroup below which processes may be governed that Writ did not launch.
    pub watch: PathBuf,
    /// Which ones.
    pub govern: Vec<Govern>,
    /// What the log prints.
    pub log_filter: String,
    /// As JSON lines instead of text.
    pub log_json: bool,
    /// Where the container runtimes of this host are asked.
    pub runtimes: Runtimes,
    /// How this node's kubelet is asked, if it is a Kubernetes node.
    pub kubelet: Option<Kubelet>,
    /// Who signs the identities of runs, and how long they hold.
    pub identity: IdentitySettings,
    /// Where identities are served.
    pub workload: writ_workload::settings::Settings,
    /// For whom tokens are issued.
    pub tokens: TokenSettings,
    /// Whose word about people is taken.
    pub issuers: Vec<Issuer>,
}

/// Every key, with its meaning.
pub const KEYS: &[KeyDoc] =
    &config::join::<KEYS_IN_ALL>(&[OWN, writ_identity::KEYS, WORKLOAD, TOKENS, writ_human::KEYS]);

const KEYS_IN_ALL: usize =
    OWN.len() + writ_identity::KEYS.len() + WORKLOAD.len() + TOKENS.len() + writ_human::KEYS.len();
const TOKENS: &[KeyDoc] = writ_identity::exchange::KEYS;

const WORKLOAD: &[KeyDoc] = writ_workload::settings::KEYS;

const OWN: &[KeyDoc] = &[
    KeyDoc::defaulted(
        "trust_domain",
        "SPIFFE trust domain",
        "\"writ.local\"",
        "The trust domain in the SPIFFE ID of every run, and the origin of the evidence log. Fixed once evidence exists.",
    ),
    KeyDoc::defaulted(
        "capture.cgroup",
        "name",
        "\"writ\"",
        "The cgroup below the cgroup2 mount that holds the daemon and all runs. Two daemons must not share one.",
    ),
    KeyDoc::defaulted(
        "capture.watch",
        "absolute path from the root of the cgroups",
        "\"/\"",
        "The cgroup below which `[[govern]]` looks for processes. While there is such a block, the kernel's part is attached \
         there, and passes over whatever no block names.",
    ),
    govern::KEY,
    KeyDoc::defaulted(
        "attest.docker_socket",
        "absolute path",
        "\"/run/docker.sock\"",
        "Where Docker tells what its containers are.",
    ),
    KeyDoc::defaulted(
        "attest.podman_socket",
        "absolute path",
        "\"/run/podman/podman.sock\"",
        "Where Podman tells what its containers are (`podman.socket`). It answers for a container once that has started: one \
         that is governed by a label is held until then.",
    ),
    KeyDoc::optional(
        "attest.kubelet.address",
        "IP address and port",
        "this host is no Kubernetes node: `k8s:` selectors hold for nobody",
        "Where this node's kubelet tells which pods it runs.",
    ),
    KeyDoc::optional(
        "attest.kubelet.server_name",
        "host name",
        "required with `address`",
        "The name in the kubelet's certificate.",
    ),
    KeyDoc::optional(
        "attest.kubelet.ca_file",
        "absolute path",
        "required with `address`",
        "The CA of that certificate, PEM.",
    ),
    KeyDoc::optional(
        "attest.kubelet.token_file",
        "absolute path",
        "required with `address`",
        "A service account's token that may `get` `nodes/proxy`; read for each question.",
    ),
    KeyDoc::defaulted(
        "log.filter",
        "log filter",
        "\"info\"",
        "What the daemon prints: a level, or `target=level` pairs as in `info,writ::proxy=debug`.",
    ),
    KeyDoc::defaulted("log.format", "`text` or `json`", "\"text\"", "How the daemon prints it."),
];

impl Settings {
    /// Reads the text of `writd.toml`; an absent file is an empty one.
    pub fn read(file: &str, text: &str, problems: &mut Problems) -> Option<Self> {
        config::read(file, text, KEYS, problems, Self::from_table)
    }

    fn from_table(table: &Table<'_>) -> Option<Self> {
        let domain: Option<String> = table.defaulted("trust_domain");
        let capture = table.sub_table("capture");
        // A cgroup's name obeys the rule of an agent's: one path segment, never `.` or `..`.
        let cgroup: Option<AgentName> = capture.defaulted("cgroup");
        let watch: Option<PathBuf> = capture.defaulted("watch");
        let log = table.sub_table("log");
        let filter: Option<String> = log.defaulted("filter");
        let format: Option<String> = log.defaulted("format");
        let log_json = match format?.as_str() {
            "text" => false,
            "json" => true,
            other => {
                log.problem("format", format!("`{other}` is no log format"), Some("write `text` or `json`"));
                return None;
            }
        };
        let trust_domain = match TrustDomain::new(&domain?) {
            Ok(domain) => domain,
            Err(error) => {
                table.problem("trust_domain", error.to_string(), None);
                return None;
            }
        };
        let attest = table.sub_table("attest");
        let (docker, podman) = (attest.defaulted("docker_socket"), attest.defaulted("podman_socket"));
        let kubelet = kubelet(&attest.sub_table("kubelet"));
        let identity = writ_identity::settings(table, &trust_domain);
        let workload = writ_workload::settings::Settings::from_table(table, &trust_domain);
        let tokens = writ_identity::exchange::token_settings(table, &trust_domain);
        let issuers = writ_human::issuers(table);
        Some(Self {
            trust_domain,
            cgroup: cgroup?.to_string(),
            watch: watch?,
            govern: govern::read(table),
            log_filter: filter?,
            log_json,
            runtimes: Runtimes { docker_socket: docker?, podman_socket: podman?, ..Runtimes::default() },
            kubelet: kubelet?,
            identity: identity?,
            workload: workload?,
            tokens: tokens?,
            issuers: issuers?,
        })
    }
}

/// `None` if something is wrong; `Some(None)` if nothing is said.
#[expect(clippy::option_option, reason = "absent and wrong are two things")]
fn kubelet(table: &Table<'_>) -> Option<Option<Kubelet>> {
    if !table.is_present() {
        return Some(None);
    }
    let (address, server_name) = (table.required("address"), table.required("server_name"));
    let (ca_file, token_file) = (table.required("ca_file"), table.required("token_file"));
    Some(Some(Kubelet {
        address: address?,
        server_name: server_name?,
        ca_file: ca_file?,
        token_file: token_file?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let mut problems = Problems::default();
        Settings::read("writd.toml", text, &mut problems).ok_or_else(|| problems.to_string())
    }

    #[test]
    fn nothing_said_is_a_plain_install() {
        let settings = read("").unwrap();
        assert_eq!(settings.trust_domain.as_str(), "writ.local");
        assert_eq!(settings.cgroup, "writ");
        assert!(settings.watch.as_os_str() == "/" && settings.govern.is_empty());
    }

    #[test]
    fn mistakes_name_file_line_and_key() {
        let said = read("trust_domain = \"Example.ORG\"\n[capture]\ncgrop = \"x\"\n").unwrap_err();
        assert!(said.contains("writd.toml:3:1") && said.contains("did you mean `cgroup`"), "{said}");
        assert!(read("trust_domain = \"Example.ORG\"").unwrap_err().contains("writd.toml:1"));
        assert!(read("[capture]\ncgroup = \"../x\"").is_err());
        assert!(read("[capture]\nwatch = \"agents\"").unwrap_err().contains("writd.toml:2"));
        let unit = read("[[govern]]\nprocesses = { unit = \"ci.service\" }").unwrap();
        assert_eq!(unit.govern.len(), 1);
        assert!(read("[[govern]]\nprocesses = { unit = \"ci\" }").unwrap_err().contains("writd.toml:2"));
        assert!(read("[log]\nformat = \"xml\"").is_err());
    }
}
