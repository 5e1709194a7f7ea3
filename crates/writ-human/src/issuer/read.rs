//! Reads `[[human.issuer]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use writ_core::SecretName;
use writ_core::config::{KeyDoc, Table};
use writ_core::units::Span;

use super::{Delivery, Endpoint, Issuer, Transmitter};

/// Every key, with its meaning.
pub const KEYS: &[KeyDoc] = &[
    KeyDoc::required(
        "human.issuer.name",
        "lower-case letters, digits, `-`, `_`",
        "How the issuer is called, also in front of its groups. Not `unix`.",
    ),
    KeyDoc::required("human.issuer.issuer", "URL", "The issuer's identifier, exactly as its tokens say it."),
    KeyDoc::required("human.issuer.client_id", "text", "What the issuer calls this node."),
    KeyDoc::optional(
        "human.issuer.client_secret",
        "name of a secret",
        "a public client",
        "The client's secret, by its name in the store (`writ secret set`).",
    ),
    KeyDoc::defaulted(
        "human.issuer.scopes",
        "list of text",
        "[\"openid\", \"profile\", \"email\", \"offline_access\"]",
        "What a login asks for. `openid` is added; without `offline_access` most issuers give no refresh token.",
    ),
    KeyDoc::defaulted(
        "human.issuer.groups_claim",
        "claim, or a path with dots",
        "\"groups\"",
        "The claim that lists the human's groups.",
    ),
    KeyDoc::optional(
        "human.issuer.groups.*",
        "text",
        "`NAME:VALUE`",
        "What a group, given as its value in the claim, is called in policies.",
    ),
    KeyDoc::defaulted(
        "human.issuer.display_claim",
        "claim",
        "\"name\"",
        "The claim shown beside the human's id.",
    ),
    KeyDoc::optional(
        "human.issuer.audiences",
        "list of text",
        "no token of a caller is taken",
        "Audiences that callers' tokens may be for: those of your services, never one that others share.",
    ),
    KeyDoc::defaulted(
        "human.issuer.caller_id_tokens",
        "`true` or `false`",
        "false",
        "Take ID tokens from callers too, if they are for one of `audiences`.",
    ),
    KeyDoc::optional(
        "human.issuer.ca_file",
        "absolute path",
        "the system's roots",
        "PEM file of the roots that the issuer's TLS is verified against.",
    ),
    KeyDoc::optional(
        "human.issuer.max_age",
        "length of time",
        "no limit",
        "How long ago the human may have authenticated at the issuer. The sign-in ends then, refresh or not.",
    ),
    KeyDoc::optional(
        "human.issuer.acr_values",
        "list of text",
        "any",
        "Authentication contexts, most wanted first; one of them is required.",
    ),
    KeyDoc::optional(
        "human.issuer.prompt",
        "text",
        "`consent` with `offline_access`, as the standard wants it, and otherwise nothing",
        "What the issuer shall ask for at a login in a browser: `login`, `consent`, `select_account`; empty for nothing.",
    ),
    KeyDoc::defaulted(
        "human.issuer.danger.plain_loopback",
        "`true` or `false`",
        "false",
        "Let the issuer be reached without TLS, at a literal loopback address only.",
    )
    .danger("whoever can listen on that port of this machine is the issuer"),
    KeyDoc::optional(
        "human.issuer.signals.issuer",
        "URL",
        "no signals",
        "The identifier of the transmitter of security events, exactly as they say it.",
    ),
    KeyDoc::optional(
        "human.issuer.signals.jwks",
        "URL",
        "refused when there are signals",
        "Where the transmitter's keys are.",
    ),
    KeyDoc::optional(
        "human.issuer.signals.audience",
        "text",
        "refused when there are signals",
        "What the transmitter calls this receiver.",
    ),
    KeyDoc::defaulted("human.issuer.signals.deliver", "`push` or `poll`", "\"push\"", "How events come."),
    KeyDoc::optional(
        "human.issuer.signals.endpoint",
        "URL",
        "refused with `poll`",
        "Where events are fetched from.",
    ),
    KeyDoc::optional(
        "human.issuer.signals.token",
        "name of a secret",
        "the signature alone counts",
        "The bearer token: what the transmitter must show (`push`), or what is shown to it (`poll`).",
    ),
];

/// Reads every `[[human.issuer]]` of a file whose keys hold [`KEYS`]. `None` if a problem was reported.
pub fn issuers(root: &Table<'_>) -> Option<Vec<Issuer>> {
    let tables = root.sub_table("human").tables("issuer");
    let read: Vec<Option<Issuer>> = tables.iter().map(issuer).collect();
    let issuers = read.into_iter().collect::<Option<Vec<Issuer>>>()?;
    let mut fine = true;
    let (mut names, mut urls, mut transmitters) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (table, issuer) in tables.iter().zip(&issuers) {
        let again = |key: &str| table.problem(key, "another issuer has the same", None);
        if !names.insert(&issuer.name) {
            again("name");
            fine = false;
        }
        if !urls.insert(&issuer.issuer) {
            again("issuer");
            fine = false;
        }
        if issuer.signals.as_ref().is_some_and(|signals| !transmitters.insert(&signals.issuer)) {
            again("signals");
            fine = false;
        }
    }
    fine.then_some(issuers)
}

fn issuer(table: &Table<'_>) -> Option<Issuer> {
    let name: Option<String> = table.required("name");
    let url: Option<String> = table.required("issuer");
    let client_id: Option<String> = table.required("client_id");
    let client_secret: Option<SecretName> = table.optional("client_secret");
    let groups_claim: Option<String> = table.defaulted("groups_claim");
    let display_claim: Option<String> = table.defaulted("display_claim");
    let caller_id_tokens: Option<bool> = table.defaulted("caller_id_tokens");
    let plain_loopback: Option<bool> = table.sub_table("danger").defaulted("plain_loopback");
    let told = table.sub_table("signals");
    let signals = told.is_present().then(|| transmitter(&told, plain_loopback == Some(true)));
    let read = Issuer {
        name: name?.into(),
        issuer: url?,
        client_id: client_id?,
        client_secret,
        scopes: scopes(table.list("scopes")),
        groups_claim: groups_claim?,
        groups: table.map("groups"),
        display_claim: display_claim?,
        audiences: table.list("audiences"),
        caller_id_tokens: caller_id_tokens?,
        ca_file: table.optional::<PathBuf>("ca_file"),
        max_age: table.optional::<Span>("max_age").map(Span::get),
        acr_values: table.list("acr_values"),
        prompt: table.optional("prompt"),
        plain_loopback: plain_loopback?,
        signals: match signals {
            Some(read) => Some(read?),
            None => None,
        },
    };
    check(table, &read).then_some(read)
}

fn scopes(mut scopes: Vec<String>) -> Vec<String> {
    if !scopes.iter().any(|scope| scope == "openid") {
        scopes.insert(0, "openid".to_owned());
    }
    scopes
}

fn check(table: &Table<'_>, issuer: &Issuer) -> bool {
    let mut fine = true;
    let mut wrong = |key: &str, what: &str, hint: &str| {
        table.problem(key, what, Some(hint));
        fine = false;
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    if issuer.name.is_empty()
        || issuer.name.len() > 64
        || !issuer.name.bytes().all(plain)
        || &*issuer.name == "unix"
    {
        wrong(
            "name",
            "not a name of an issuer",
            "lower-case letters, digits, `-`, `_`, at most 64; not `unix`",
        );
    }
    if let Err(error) = Endpoint::new(&issuer.issuer, issuer.plain_loopback) {
        wrong("issuer", &error.to_string(), "write the `https` URL that the issuer's tokens say");
    } else if issuer.issuer.contains('?') || issuer.issuer.len() > 512 {
        wrong(
            "issuer",
            "an issuer's identifier has no query and at most 512 bytes",
            "see its discovery document",
        );
    }
    if issuer.client_id.is_empty() {
        wrong("client_id", "empty", "the issuer's administrator knows it");
    }
    let token = |text: &String| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
    };
    if !issuer.scopes.iter().all(token) {
        wrong("scopes", "a scope holds characters that none has", "one scope per entry");
    }
    if !issuer.acr_values.iter().all(token) {
        wrong("acr_values", "a context holds characters that none has", "one context per entry");
    }
    // An ID token is for the client: to take the client's id as an audience would take every ID token as a key.
    if !issuer.caller_id_tokens && issuer.audiences.contains(&issuer.client_id) {
        let hint = "name the audience of your services, or set `caller_id_tokens` if ID tokens are meant";
        wrong("audiences", "the client's own id is the audience of its ID tokens", hint);
    }
    if issuer.audiences.iter().any(String::is_empty) {
        wrong("audiences", "an audience is empty", "name the audience of your services");
    }
    if issuer.groups.values().any(|group| group.is_empty() || group.starts_with("unix:")) {
        wrong("groups", "groups that begin with `unix:` are those of this machine", "choose another name");
    }
    fine
}

/// `None`: there is a problem.
fn transmitter(signals: &Table<'_>, plain: bool) -> Option<Transmitter> {
    let issuer: Option<String> = signals.required("issuer");
    let jwks: Option<String> = signals.required("jwks");
    let audience: Option<String> = signals.required("audience");
    let deliver: Option<String> = signals.defaulted("deliver");
    let token: Option<SecretName> = signals.optional("token");
    let url = |key: &str, text: String| match Endpoint::new(&text, plain) {
        Ok(endpoint) => Some(endpoint),
        Err(error) => {
            signals.problem(key, error.to_string(), None);
            None
        }
    };
    let jwks = jwks.and_then(|text| url("jwks", text));
    let delivery = match deliver?.as_str() {
        "push" => Delivery::Push { token },
        "poll" => {
            let endpoint: Option<String> = signals.required("endpoint");
            Delivery::Poll { endpoint: url("endpoint", endpoint?)?, token }
        }
        other => {
            signals.problem("deliver", format!("`{other}` is no delivery"), Some("write `push` or `poll`"));
            return None;
        }
    };
    Some(Transmitter { issuer: issuer?, jwks: jwks?, audience: audience?, delivery })
}

/// Which group a value of the groups claim is.
pub(crate) fn group_named(issuer: &str, mapping: &BTreeMap<String, String>, value: &str) -> String {
    mapping.get(value).cloned().unwrap_or_else(|| format!("{issuer}:{value}"))
}

#[cfg(test)]
mod tests {
    use writ_core::config::{self, Problems};

    use super::*;

    fn read(text: &str) -> Result<Vec<Issuer>, String> {
        let mut problems = Problems::default();
        config::read("writd.toml", text, KEYS, &mut problems, issuers).ok_or_else(|| problems.to_string())
    }

    const CORP: &str =
        "[[human.issuer]]\nname = \"corp\"\nissuer = \"https://login.example.com\"\nclient_id = \"writ\"\n";

    #[test]
    fn little_said_is_a_public_client_without_callers() {
        let issuers = read(CORP).unwrap();
        let corp = &issuers[0];
        assert_eq!(corp.scopes, ["openid", "profile", "email", "offline_access"]);
        assert!(corp.client_secret.is_none() && corp.audiences.is_empty() && corp.signals.is_none());
        assert!(read("").unwrap().is_empty());
    }

    #[test]
    fn everything_said_is_read() {
        let text = format!(
            "{CORP}client_secret = \"corp-oidc\"\nscopes = [\"email\"]\nmax_age = \"8h\"\naudiences = [\"api\"]\n\
             [human.issuer.groups]\n\"eng all\" = \"engineering\"\n\
             [human.issuer.signals]\nissuer = \"https://ssf.example.com\"\njwks = \"https://ssf.example.com/k\"\n\
             audience = \"writ\"\ndeliver = \"poll\"\nendpoint = \"https://ssf.example.com/poll\"\ntoken = \"ssf\"\n"
        );
        let issuers = read(&text).unwrap();
        assert_eq!(issuers[0].scopes, ["openid", "email"]);
        assert_eq!(issuers[0].groups["eng all"], "engineering");
        assert!(matches!(issuers[0].signals.as_ref().unwrap().delivery, Delivery::Poll { .. }));
    }

    #[test]
    fn mistakes_name_file_line_and_key() {
        let wrong = |more: &str, part: &str| {
            let said = read(&format!("{CORP}{more}")).unwrap_err();
            assert!(said.contains("writd.toml:") && said.contains(part), "{more}: {said}");
        };
        wrong("audiences = [\"writ\"]", "the client's own id");
        wrong("groups = { x = \"unix:root\" }", "of this machine");
        wrong("scopes = [\"a b\"]", "scope");
        wrong("audience = [\"x\"]", "did you mean `audiences`");
        wrong("[human.issuer.signals]\nissuer = \"x\"", "jwks");
        wrong(
            "[human.issuer.signals]\nissuer = \"x\"\njwks = \"http://a/\"\naudience = \"w\"",
            "it is not `https`",
        );
        wrong(&CORP.replace("corp", "other"), "another issuer");
        wrong(&CORP.replace("login", "other"), "another issuer");
        assert!(read(&CORP.replace("https", "http")).unwrap_err().contains("writd.toml:3"));
        assert!(read(&CORP.replace("corp", "unix")).is_err());
    }
}
