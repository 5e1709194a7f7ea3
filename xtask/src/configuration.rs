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
    /// Key and TOML text, for keys without a default or whose default does not show what they are for.
    values: &'static [(&'static str, &'static str)],
}

const KINDS: [Kind; 4] = [
    Kind {
        title: "The daemon: `writd.toml`",
        about: "Read once, at the start. An absent file is an empty one.",
        example: "docs/reference/examples/writd.toml",
        keys: writd::settings::KEYS,
        lists: &[],
        values: &[],
    },
    Kind {
        title: "Agents: `agents/NAME.toml`",
        about: "One registered kind of agent a file; the file's name is the agent's. What it may do is policy's.",
        example: "docs/reference/examples/agent.toml",
        keys: writ_session::AGENT_KEYS,
        lists: &["match", "govern"],
        values: &[
            ("owner", "\"platform@example.com\""),
            ("match.selectors", "[\"exe:path:/usr/bin/coder\", \"unix:user:agent\"]"),
            ("pin", "\"first-use\""),
            ("acts_for", "\"owner\""),
            ("owner_human", "\"unix:alice\""),
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
            ("upstream.address", "\"192.0.2.7:8443\""),
            ("upstream.ca_file", "\"/etc/writ/forge-ca.pem\""),
            ("credential.secret", "\"forge-token\""),
            ("credential.place", "{ basic = \"x-access-token\" }"),
            ("operation.name", "\"repo.fetch\""),
            ("operation.effect", "\"read\""),
            ("operation.methods", "[\"GET\"]"),
            ("operation.path", "\"/{owner}/{repo}.git/info/refs\""),
            ("operation.query.*", "{ service = \"git-upload-pack\" }"),
        ],
    },
    Kind {
        title: "Samples: `policies/samples/*.toml`",
        about: "What the policies beside them must answer; `writ policy test` asks. The daemon does not read them.",
        example: "docs/reference/examples/samples.toml",
        keys: writ_policy::SAMPLE_KEYS,
        lists: &["sample"],
        values: &[
            ("sample.title", "\"no policy lets the agent fetch\""),
            ("sample.agent", "\"coder\""),
            ("sample.human", "\"unix:alice\""),
            ("sample.groups", "[\"unix:developers\"]"),
            ("sample.purpose", "\"tidy the front page\""),
            ("sample.operation", "\"forge/repo.fetch\""),
            ("sample.arguments.*", "{ owner = \"acme\", repo = \"site\" }"),
            ("sample.expect", "\"refuse\""),
            ("sample.reason", "\"policy.agent_not_permitted\""),
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
        match key.split_once('.') {
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
        writeln!(text, "{key} = {value}")?;
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
