//! The `[identity]` table.

use std::time::Duration;

use writ_core::TrustDomain;
use writ_identity::CaSettings;

use crate::support::read_for;

fn read(toml: &str) -> Result<writ_identity::IdentitySettings, String> {
    read_for(toml, &TrustDomain::new("example.org").unwrap())
}

#[test]
fn nothing_said_is_a_root_of_our_own() {
    let settings = read("").unwrap();
    assert!(matches!(settings.ca, CaSettings::Own { .. }));
    assert_eq!(settings.lifetimes.x509, Duration::from_hours(1));
    assert_eq!(settings.lifetimes.jwt, Duration::from_mins(5));
    assert_eq!(settings.refresh_hint, Duration::from_mins(5));
    assert!(settings.federation.is_empty() && settings.jwt_issuer.is_none() && !settings.wit);
}

#[test]
fn every_authority_and_relation_can_be_written() {
    let whole = read(
        r#"
        [identity]
        ca = "vault"
        key = "p384"
        jwt_issuer = "https://id.example.org"
        [identity.vault]
        address = "https://vault.example.org:8200"
        mount = "pki/agents"
        jwt_file = "/run/token"
        role = "writ"
        [[identity.federation]]
        trust_domain = "one.org"
        url = "https://one.org/bundle"
        profile = "https_web"
        [[identity.federation]]
        trust_domain = "two.org"
        url = "https://two.org:8443/bundle"
        profile = "https_spiffe"
        endpoint_id = "spiffe://two.org/server"
        bootstrap = "/etc/writ/two.json"
        "#,
    );
    let whole = whole.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(whole.federation.len(), 2);
    let file = "[identity]\nca = \"file\"\n[identity.file]\ncertificate = \"/c\"\nkey = \"/k\"\n";
    assert!(matches!(read(file).unwrap().ca, CaSettings::File { bundle: None, .. }));
    let csr = "[identity]\nca = \"csr\"\n[identity.csr]\nrequest = \"/r\"\ncertificate = \"/c\"\n";
    assert!(matches!(read(csr).unwrap().ca, CaSettings::Csr { .. }));
}

#[test]
fn mistakes_name_file_line_and_key() {
    for (text, said) in [
        ("ca = \"acme\"", "writd.toml:2:6: key `identity.ca`"),
        ("key = \"ed25519\"", "none of `p256`, `p384`"),
        ("x509_tl = \"1h\"", "did you mean `x509_ttl`"),
        ("x509_ttl = \"1s\"", "too short"),
        ("x509_ttl = \"12h\"", "an intermediate would end with identities alive"),
        ("root_ttl = \"2d\"", "a root would end with intermediates alive"),
        ("jwt_issuer = \"http://id.example.org\"", "key `identity.jwt_issuer`"),
        ("jwt_issuer = \"https://user@id.example.org\"", "cannot be used"),
        ("jwt_issuer = \"https://id.example.org?x\"", "cannot be used"),
        ("ca = \"file\"", "key `identity.file.certificate`: missing"),
        ("ca = \"csr\"\n[identity.csr]\nrequest = \"r\"", "not an absolute path"),
        ("ca = \"vault\"\n[identity.vault]\naddress = \"https://v\"", "one way to log in"),
        (
            "ca = \"vault\"\n[identity.vault]\naddress = \"https://v\"\ntoken_file = \"/t\"\nmount = \"../sys\"",
            "no path of a mount",
        ),
    ] {
        let problems = read(&format!("[identity]\n{text}\n")).unwrap_err();
        assert!(problems.contains(said), "{text}: {problems}");
    }
}

#[test]
fn relations_are_explicit_and_never_inferred() {
    let relation = |rest: &str| read(&format!("[[identity.federation]]\n{rest}\n")).unwrap_err();
    let web = "trust_domain = \"a.org\"\nurl = \"https://a.org/b\"\nprofile = \"https_web\"";
    for (text, said) in [
        ("trust_domain = \"a.org\"\nurl = \"https://a.org/b\"".to_owned(), "profile`: missing"),
        ("url = \"https://a.org/b\"\nprofile = \"https_web\"".to_owned(), "trust_domain`: missing"),
        ("trust_domain = \"a.org\"\nprofile = \"https_web\"".to_owned(), "url`: missing"),
        (
            "trust_domain = \"example.org\"\nurl = \"https://a.org/b\"\nprofile = \"https_web\"".to_owned(),
            "is our own",
        ),
        (format!("{web}\n[[identity.federation]]\n{web}"), "stands here twice"),
        (format!("{web}\nbootstrap = \"/b\""), "has no meaning for `https_web`"),
        (web.replace("https_web", "https_spiffe"), "endpoint_id`: missing"),
        (
            format!("{}\nendpoint_id = \"a\"\nbootstrap = \"/b\"", web.replace("https_web", "https_spiffe")),
            "is not a SPIFFE ID",
        ),
    ] {
        let problems = relation(&text);
        assert!(problems.contains(said), "{text}: {problems}");
    }
}
