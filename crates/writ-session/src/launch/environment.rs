//! The environment of a run: the caller's, without what looks like a credential, a socket or a proxy, with harmless
//! placeholders, and with every common TLS client pointed at the run's CA.
//!
//! Pure. `LD_PRELOAD` and `LD_AUDIT` go, because they put other code into the program that was attested;
//! `LD_LIBRARY_PATH`, `NODE_OPTIONS` and the like stay, because programs need them, and whoever can set them can
//! change the program's files as well. Java takes its trust store from `JAVA_TOOL_OPTIONS`, if the daemon made one.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::Prepared;
use super::table;

type Variables = BTreeMap<OsString, OsString>;

/// The whole environment of the run, by name.
pub(super) fn of_run(caller: &[(OsString, OsString)], prepared: &Prepared) -> Vec<(OsString, OsString)> {
    let kept = |name: &str| prepared.terms.environment.iter().any(|pattern| covers(pattern, name));
    let mut run = Variables::new();
    let mut removed = Vec::new();
    for (name, value) in caller {
        let text = name.to_string_lossy();
        if kept(&text) || !is_credential(&text, value) {
            run.insert(name.clone(), value.clone());
        } else {
            removed.push(text.into_owned());
        }
    }
    for (name, value, always) in table::PLACEHOLDERS {
        let wanted = *always || removed.iter().any(|gone| gone == name);
        if wanted && !kept(name) {
            run.insert(name.into(), value.into());
        }
    }
    run.extend(prepared.terms.placeholders.iter().map(|(name, value)| (name.into(), value.into())));
    if let Some(user) = &prepared.become_user {
        run.insert("HOME".into(), prepared.home.clone().into());
        run.extend(["USER", "LOGNAME"].map(|name| (name.into(), (&user.name).into())));
    }
    trust(&mut run, prepared);
    run.extend(prepared.variables.iter().map(|(name, value)| (name.into(), value.into())));
    run.into_iter().collect()
}

fn trust(run: &mut Variables, prepared: &Prepared) {
    let certificates = &prepared.certificates;
    for name in table::CA_REMOVED {
        run.remove(OsStr::new(name));
    }
    run.extend(table::CA_ALONE.iter().map(|name| (name.into(), certificates.authority.clone().into())));
    run.extend(table::CA_BUNDLE.iter().map(|name| (name.into(), certificates.bundle.clone().into())));
    if let Some(store) = &certificates.truststore {
        let options = run.entry("JAVA_TOOL_OPTIONS".into()).or_default();
        if !options.is_empty() {
            options.push(" ");
        }
        options.push("-Djavax.net.ssl.trustStoreType=JKS -Djavax.net.ssl.trustStore=");
        options.push(store);
        options.push(" -Djavax.net.ssl.trustStorePassword=changeit");
    }
}

/// A name, or the beginning of one followed by `*`.
fn covers(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |head| name.starts_with(head))
}

fn is_credential(name: &str, value: &OsStr) -> bool {
    if table::REMOVED.contains(&name) {
        return true;
    }
    if table::KEPT.contains(&name) {
        return false;
    }
    let upper = name.to_ascii_uppercase();
    let named = table::REMOVED_PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
        || table::REMOVED_SUFFIXES.iter().any(|suffix| upper.ends_with(suffix))
        || table::REMOVED_WORDS.contains(&upper.as_str());
    named || tells(&value.to_string_lossy())
}

/// Whether a value has the look of a credential: a known prefix at the beginning of a word, or `//user:pass@`.
fn tells(value: &str) -> bool {
    let begins = |at: usize| {
        value
            .get(..at)
            .is_none_or(|head| !head.ends_with(|c: char| c.is_ascii_alphanumeric() || "_-./".contains(c)))
    };
    let known = table::TELLTALE.iter().any(|mark| {
        // The mark alone is a word like another: `npm_` names a script's folder, say.
        value.match_indices(mark).any(|(at, _)| begins(at) && value.len() >= at + mark.len() + 12)
    });
    let login = value.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        authority.rsplit_once('@').is_some_and(|(login, _)| login.contains(':') || login.len() >= 20)
    });
    known || login
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::{Become, Certificates};

    fn prepared() -> Prepared {
        Prepared {
            uid: 1000,
            gid: 1000,
            home: "/home/ada".into(),
            become_user: None,
            terms: crate::agent::Terms::default(),
            hide: Vec::new(),
            certificates: Certificates {
                authority: "/r/ca.pem".into(),
                bundle: "/r/bundle.pem".into(),
                truststore: None,
            },
            variables: [("WRIT_SESSION".to_owned(), "S".to_owned())].into(),
            nested: false,
        }
    }

    fn run(caller: &[(&str, &str)], prepared: &Prepared) -> BTreeMap<String, String> {
        let caller: Vec<_> = caller.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let text = |text: OsString| text.into_string().unwrap();
        of_run(&caller, prepared).into_iter().map(|(k, v)| (text(k), text(v))).collect()
    }

    #[test]
    fn credentials_sockets_and_proxies_are_removed() {
        for name in [
            "AWS_SECRET_ACCESS_KEY",
            "AWS_ACCESS_KEY_ID",
            "AWS_SESSION_TOKEN",
            "STRIPE_SECRET_KEY",
            "MY_TOKEN",
            "token",
            "DB_PASSWORD",
            "db_password",
            "SSH_AUTH_SOCK",
            "DBUS_SESSION_BUS_ADDRESS",
            "DOCKER_HOST",
            "HTTPS_PROXY",
            "https_proxy",
            "SSLKEYLOGFILE",
            "LD_PRELOAD",
            "KUBECONFIG",
            "VAULT_TOKEN",
            "PGPASSWORD",
            "NPM_CONFIG__AUTH",
            "npm_config_//registry.example/:_authToken",
            "OP_SESSION_abc",
            "GIT_ASKPASS",
            "XDG_RUNTIME_DIR",
        ] {
            assert!(!run(&[(name, "value")], &prepared()).contains_key(name), "{name}");
        }
    }

    #[test]
    fn ordinary_variables_stay() {
        for (name, value) in [
            ("PATH", "/usr/bin"),
            ("HOME", "/home/ada"),
            ("LANG", "C.UTF-8"),
            ("TERM", "xterm"),
            ("PWD", "/x"),
            ("AWS_REGION", "eu-west-1"),
            ("LD_LIBRARY_PATH", "/lib"),
            ("NODE_OPTIONS", "--x"),
            ("EDITOR", "vi"),
            ("MONKEY", "1"),
            ("KEYBOARD", "us"),
            ("URL", "https://example.org/a@b:c"),
            ("npm_lifecycle_event", "x"),
        ] {
            assert_eq!(
                run(&[(name, value)], &prepared()).get(name).map(String::as_str),
                Some(value),
                "{name}"
            );
        }
    }

    #[test]
    fn a_value_that_looks_like_a_credential_is_removed_whatever_its_name() {
        for value in [
            "postgres://ada:hunter2@db/x",
            "ghp_0123456789abcdef0123456789abcdef0123",
            "-----BEGIN PRIVATE KEY-----x",
            "AKIAIOSFODNN7EXAMPLE",
            "https://0123456789abcdef01234567@example.org/1",
            "user=x key=sk-ant-0123456789abcdef",
        ] {
            assert!(!run(&[("HARMLESS", value)], &prepared()).contains_key("HARMLESS"), "{value}");
        }
    }

    #[test]
    fn grants_keep_a_variable_and_patterns_may_end_in_a_star() {
        let mut prepared = prepared();
        prepared.terms.environment = vec!["NPM_TOKEN".into(), "MY_*".into()];
        let run = run(&[("NPM_TOKEN", "a"), ("MY_SECRET", "b"), ("OTHER_SECRET", "c")], &prepared);
        assert_eq!((run["NPM_TOKEN"].as_str(), run["MY_SECRET"].as_str()), ("a", "b"));
        assert!(!run.contains_key("OTHER_SECRET"));
    }

    #[test]
    fn placeholders_stand_in_for_what_clients_insist_on() {
        let mut prepared = prepared();
        prepared.terms.placeholders = [("CORP_TOKEN".to_owned(), "none".to_owned())].into();
        let run = run(&[("SLACK_BOT_TOKEN", "xoxb-real-secret"), ("OPENAI_API_KEY", "sk-real")], &prepared);
        assert!(run["SLACK_BOT_TOKEN"].starts_with("xoxb-writ"));
        assert_eq!(run["OPENAI_API_KEY"], "writ-placeholder");
        assert_eq!(run["CORP_TOKEN"], "none");
        assert!(!run.contains_key("SLACK_APP_TOKEN"), "only where the caller had one");
    }

    #[test]
    fn every_tls_client_is_pointed_at_the_runs_ca() {
        let mut prepared = prepared();
        prepared.certificates.truststore = Some("/r/trust.jks".into());
        let caller =
            [("SSL_CERT_DIR", "/etc/ssl/certs"), ("JAVA_TOOL_OPTIONS", "-Xmx1g"), ("GIT_SSL_CAINFO", "/x")];
        let run = run(&caller, &prepared);
        for name in
            ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE"]
        {
            assert_eq!(run[name], "/r/bundle.pem", "{name}");
        }
        for name in ["NODE_EXTRA_CA_CERTS", "DENO_CERT"] {
            assert_eq!(run[name], "/r/ca.pem", "{name}");
        }
        assert!(!run.contains_key("SSL_CERT_DIR"));
        assert!(
            run["JAVA_TOOL_OPTIONS"].starts_with("-Xmx1g -Djavax")
                && run["JAVA_TOOL_OPTIONS"].contains("trust.jks")
        );
        assert_eq!(run["WRIT_SESSION"], "S");
    }

    #[test]
    fn a_run_that_becomes_another_user_has_that_users_home() {
        let mut prepared = prepared();
        prepared.become_user = Some(Become { name: "ada".into(), uid: 1000, gid: 1000, groups: Vec::new() });
        let run = run(&[("HOME", "/root"), ("USER", "root")], &prepared);
        assert_eq!(
            (run["HOME"].as_str(), run["USER"].as_str(), run["LOGNAME"].as_str()),
            ("/home/ada", "ada", "ada")
        );
    }
}
