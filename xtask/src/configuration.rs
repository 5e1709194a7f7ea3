//! The reference page of the configuration, and one full example of each kind of file.
//!
//! Both are written from the keys that the readers themselves use. What is here beside them is a value for each key
//! that has no default; an example is complete, so the real reader must accept it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use writ_core::config::{Absent, KeyDoc, reference};

/// One kind of file.
struct Kind {
    title: &'static str,
    about: &'static str,
    example: &'static str,
    keys: &'static [KeyDoc],
    /// Tables that are written `[[name]]`.
    lists: &'static [&'static str],
    /// Key and TOML text, for keys without a default or whose default does not show what they are for. With `# ` before it
    /// the key is shown as a comment: it cannot stand beside another one.
    values: &'static [(&'static str, &'static str)],
}

const KINDS: [Kind; 4] = [
    Kind {
        title: "The daemon: `writd.toml`",
        about: "Read once, at the start. An absent file is an empty one.",
        example: "docs/reference/examples/writd.toml",
        keys: writd::settings::KEYS,
        lists: &["govern", "identity.federation", "tokens.audience", "human.issuer"],
        values: &[
            ("govern.processes", "{ program = \"/usr/local/bin/coder\" }"),
            ("attest.kubelet.address", "\"127.0.0.1:10250\""),
            ("attest.kubelet.server_name", "\"node-1\""),
            ("attest.kubelet.ca_file", "\"/etc/kubernetes/kubelet-ca.pem\""),
            ("attest.kubelet.token_file", "\"/var/run/secrets/kubernetes.io/serviceaccount/token\""),
            ("identity.jwt_issuer", "\"https://id.example.com\""),
            ("identity.file.certificate", "\"/etc/writ/ca.pem\""),
            ("identity.file.key", "\"/etc/writ/ca-key.pem\""),
            ("identity.file.bundle", "\"/etc/writ/roots.pem\""),
            ("identity.csr.request", "\"/var/lib/writ-csr/request.pem\""),
            ("identity.csr.certificate", "\"/var/lib/writ-csr/certificate.pem\""),
            ("identity.vault.address", "\"https://vault.example.com:8200\""),
            ("identity.vault.namespace", "\"platform\""),
            ("identity.vault.ca_file", "\"/etc/writ/vault-ca.pem\""),
            ("identity.vault.token_file", "\"/run/vault/token\""),
            ("identity.vault.jwt_file", "\"/run/vault/jwt\""),
            ("identity.vault.role", "\"writ\""),
            ("identity.federation.trust_domain", "\"partner.example\""),
            ("identity.federation.url", "\"https://bundle.partner.example/bundle\""),
            ("identity.federation.profile", "\"https_spiffe\""),
            ("identity.federation.endpoint_id", "\"spiffe://partner.example/bundle\""),
            ("identity.federation.bootstrap", "\"/etc/writ/partner.json\""),
            ("identity.federation.ca_file", "\"/etc/writ/partner-ca.pem\""),
            ("workload.https.listen", "\"0.0.0.0:8443\""),
            ("workload.https.certificate", "\"/etc/writ/web.pem\""),
            ("workload.https.key", "\"/etc/writ/web-key.pem\""),
            ("workload.https.spiffe_id", "# \"spiffe://writ.local/writ/web\""),
            ("tokens.subject_audiences", "[\"https://id.example.com\"]"),
            ("tokens.audience.audience", "\"https://api.example.com\""),
            ("tokens.audience.scopes", "[\"read\", \"write\"]"),
            ("tokens.audience.agents", "[\"coder\"]"),
            ("tokens.audience.workload", "\"spiffe://writ.local/agent/api\""),
            ("tokens.audience.service", "\"api\""),
            ("human.issuer.name", "\"corp\""),
            ("human.issuer.issuer", "\"https://login.example.com\""),
            ("human.issuer.client_id", "\"writ\""),
            ("human.issuer.client_secret", "\"corp-client\""),
            ("human.issuer.groups.*", "{ \"team-7\" = \"corp:platform\" }"),
            ("human.issuer.audiences", "[\"https://api.example.com\"]"),
            ("human.issuer.ca_file", "\"/etc/writ/login-ca.pem\""),
            ("human.issuer.max_age", "\"12h\""),
            ("human.issuer.acr_values", "[\"urn:mace:incommon:iap:silver\"]"),
            ("human.issuer.prompt", "\"select_account\""),
            ("human.issuer.signals.issuer", "\"https://signals.example.com\""),
            ("human.issuer.signals.jwks", "\"https://signals.example.com/jwks\""),
            ("human.issuer.signals.audience", "\"https://writ.example.com/signals\""),
            ("human.issuer.signals.endpoint", "# \"https://signals.example.com/poll\""),
            ("human.issuer.signals.token", "\"signals-token\""),
        ],
    },
    Kind {
        title: "Agents: `agents/NAME.toml`",
        about: "One registered kind of agent a file; the file's name is the agent's. What it may do is policy's.",
        example: "docs/reference/examples/agent.toml",
        keys: writ_session::AGENT_KEYS,
        lists: &["match", "govern", "serve"],
        values: &[
            ("owner", "\"platform@example.com\""),
            ("match.selectors", "[\"exe:path:/usr/bin/coder\", \"unix:user:agent\"]"),
            ("pin", "\"first-use\""),
            ("acts_for", "\"caller\""),
            ("owner_human", "# \"unix:alice\""),
            ("serve.listen", "\"0.0.0.0:8600\""),
            ("serve.to", "8700"),
            ("serve.tls", "\"files\""),
            ("serve.certificate", "\"/etc/writ/door.pem\""),
            ("serve.key", "\"/etc/writ/door-key.pem\""),
            ("serve.audience", "\"https://api.example.com\""),
            ("serve.issuer", "\"https://login.example.com\""),
            ("serve.token_header", "\"x-access-token\""),
            ("serve.open", "[\"/health\", \"/public/*\"]"),
            ("serve.agents", "# [\"agent:planner\"]"),
            ("mcp", "# \"files\""),
            ("may_start", "[\"reviewer\"]"),
            ("govern.processes", "{ unit = \"coder.service\" }"),
            ("user", "\"agent\""),
            ("unix_sockets", "[\"/run/postgresql/.s.PGSQL.5432\"]"),
            ("files", "[\"~/.config/tool/settings.toml\"]"),
            ("environment", "[\"BUILD_TOKEN_COUNT\"]"),
            ("placeholders.*", "{ EXAMPLE_API_KEY = \"writ-placeholder\" }"),
        ],
    },
    Kind {
        title: "Services: `services/NAME.toml`",
        about: "One upstream a file: where it is, what it is lent, what can be done there.",
        example: "docs/reference/examples/service.toml",
        keys: writ_catalog::KEYS,
        lists: &["operation"],
        values: &[
            ("name", "\"forge\""),
            ("hosts", "[\"forge.example.com\", \"*.cdn.example.com\"]"),
            ("ports", "[443]"),
            ("addresses", "[\"192.0.2.7\"]"),
            ("upstream.spiffe", "# \"agent:api\""),
            ("upstream.address", "\"192.0.2.7:8443\""),
            ("upstream.ca_file", "\"/etc/writ/forge-ca.pem\""),
            ("credential.secret", "\"forge-token\""),
            ("credential.place", "{ basic = \"x-access-token\" }"),
            ("operation.name", "\"issues.create\""),
            ("operation.effect", "\"write\""),
            ("operation.methods", "[\"POST\"]"),
            ("operation.path", "\"/api/repos/{owner}/{repo}/issues\""),
            ("operation.query.*", "{ api-version = \"3\" }"),
            ("operation.parameters", "# [\"page\", \"per_page\"]"),
            ("operation.headers.*", "# { x-amz-target = \"DynamoDB_20120810.GetItem\" }"),
            ("operation.form.*", "# { Action = \"RunInstances\" }"),
            ("operation.arguments.*", "{ title = \"body:/title string\", draft = \"body:/draft boolean?\" }"),
            ("operation.labels", "# [\"read:untrusted\"]"),
            ("operation.graphql", "# \"mutation createIssue\""),
            ("operation.mcp", "# \"tools/call create_issue\""),
            (
                "operation.digest",
                "# \"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"",
            ),
        ],
    },
    Kind {
        title: "Samples: `policies/samples/*.toml`",
        about: "What the policies beside them must answer; `writ policy test` asks. The daemon does not read them.",
        example: "docs/reference/examples/samples.toml",
        keys: writ_policy::SAMPLE_KEYS,
        lists: &["sample"],
        values: &[
            ("sample.title", "\"no policy lets the agent open an issue\""),
            ("sample.agent", "\"coder\""),
            ("sample.human", "\"unix:alice\""),
            ("sample.groups", "[\"unix:developers\"]"),
            ("sample.chain", "[\"planner\"]"),
            ("sample.purpose", "\"tidy the front page\""),
            ("sample.operation", "\"forge/issues.create\""),
            ("sample.arguments.*", "{ owner = \"acme\", repo = \"site\", title = \"a bug\", draft = false }"),
            ("sample.labels", "[\"read:untrusted\"]"),
            ("sample.age", "\"5m\""),
            ("sample.done.*", "{ read = 3 }"),
            ("sample.programs", "[\"/usr/bin/git\"]"),
            ("sample.expect", "\"refuse\""),
            ("sample.reason", "\"policy.agent_not_permitted\""),
            ("sample.owes", "# [\"approve owner, 10m\"]"),
        ],
    },
];

/// The page.
pub(crate) fn page() -> Result<String> {
    let mut page = String::from(
        "# Configuration\n\nEverything lies below `/etc/writ` (`--root DIR` puts it below DIR). `writ reload` and SIGHUP \
         read it again, but for `writd.toml`; a set with any problem is refused whole, with file, line and key, and the \
         old one stays. An unknown key is a problem. Settings marked as a danger weaken safety; the daemon warns of \
         each and records it. Policies (`policies/*.cedar`) are described in [policy.md](../policy.md).\n\nWritten from \
         the keys that the readers use.\n",
    );
    for kind in &KINDS {
        let link = kind.example.trim_start_matches("docs/reference/");
        let table = reference(kind.keys);
        write!(page, "\n## {}\n\n{} A full example: [{link}]({link}).\n\n{table}", kind.title, kind.about)?;
    }
    Ok(page)
}

/// Every example: its path and text.
pub(crate) fn examples() -> Result<Vec<(&'static str, String)>> {
    KINDS.iter().map(|kind| Ok((kind.example, example(kind)?))).collect()
}

fn example(kind: &Kind) -> Result<String> {
    let values: BTreeMap<&str, &str> = kind.values.iter().copied().collect();
    let mut text =
        format!("# {}\n# {}\n# Every key is here; most can be left out.\n", kind.title, kind.about);
    // TOML wants the keys of the file itself before any table.
    let (mut own, mut tables) = (Vec::new(), Vec::<(&str, Vec<_>)>::new());
    for doc in kind.keys {
        let key = doc.key.trim_end_matches(".*");
        let list =
            kind.lists.iter().find_map(|list| Some((*list, key.strip_prefix(list)?.strip_prefix('.')?)));
        match list.or_else(|| key.split_once('.')) {
            None => own.push((key, doc)),
            Some((table, key)) => match tables.iter_mut().find(|(name, _)| *name == table) {
                Some((_, keys)) => keys.push((key, doc)),
                None => tables.push((table, vec![(key, doc)])),
            },
        }
    }
    write_keys(&mut text, &own, &values)?;
    for (table, keys) in &tables {
        let header = if kind.lists.contains(table) { format!("[[{table}]]") } else { format!("[{table}]") };
        write!(text, "\n{header}")?;
        write_keys(&mut text, keys, &values)?;
    }
    Ok(text)
}

fn write_keys(text: &mut String, keys: &[(&str, &KeyDoc)], values: &BTreeMap<&str, &str>) -> Result<()> {
    for (key, doc) in keys {
        let (value, absent) = match (values.get(doc.key), doc.absent) {
            (Some(value), Absent::Required) => (*value, "required".to_owned()),
            (Some(value), Absent::Default(default)) => (*value, format!("when absent: {default}")),
            (Some(value), Absent::Means(means)) => (*value, format!("when absent: {means}")),
            (None, Absent::Default(default)) => (default, "the default".to_owned()),
            (None, _) => {
                return Err(anyhow::anyhow!("xtask/src/configuration.rs: no value for `{}`", doc.key));
            }
        };
        let mut lines = format!("{} Value: {}; {absent}.", doc.effect, doc.kind);
        if let Some(danger) = doc.danger {
            write!(lines, " DANGER: {danger}.", danger = danger.trim_end_matches('.'))?;
        }
        writeln!(text)?;
        for line in wrap(&lines, 100) {
            writeln!(text, "# {line}")?;
        }
        match value.strip_prefix("# ") {
            Some(value) => writeln!(text, "# {key} = {value}")?,
            None => writeln!(text, "{key} = {value}")?,
        }
    }
    Ok(())
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The text of one example, by the end of its path.
#[cfg(test)]
fn text_of(file: &str) -> Result<String> {
    let found = examples()?.into_iter().find(|(path, _)| path.ends_with(file));
    found.map(|(_, text)| text).ok_or_else(|| anyhow::anyhow!("no example `{file}`"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use writ_core::config::Problems;
    use writ_core::{Reason, Service};

    use super::*;

    fn read<T>(read: impl FnOnce(&mut Problems) -> Option<T>) -> T {
        let mut problems = Problems::default();
        let value = read(&mut problems);
        assert!(problems.is_empty(), "{problems}");
        value.unwrap()
    }

    fn services() -> Vec<Arc<Service>> {
        let text = text_of("service.toml").unwrap();
        let files = [("service.toml", text.as_str())];
        read(|problems| writ_catalog::Services::read(files, problems)).iter().cloned().collect()
    }

    #[test]
    fn the_daemons_example_is_read_by_the_daemon() {
        let text = text_of("writd.toml").unwrap();
        let settings = read(|problems| writd::settings::Settings::read("writd.toml", &text, problems));
        assert_eq!(settings.cgroup, "writ");
    }

    #[test]
    fn the_agents_example_is_an_agent() {
        let text = text_of("agent.toml").unwrap();
        let agent = read(|problems| writ_session::Agent::read("coder", "agent.toml", &text, problems));
        assert_eq!(agent.concurrent_runs_max, 16);
        assert!(agent.dangers().is_empty(), "an example must not weaken safety");
    }

    #[test]
    fn the_services_example_is_a_service() {
        let services = services();
        assert_eq!(services.first().unwrap().name.as_str(), "forge");
    }

    #[test]
    fn the_samples_example_is_a_sample() {
        let files = [("samples.toml".into(), text_of("samples.toml").unwrap())];
        let samples = writ_policy::read_samples(&files, &services());
        let samples = samples.unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(
            samples.first().unwrap().expect,
            writ_policy::Expect::Refuse(Some(Reason::AgentNotPermitted))
        );
    }
}
