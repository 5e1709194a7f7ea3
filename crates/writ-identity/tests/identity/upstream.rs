//! Upstream authorities: files, requests that OpenSSL signs, and a PKI secrets engine over real TLS.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use writ_identity::{Authority, Bundle, Change, Error, validate};

use crate::support::{Node, openssl, workload, write};

/// `[identity]` for files in this folder; further lines follow.
fn file(folder: &Path, certificate: &str, more: &str) -> String {
    let folder = folder.display();
    format!(
        "[identity]\nca = \"file\"\n[identity.file]\ncertificate = \"{folder}/{certificate}\"\nkey = \"{folder}/ca.key\"\n{more}"
    )
}

/// A root, and below it an authority that may sign intermediates, both of OpenSSL's making.
fn authorities(folder: &Path, algorithm: &'static [&'static str]) {
    let made = |arguments: &[&str]| openssl(folder, arguments).unwrap();
    let key = |name: &'static str| [&["-newkey"], algorithm, &["-nodes", "-keyout", name]].concat();
    made(
        &[
            &["req", "-x509", "-out", "root.pem", "-subj", "/C=AQ/O=Héloïse/CN=root", "-utf8", "-days", "30"],
            &key("root.key")[..],
        ]
        .concat(),
    );
    made(
        &[&["req", "-out", "ca.csr", "-subj", "/O=Héloïse/CN=issuing", "-utf8"], &key("ca.key")[..]].concat(),
    );
    write(&folder.join("ext"), b"basicConstraints=critical,CA:TRUE,pathlen:1\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n");
    made(&[
        "x509",
        "-req",
        "-in",
        "ca.csr",
        "-CA",
        "root.pem",
        "-CAkey",
        "root.key",
        "-CAcreateserial",
        "-out",
        "ca.pem",
        "-days",
        "20",
        "-extfile",
        "ext",
    ]);
    let chain = ["ca.pem", "root.pem"].map(|name| std::fs::read(folder.join(name)).unwrap()).concat();
    write(&folder.join("chain.pem"), &chain);
    openssl(folder, &["verify", "-CAfile", "root.pem", "ca.pem"]).unwrap();
}

fn issues(node: &Node, authority: &Authority, certificates: usize) {
    let svid = authority.issuer().x509(&workload("example.org"), node.in_an_hour()).unwrap();
    assert_eq!(svid.chain.len(), certificates);
    let bundles = authority.bundles().borrow().clone();
    assert_eq!(validate::x509(&svid.chain, &bundles, node.now()), Ok(workload("example.org")));
}

#[tokio::test]
async fn an_authority_in_files_signs_the_intermediate() {
    for algorithm in [&["ec", "-pkeyopt", "ec_paramgen_curve:P-384"][..], &["rsa:2048"], &["ed25519"]] {
        let folder = tempfile::tempdir().unwrap();
        authorities(folder.path(), algorithm);
        let node = Node::new("example.org", &file(folder.path(), "chain.pem", ""));
        let authority = node.open().await;
        issues(&node, &authority, 3);
        let own = authority.bundles().borrow().own().clone();
        let read = Bundle::from_jwks(node.domain.clone(), own.jwks().as_bytes()).unwrap();
        assert_eq!(read, *own, "roots of every kind of key are written as they are read");
        // Without its root in the chain, the roots are named.
        let bundle = format!("bundle = \"{}/root.pem\"\n", folder.path().display());
        let node = Node::new("example.org", &file(folder.path(), "ca.pem", &bundle));
        issues(&node, &node.open().await, 3);
    }
}

#[tokio::test]
async fn files_that_do_not_fit_leave_the_issuer_without_keys() {
    let folder = tempfile::tempdir().unwrap();
    authorities(folder.path(), &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let refused = async |node: Node| {
        let authority = node.open().await;
        assert!(!authority.issuer().is_ready());
        assert!(authority.bundles().borrow().own().is_empty());
        authority.tick(node.now()).await.unwrap_err()
    };
    // No root: nothing could be checked.
    let error = refused(Node::new("example.org", &file(folder.path(), "ca.pem", ""))).await;
    assert!(matches!(error, Error::Unusable { .. }), "{error}");
    // A key of another certificate.
    let error = refused(Node::new("example.org", &file(folder.path(), "root.pem", ""))).await;
    assert!(matches!(error, Error::Unusable { .. }), "{error}");
    let error = refused(Node::new("example.org", &file(folder.path(), "absent.pem", ""))).await;
    assert!(error.to_string().contains("absent.pem` does not exist; hint:"), "{error}");
    let error = refused(Node::new("example.org", &file(folder.path(), "ca.csr", ""))).await;
    assert!(error.to_string().contains("holds no certificate"), "{error}");
    // A path length that leaves no room for an intermediate.
    write(
        &folder.path().join("ext"),
        b"basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n",
    );
    openssl(
        folder.path(),
        &[
            "x509",
            "-req",
            "-in",
            "ca.csr",
            "-CA",
            "root.pem",
            "-CAkey",
            "root.key",
            "-out",
            "short.pem",
            "-days",
            "20",
            "-extfile",
            "ext",
        ],
    )
    .unwrap();
    let bundle = format!("bundle = \"{}/root.pem\"\n", folder.path().display());
    let error = refused(Node::new("example.org", &file(folder.path(), "short.pem", &bundle))).await;
    assert!(matches!(error, Error::Unusable { .. }), "{error}");
    // A key that everyone can read is one that everyone has.
    std::fs::set_permissions(folder.path().join("ca.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = refused(Node::new("example.org", &file(folder.path(), "chain.pem", ""))).await;
    assert!(error.to_string().contains("can be read by everyone"), "{error}");
}

/// What an operator does: signs the request with OpenSSL, as an intermediate that may sign leaves.
fn sign_request(node: &Node, folder: &Path, days: &str) {
    // OpenSSL has the real time, which has gone on since the node's clock was set.
    node.clock.advance(Duration::from_mins(1));
    write(&folder.join("ext"), b"basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectAltName=URI:spiffe://example.org\n");
    openssl(folder, &["req", "-in", "request.pem", "-verify", "-noout"]).unwrap();
    openssl(
        folder,
        &[
            "x509",
            "-req",
            "-in",
            "request.pem",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            "signed.pem",
            "-days",
            days,
            "-extfile",
            "ext",
        ],
    )
    .unwrap();
    let chain =
        ["signed.pem", "ca.pem", "root.pem"].map(|name| std::fs::read(folder.join(name)).unwrap()).concat();
    write(&folder.join("answer.pem"), &chain);
}

#[tokio::test]
async fn an_operator_signs_the_request_and_the_next_one_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    authorities(at, &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let toml = format!(
        "[identity]\nca = \"csr\"\n[identity.csr]\nrequest = \"{0}/request.pem\"\ncertificate = \"{0}/answer.pem\"\n",
        at.display()
    );
    let node = Node::new("example.org", &toml);
    let authority = node.open().await;
    assert!(!authority.issuer().is_ready());
    let asked = std::fs::read(at.join("request.pem")).unwrap();
    assert_eq!(
        authority.tick(node.now()).await.unwrap(),
        [Change::Waiting { request: at.join("request.pem") }]
    );
    drop(authority);
    let authority = node.open().await;
    assert_eq!(std::fs::read(at.join("request.pem")).unwrap(), asked, "the same request after a restart");
    let shown = openssl(at, &["req", "-in", "request.pem", "-noout", "-text"]).unwrap();
    assert!(shown.contains("URI:spiffe://example.org") && shown.contains("CA:TRUE"), "{shown}");

    sign_request(&node, at, "10");
    let changes = authority.tick(node.now()).await.unwrap();
    assert!(
        matches!(changes[..], [Change::Prepared { .. }, Change::Activated { generation: 1 }]),
        "{changes:?}"
    );
    issues(&node, &authority, 3);
    assert!(authority.tick(node.now()).await.unwrap().is_empty());

    // Past half of its life another request is written, for another key; the old answer is not taken for it.
    node.clock.advance(Duration::from_hours(24 * 6));
    assert!(matches!(authority.tick(node.now()).await.unwrap()[..], [Change::Waiting { .. }]));
    assert_ne!(std::fs::read(at.join("request.pem")).unwrap(), asked);
    issues(&node, &authority, 3);
    sign_request(&node, at, "19");
    assert!(matches!(
        authority.tick(node.now()).await.unwrap()[..],
        [Change::Prepared { generation: 2, .. }]
    ));
    node.clock.advance(Duration::from_hours(1));
    assert_eq!(authority.tick(node.now()).await.unwrap(), [Change::Activated { generation: 2 }]);
    issues(&node, &authority, 3);
}

#[tokio::test]
async fn a_request_that_was_signed_wrongly_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    authorities(at, &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let toml = format!(
        "[identity]\nca = \"csr\"\n[identity.csr]\nrequest = \"{0}/request.pem\"\ncertificate = \"{0}/answer.pem\"\n",
        at.display()
    );
    let node = Node::new("example.org", &toml);
    let authority = node.open().await;
    let answer = |names: &[&str]| {
        let chain: Vec<u8> = names.iter().flat_map(|name| std::fs::read(at.join(name)).unwrap()).collect();
        write(&at.join("answer.pem"), &chain);
    };
    sign_request(&node, at, "10");
    // No root: nobody could check what it signs.
    answer(&["signed.pem", "ca.pem"]);
    assert!(matches!(authority.tick(node.now()).await, Err(Error::Unusable { .. })));
    // Signed as a leaf.
    let leaf = [
        "x509",
        "-req",
        "-in",
        "request.pem",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-out",
        "leaf.pem",
        "-days",
        "9",
    ];
    openssl(at, &leaf).unwrap();
    answer(&["leaf.pem", "ca.pem", "root.pem"]);
    let refused = authority.tick(node.now()).await.unwrap_err();
    assert!(refused.to_string().contains("sign the request again"), "{refused}");
    // Another's.
    answer(&["ca.pem", "root.pem"]);
    assert!(matches!(authority.tick(node.now()).await.unwrap()[..], [Change::Waiting { .. }]));
    assert!(!authority.issuer().is_ready());
    // In another order it is as good.
    answer(&["root.pem", "ca.pem", "signed.pem"]);
    authority.tick(node.now()).await.unwrap();
    issues(&node, &authority, 3);
}

#[tokio::test]
async fn replacing_waits_for_the_operator_and_changes_nothing_until_then() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    authorities(at, &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let toml = format!(
        "[identity]\nca = \"csr\"\n[identity.csr]\nrequest = \"{0}/request.pem\"\ncertificate = \"{0}/answer.pem\"\n",
        at.display()
    );
    let node = Node::new("example.org", &toml);
    let authority = node.open().await;
    sign_request(&node, at, "10");
    authority.tick(node.now()).await.unwrap();
    let before = authority.bundles().borrow().clone();
    let token =
        authority.issuer().jwt(&workload("example.org"), &["a".to_owned()], node.in_an_hour()).unwrap();
    assert!(matches!(authority.replace(node.now()).await.unwrap()[..], [Change::Waiting { .. }]));
    assert_eq!(*authority.bundles().borrow(), before);
    sign_request(&node, at, "10");
    assert_eq!(authority.replace(node.now()).await.unwrap(), [Change::Activated { generation: 2 }]);
    issues(&node, &authority, 3);
    let bundles = authority.bundles().borrow().clone();
    assert!(validate::jwt(token.token.expose(), "a", &bundles, node.now()).is_err());
}

#[tokio::test]
async fn another_authority_takes_over_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    authorities(folder.path(), &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let mut node = Node::new("example.org", "");
    let authority = node.open().await;
    let before = authority.issuer().x509(&workload("example.org"), node.in_an_hour()).unwrap();
    drop(authority);
    let moved = Node::new("example.org", &file(folder.path(), "chain.pem", ""));
    node.settings = moved.settings;
    let authority = node.open().await;
    assert_eq!(authority.bundles().borrow().own().x509().len(), 2, "both roots are published");
    issues(&node, &authority, 2);
    node.clock.advance(Duration::from_mins(26));
    assert_eq!(authority.tick(node.now()).await.unwrap(), [Change::Activated { generation: 2 }]);
    issues(&node, &authority, 3);
    validate::x509(&before.chain, &authority.bundles().borrow(), node.now()).unwrap();
}
