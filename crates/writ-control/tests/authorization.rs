//! Every operation by every kind of caller: the whole matrix is one golden file.
#![expect(clippy::unwrap_used, reason = "a test that goes wrong ends there; lints know only test functions")]

use std::fmt::Write as _;

use writ_control::api::Operation;
use writ_control::{Access, Caller, Class, Scope, Standing, access};

const WRIT_GROUP: u32 = 900;
const OWNER: u32 = 1000;

fn caller(uid: u32, groups: &[u32]) -> Caller {
    let pidfd = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty());
    Caller::from_parts(uid, uid, groups, 1, pidfd.unwrap())
}

/// What the caller may do, as the matrix says it.
fn verdict(operation: Operation, who: &Caller, standing: Standing) -> &'static str {
    let access = Access { group: Some(WRIT_GROUP) };
    match access::clear(&access, operation, who, standing) {
        Ok(by) if by.scope() == Scope::All => "all",
        // The same clearance covers one's own sessions and nobody else's.
        Ok(by) if by.covers(OWNER) => "own",
        Ok(_) => "none of the owner's",
        Err(fault) => {
            assert_eq!((fault.class, fault.code.as_str()), (Class::Denied, "control.denied"));
            "-"
        }
    }
}

#[test]
fn the_whole_matrix_is_as_written() {
    let people = [
        ("root", caller(0, &[]), Standing::Free),
        ("writ group", caller(1001, &[4, WRIT_GROUP]), Standing::Free),
        ("owner", caller(OWNER, &[4]), Standing::Free),
        ("other", caller(1002, &[4]), Standing::Free),
        ("opening", caller(OWNER, &[]), Standing::Opening),
        ("governed", caller(OWNER, &[]), Standing::Governed),
        ("governed root", caller(0, &[WRIT_GROUP]), Standing::Governed),
    ];
    let mut matrix = format!("{:<20}", "operation");
    for (name, ..) in &people {
        write!(matrix, "  {name:<19}").unwrap();
    }
    for operation in Operation::ALL {
        write!(matrix, "\n{:<20}", operation.name()).unwrap();
        for (_, who, standing) in &people {
            write!(matrix, "  {:<19}", verdict(*operation, who, *standing)).unwrap();
        }
    }
    let matrix = matrix.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/authorization.txt");
    if std::env::var_os("BLESS").is_some() {
        writ_host::durable::replace(&path, matrix.as_bytes(), 0o644).unwrap();
    }
    assert_eq!(matrix, std::fs::read_to_string(path).unwrap(), "hint: read the change, then `BLESS=1`");
}

#[test]
fn without_a_group_only_root_administers() {
    let access = Access { group: None };
    assert!(access.is_administrator(&caller(0, &[])));
    assert!(!access.is_administrator(&caller(OWNER, &[0, WRIT_GROUP])), "gid 0 is not root");
}
