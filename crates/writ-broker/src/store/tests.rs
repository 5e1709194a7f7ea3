//! The store on real files: what is kept, what is refused, and what damage does.

use std::os::unix::fs::PermissionsExt;

use super::*;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn key(&self) -> StoreKey {
        StoreKey::from_file(&self.0.path().join("store.key")).unwrap()
    }

    fn open(&self) -> Store {
        Store::open(self.folder(), self.key()).unwrap()
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("secrets")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder().join("user").join(format!("{name}.sealed"))
    }
}

fn name(text: &str) -> SecretName {
    SecretName::new(text).unwrap()
}

fn value(text: &str) -> Secret<[u8]> {
    Secret::<[u8]>::new(text.as_bytes().to_vec()).unwrap()
}

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn text(store: &Store, of: &str) -> Option<String> {
    store.get(&name(of)).unwrap().map(|s| String::from_utf8(s.expose().to_vec()).unwrap())
}

#[test]
fn keeps_replaces_lists_and_removes_across_restarts() {
    let place = Place::new();
    let store = place.open();
    store.set(&name("github"), &value("one-secret"), at(5)).unwrap();
    store.set(&name("a"), &value("x"), at(6)).unwrap();
    assert_eq!(text(&store, "github").unwrap(), "one-secret");
    store.set(&name("github"), &value("another"), at(7)).unwrap();
    assert_eq!(text(&store, "github").unwrap(), "another", "the opened value was not forgotten");
    drop(store);

    let store = place.open();
    assert_eq!(text(&store, "github").unwrap(), "another");
    let list = store.list().unwrap();
    assert_eq!(
        list,
        [
            Entry { name: name("a"), state: Some((at(6), 1)) },
            Entry { name: name("github"), state: Some((at(7), 7)) },
        ]
    );
    assert!(store.remove(&name("github")).unwrap());
    assert!(!store.remove(&name("github")).unwrap());
    assert!(text(&store, "github").is_none(), "a removed secret is still lent");
}

#[test]
fn nothing_on_disk_shows_the_value_and_files_are_0600() {
    let place = Place::new();
    place.open().set(&name("github"), &value("planted-secret-value"), at(1)).unwrap();
    let path = place.file("github");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(place.folder().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let bytes = std::fs::read(path).unwrap();
    assert!(!bytes.windows(7).any(|w| w == b"planted"));
    assert_eq!(bytes.len(), seal::OVERHEAD + "planted-secret-value".len());
}

#[test]
fn each_seal_is_different_even_of_the_same_value() {
    let place = Place::new();
    let store = place.open();
    store.set(&name("a"), &value("same"), at(1)).unwrap();
    let first = std::fs::read(place.file("a")).unwrap();
    store.set(&name("a"), &value("same"), at(1)).unwrap();
    assert_ne!(first, std::fs::read(place.file("a")).unwrap());
}

#[test]
fn an_entry_copied_under_another_name_does_not_open() {
    let place = Place::new();
    let store = place.open();
    store.set(&name("production"), &value("valuable"), at(1)).unwrap();
    std::fs::copy(place.file("production"), place.file("test")).unwrap();
    assert!(matches!(store.get(&name("test")), Err(Error::Corrupt { name }) if name == "test"));
    std::fs::copy(place.file("production"), place.folder().join("internal/production.sealed")).unwrap();
    assert!(store.internal().get(&name("production")).is_err(), "spaces must be kept apart");
}

#[test]
fn any_flipped_byte_is_an_error_that_names_the_entry_and_harms_no_other() {
    let place = Place::new();
    let store = place.open();
    store.set(&name("good"), &value("fine"), at(1)).unwrap();
    store.set(&name("bad"), &value("spoilt"), at(1)).unwrap();
    let whole = std::fs::read(place.file("bad")).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        durable::replace(&place.file("bad"), &bytes, 0o600).unwrap();
        let error = store.get(&name("bad")).unwrap_err().to_string();
        assert!(error.contains("`bad`"), "byte {at}: {error}");
    }
    for length in [0, 1, 17, 40, whole.len() - 1] {
        durable::replace(&place.file("bad"), &whole[..length], 0o600).unwrap();
        assert!(store.get(&name("bad")).is_err());
    }
    assert_eq!(text(&store, "good").unwrap(), "fine");
    let list = store.list().unwrap();
    assert_eq!((list[0].state, list[1].state), (None, Some((at(1), 4))));
    assert!(place.file("bad").exists(), "a damaged entry is kept for the operator");
    store.set(&name("bad"), &value("again"), at(2)).unwrap();
    assert_eq!(text(&store, "bad").unwrap(), "again");
}

#[test]
fn the_wrong_key_is_noticed_at_the_start_and_changes_nothing() {
    let place = Place::new();
    place.open().set(&name("a"), &value("x"), at(1)).unwrap();
    let before = std::fs::read(place.file("a")).unwrap();
    let other = StoreKey::from_file(&place.0.path().join("other.key")).unwrap();
    assert!(matches!(Store::open(place.folder(), other), Err(Error::WrongKey)));
    std::fs::remove_file(place.folder().join("key-check")).unwrap();
    let other = StoreKey::from_file(&place.0.path().join("other.key")).unwrap();
    assert!(matches!(Store::open(place.folder(), other), Err(Error::WrongKey)));
    assert_eq!(before, std::fs::read(place.file("a")).unwrap());
    assert_eq!(text(&place.open(), "a").unwrap(), "x");
}

#[test]
fn a_value_that_could_break_out_of_a_header_is_refused_without_being_shown() {
    let place = Place::new();
    let store = place.open();
    let long = "s".repeat(limits::SECRET_BYTES_MAX + 1);
    for bad in ["", "hush\r\nX-Evil: 1", "hush\n", "hush\0", "\rhush", "hush\u{7f}", long.as_str()] {
        let error = store.set(&name("a"), &value(bad), at(1)).unwrap_err().to_string();
        assert!(error.contains("`a`") && !error.contains("hush"), "{error}");
    }
    let binary = Secret::<[u8]>::new(vec![0xff, 0xfe]).unwrap();
    assert!(store.set(&name("a"), &binary, at(1)).is_err());
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn the_daemons_own_keys_are_out_of_reach_of_secret_commands() {
    let place = Place::new();
    let store = place.open();
    let pem = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";
    store.internal().set(&name("session-ca"), &value(pem), at(1)).unwrap();
    assert!(store.list().unwrap().is_empty());
    assert!(store.get(&name("session-ca")).unwrap().is_none());
    assert!(!store.remove(&name("session-ca")).unwrap());
    store.set(&name("session-ca"), &value("mine"), at(2)).unwrap();
    drop(store);
    let store = place.open();
    assert_eq!(store.internal().get(&name("session-ca")).unwrap().unwrap().expose(), pem.as_bytes());
    assert_eq!(store.internal().names().unwrap(), ["session-ca"]);
    assert!(store.internal().remove(&name("session-ca")).unwrap());
    assert_eq!(text(&store, "session-ca").unwrap(), "mine");
}

#[test]
fn the_leftover_of_a_crashed_write_is_no_entry() {
    let place = Place::new();
    let store = place.open();
    store.set(&name("a"), &value("old"), at(1)).unwrap();
    durable::replace(&place.folder().join("user/a.sealed.new"), b"half", 0o600).unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
    assert_eq!(text(&store, "a").unwrap(), "old");
    store.set(&name("a"), &value("new"), at(2)).unwrap();
    assert_eq!(text(&store, "a").unwrap(), "new");
}

#[test]
fn a_value_read_while_it_is_replaced_is_one_of_the_two_and_then_the_new_one() {
    let place = Place::new();
    let store = place.open();
    store.set(&name("a"), &value("old"), at(1)).unwrap();
    for round in 0..20 {
        let fresh = format!("new-{round}");
        std::thread::scope(|scope| {
            scope.spawn(|| text(&store, "a"));
            scope.spawn(|| store.set(&name("a"), &value(&fresh), at(2)).unwrap());
        });
        assert_eq!(text(&store, "a").unwrap(), fresh);
    }
}
