//! What we issue, judged by others: the crate `spiffe` and OpenSSL.

use spiffe::{JwtBundle, JwtBundleSet, JwtSvid, TrustDomain, X509Bundle, X509Svid};
use writ_identity::{Bundle, validate};

use crate::support::{Node, example, openssl, pem, workload, write};

#[tokio::test]
async fn our_x509_svids_are_accepted_by_the_crate_spiffe() {
    let (node, authority) = example().await;
    let id = workload("example.org");
    let svid = authority.issuer().x509(&id, node.in_an_hour()).unwrap();
    let theirs = X509Svid::parse_from_der(&svid.chain_der(), svid.key.expose()).unwrap();
    assert_eq!(theirs.spiffe_id().to_string(), id.as_str());
    assert_eq!(theirs.cert_chain().len(), 2);
    let bundle = authority.bundles().borrow().own().x509_der();
    let bundle = X509Bundle::parse_from_der(TrustDomain::new("example.org").unwrap(), &bundle).unwrap();
    assert_eq!(bundle.authorities().len(), 1);
}

#[tokio::test]
async fn our_jwt_svids_are_accepted_by_the_crate_spiffe() {
    let (node, authority) = example().await;
    let id = workload("example.org");
    let svid = authority.issuer().jwt(&id, &["receiver".to_owned()], node.in_an_hour()).unwrap();
    let jwks = authority.bundles().borrow().own().jwt_jwks();
    let domain = TrustDomain::new("example.org").unwrap();
    let bundle = JwtBundle::from_jwt_authorities(domain, jwks.as_bytes()).unwrap();
    let bundles: JwtBundleSet = std::iter::once(bundle).collect();
    let theirs = JwtSvid::parse_and_validate(svid.token.expose(), &bundles, &["receiver"]).unwrap();
    assert_eq!(theirs.spiffe_id().to_string(), id.as_str());
    JwtSvid::parse_and_validate(svid.token.expose(), &bundles, &["another"]).unwrap_err();
}

/// Writes root and chain and lets OpenSSL build the path and look at the leaf.
async fn openssl_believes(toml: &str) {
    let node = Node::new("example.org", toml);
    let authority = node.open().await;
    let svid = authority.issuer().x509(&workload("example.org"), node.in_an_hour()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let root = authority.bundles().borrow().own().x509()[0].clone();
    write(&folder.path().join("root.pem"), pem(&root).as_bytes());
    write(&folder.path().join("leaf.pem"), pem(&svid.chain[0]).as_bytes());
    write(&folder.path().join("intermediate.pem"), pem(&svid.chain[1]).as_bytes());
    write(&folder.path().join("leaf.key"), svid.key.expose());
    let path = ["-x509_strict", "-CAfile", "root.pem", "-untrusted", "intermediate.pem", "leaf.pem"];
    for purpose in ["sslserver", "sslclient"] {
        let arguments = [&["verify", "-purpose", purpose][..], &path].concat();
        assert!(openssl(folder.path(), &arguments).unwrap().contains("leaf.pem: OK"));
    }
    let shown = openssl(folder.path(), &["x509", "-in", "leaf.pem", "-noout", "-text"]).unwrap();
    assert!(shown.contains("URI:spiffe://example.org/agent/coder/run/"), "{shown}");
    assert!(shown.contains("CA:FALSE") && shown.contains("Digital Signature\n"), "{shown}");
    assert!(shown.contains("TLS Web Server Authentication, TLS Web Client Authentication"), "{shown}");
    let public = ["pkey", "-inform", "DER", "-in", "leaf.key", "-pubout"];
    let of_key = openssl(folder.path(), &public).unwrap();
    let of_leaf = openssl(folder.path(), &["x509", "-in", "leaf.pem", "-noout", "-pubkey"]).unwrap();
    assert_eq!(of_key, of_leaf, "the key is the leaf's");
}

#[tokio::test]
async fn openssl_builds_a_strict_path_on_either_curve() {
    openssl_believes("").await;
    openssl_believes("[identity]\nkey = \"p384\"\n").await;
}

#[tokio::test]
async fn our_validators_and_our_bundle_text_agree() {
    let (node, authority) = example().await;
    let id = workload("example.org");
    let bundles = authority.bundles();
    let svid = authority.issuer().x509(&id, node.in_an_hour()).unwrap();
    let token = authority.issuer().jwt(&id, &["a".to_owned(), "b".to_owned()], node.in_an_hour()).unwrap();
    let own = bundles.borrow().own().clone();
    let read = Bundle::from_jwks(node.domain.clone(), own.jwks().as_bytes()).unwrap();
    assert_eq!(read, *own, "what is written is what is read");
    assert_eq!(read.unusable(), 0);
    let bundles = writ_identity::Bundles::new(read);
    assert_eq!(validate::x509(&svid.chain, &bundles, node.now()), Ok(id.clone()));
    let claims = validate::jwt(token.token.expose(), "b", &bundles, node.now()).unwrap();
    assert_eq!((claims.subject, claims.audiences), (id, vec!["a".to_owned(), "b".to_owned()]));
}

#[tokio::test]
async fn a_token_does_not_print_itself() {
    let (node, authority) = example().await;
    let limit = node.in_an_hour();
    let svid = authority.issuer().jwt(&workload("example.org"), &["a".to_owned()], limit).unwrap();
    let printed = format!("{svid:?}");
    assert!(printed.contains("Token(..)") && !printed.contains("eyJ"), "{printed}");
    let svid = authority.issuer().x509(&workload("example.org"), limit).unwrap();
    assert!(format!("{svid:?}").contains("Secret(..)"));
}
