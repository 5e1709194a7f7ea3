//! `[tokens]`: what is read, and where mistakes are.

use std::time::Duration;

use writ_core::config::{self, KeyDoc, Problems};
use writ_core::{AgentName, SpiffeId, TrustDomain};
use writ_identity::exchange::{KEYS, TokenSettings, token_settings};

const ISSUER: &str = "[identity]\njwt_issuer = \"https://id.example\"\n";
const GOOD: &str = "[[tokens.audience]]\naudience = \"https://api.example\"\nscopes = [\"read\"]\n";

fn read(text: &str) -> Result<TokenSettings, String> {
    let keys: Vec<KeyDoc> = [writ_identity::KEYS, KEYS].concat();
    let domain = TrustDomain::new("example.org").unwrap();
    let mut problems = Problems::default();
    config::read("writd.toml", text, Box::leak(keys.into()), &mut problems, |t| token_settings(t, &domain))
        .ok_or_else(|| problems.to_string())
}

#[test]
fn nothing_said_is_nobody_to_issue_for() {
    let settings = read("").unwrap();
    assert!(settings.audiences.is_empty() && settings.subject_audiences.is_empty());
    assert!(settings.audiences.get("").is_none());
}

#[test]
fn an_audience_has_its_limits() {
    let more = "max_ttl = \"1m\"\nagents = [\"coder\"]\nworkload = \"spiffe://example.org/agent/api\"\n";
    let settings = read(&format!("{ISSUER}{GOOD}{more}")).unwrap();
    let api = settings.audiences.get("https://api.example").unwrap();
    assert_eq!((api.max_ttl, api.scopes.to_string().as_str()), (Duration::from_mins(1), "read"));
    assert!(api.admits(&AgentName::new("coder").unwrap()) && !api.admits(&AgentName::new("other").unwrap()));
    let default = read(&format!("{ISSUER}{GOOD}")).unwrap();
    let api = default.audiences.get("https://api.example").unwrap();
    assert_eq!(api.max_ttl, Duration::from_mins(5));
    assert!(api.admits(&AgentName::new("other").unwrap()) && !api.groups);
    assert!(default.audiences.get("https://api.example/").is_none(), "byte for byte");
}

#[test]
fn an_agent_stands_for_its_runs_and_a_workload_for_itself() {
    let is = |workload: &str, id: &str| {
        let text = format!("{ISSUER}{GOOD}workload = \"{workload}\"\n");
        let id = SpiffeId::new(id).unwrap();
        read(&text).unwrap().audiences.is_workload("https://api.example", &id)
    };
    let agent = "spiffe://example.org/agent/api";
    assert!(is(agent, "spiffe://example.org/agent/api/run/1") && is(agent, agent));
    for other in ["/agent/api2/run/1", "/agent/api/run/1/x", "/agent/api/other/1", "/agent/apirun/1"] {
        assert!(!is(agent, &format!("spiffe://example.org{other}")), "{other}");
    }
    assert!(!is(agent, "spiffe://other.org/agent/api/run/1"));
    let other = "spiffe://partner.org/ns/prod/api";
    assert!(is(other, other) && !is(other, "spiffe://partner.org/ns/prod/api/run/1"));
}

#[test]
fn mistakes_name_file_line_and_key() {
    let with = |rest: &str| read(&format!("{ISSUER}{GOOD}{rest}")).unwrap_err();
    let alone = read(GOOD).unwrap_err();
    assert!(alone.contains("writd.toml:1") && alone.contains("`identity.jwt_issuer`"), "{alone}");
    for (rest, line, word) in [
        ("max_ttl = \"2h\"\n", 6, "max_ttl"),
        ("max_ttl = \"0s\"\n", 6, "max_ttl"),
        ("workload = \"spiffe://example.org\"\n", 6, "no workload"),
        ("workload = \"https://x\"\n", 6, "spiffe://"),
        ("workloads = \"x\"\n", 6, "did you mean `workload`"),
        (GOOD, 7, "twice"),
        ("[[tokens.audience]]\nscopes = [\"a\"]\n", 6, "missing"),
        ("[[tokens.audience]]\naudience = \"x\"\n", 6, "never be good"),
        ("[[tokens.audience]]\naudience = \"x\"\nscopes = []\n", 8, "never be good"),
        ("[[tokens.audience]]\naudience = \"x\"\nscopes = [\"a b\"]\n", 8, "`a b`"),
        ("[[tokens.audience]]\naudience = \"a b\"\nscopes = [\"a\"]\n", 7, "without spaces"),
        ("[[tokens.audience]]\naudience = \"https://id.example\"\nscopes = [\"a\"]\n", 7, "issuer"),
        (
            "[[tokens.audience]]\naudience = \"example.org\"\ngroups = true\nscopes = [\"a\"]\n",
            7,
            "trust domain",
        ),
    ] {
        let said = with(rest);
        assert!(said.contains(&format!("writd.toml:{line}:")) && said.contains(word), "{rest}: {said}");
    }
}
