//! Selectors: facts about a process as plain text, `attestor:key:value`.
//!
//! An agent's file names selectors, an attestor produces them, and both are compared as text: so every selector has
//! exactly one spelling (numbers without leading zeros, absolute paths without `.` or `..`, digests in lower-case hex),
//! and what is spelled otherwise is refused. Nothing here looks at a process. Values never appear in `Debug`: selectors
//! of a live process are not for logs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::{Setting, Value, Wrong, nearest};
use crate::name::AgentName;

/// One fact. Ordered by its text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Selector {
    text: String,
    key: Key,
}

/// How many values of a key one process can have. Two selectors contradict each other only if it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// At most one.
    One,
    /// Any number.
    Many,
    /// At most one for each `name` of a value `name=value`.
    OnePerName,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Sha256,
    PrefixedSha256,
    ContainerId,
    Number,
    Path,
    Unit,
    Slice,
    Word,
    Label,
    Agent,
}

macro_rules! keys {
    ($($attestor:ident $name:ident $text:literal $values:ident $form:ident $doc:literal;)*) => {
        /// What is said about a process: an attestor and one of its keys.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Key { $(#[doc = $doc] $name,)* }

        impl Key {
            /// All of them, in the order of the reference page.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Whose key it is.
            pub const fn attestor(self) -> Attestor {
                match self { $(Self::$name => Attestor::$attestor),* }
            }

            /// The word after the attestor.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// How many values a process can have.
            pub const fn values(self) -> Values {
                match self { $(Self::$name => Values::$values),* }
            }

            /// What it says, for the reader of the reference page.
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$name => $doc),* }
            }

            const fn form(self) -> Form {
                match self { $(Self::$name => Form::$form),* }
            }
        }
    };
}

keys! {
    Exe ExePath "path" One Path "The program's path as the kernel resolved it; on the host's own root only.";
    Exe ExeSha256 "sha256" One Sha256 "SHA-256 of the file that the kernel runs.";
    Exe ExeOwner "owner" One Number "The uid that owns that file.";
    Exe ExePackage "package" Many Word "The distribution's package that the file belongs to.";
    Script ScriptPath "path" One Path "The path of the file behind an interpreter; on the host's own root only.";
    Script ScriptSha256 "sha256" One Sha256 "SHA-256 of that file.";
    Script ScriptModule "module" One Word "The Python module that it is.";
    Script ScriptPackage "package" One Word "The npm or Python package that it was installed with.";
    Script ScriptLockSha256 "lock-sha256" One Sha256 "SHA-256 of the lock file that governs its dependencies.";
    Unix UnixUid "uid" One Number "The uid.";
    Unix UnixUser "user" One Word "The name of the uid.";
    Unix UnixGid "gid" One Number "The group id.";
    Unix UnixGroup "group" One Word "The name of the group.";
    Unix UnixSupplementaryGid "supplementary-gid" Many Number "A supplementary group id.";
    Unix UnixSupplementaryGroup "supplementary-group" Many Word "The name of a supplementary group.";
    Unix UnixLoginUid "login-uid" One Number "The uid that logged in, which `su` and `sudo` do not change.";
    Unix UnixAuditSession "audit-session" One Number "The audit session of that login.";
    Cgroup CgroupPath "path" One Path "The cgroup, from the root of the hierarchy.";
    Cgroup CgroupUnder "under" Many Path "A cgroup that it is in or below.";
    Systemd SystemdUnit "unit" One Unit "The unit of the system manager.";
    Systemd SystemdSlice "slice" Many Slice "A slice of the system manager that it is below.";
    Systemd SystemdUserUnit "user-unit" One Unit "The unit of a user's manager; the user may choose it.";
    Systemd SystemdUserSlice "user-slice" Many Slice "A slice of a user's manager; the user may choose it.";
    Container ContainerId "id" One ContainerId "The container's id.";
    Container ContainerRuntime "runtime" One Word "`docker`, `podman`, `containerd` or `crio`.";
    Container ContainerName "name" One Word "The container's name.";
    Container ContainerImage "image" One Word "The image's name as the container was made from it.";
    Container ContainerImageId "image-id" One PrefixedSha256 "The image's id: the digest of its configuration.";
    Container ContainerImageDigest "image-digest" Many PrefixedSha256 "A digest by which a registry knows the image.";
    Container ContainerLabel "label" OnePerName Label "A label of the container, `name=value`.";
    Kubernetes KubernetesNs "ns" One Word "The pod's namespace.";
    Kubernetes KubernetesSa "sa" One Word "The pod's service account.";
    Kubernetes KubernetesPod "pod" One Word "The pod's name.";
    Kubernetes KubernetesPodUid "pod-uid" One Word "The pod's uid.";
    Kubernetes KubernetesLabel "label" OnePerName Label "A label of the pod, `name=value`.";
    Kubernetes KubernetesContainer "container" One Word "The container's name in the pod.";
    Kubernetes KubernetesImage "image" Many Word "The container's image by name.";
    Kubernetes KubernetesImageDigest "image-digest" Many PrefixedSha256 "The digest of the container's image.";
    Lineage LineageAgent "agent" Many Agent "The agent of a run that led to this process.";
    Lineage LineageSha256 "sha256" Many Sha256 "SHA-256 of the program of an ancestor.";
    Lineage LineagePath "path" Many Path "The path of the program of an ancestor.";
}

macro_rules! attestors {
    ($($name:ident $text:literal $doc:literal;)*) => {
        /// A source of facts about processes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Attestor { $(#[doc = $doc] $name,)* }

        impl Attestor {
            /// All of them, in the order of the reference page.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The first word of its selectors.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// What it looks at.
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$name => $doc),* }
            }
        }
    };
}

attestors! {
    Exe "exe" "The program that the kernel runs.";
    Script "script" "The file behind an interpreter.";
    Unix "unix" "The user, groups and login of the process.";
    Cgroup "cgroup" "The cgroup of the process.";
    Systemd "systemd" "The unit and slices, from the cgroup.";
    Container "container" "The container, from the cgroup, and what its runtime says of it.";
    Kubernetes "k8s" "The pod, from the cgroup, and what the kubelet says of it.";
    Lineage "lineage" "The programs and runs that the process comes from.";
}

impl Attestor {
    /// Its keys.
    pub fn keys(self) -> impl Iterator<Item = Key> + Clone {
        Key::ALL.iter().copied().filter(move |key| key.attestor() == self)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.attestor().as_str(), self.as_str())
    }
}

/// Text that is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Fewer than three parts.
    #[error("`{text}` is no selector; hint: write `attestor:key:value`, as in `exe:path:/usr/bin/coder`")]
    Parts {
        /// What was written.
        text: String,
    },
    /// The first part names no attestor.
    #[error("`{text}` is no attestor; hint: {hint}")]
    Attestor {
        /// What was written.
        text: String,
        /// The nearest, or all.
        hint: String,
    },
    /// The second part is no key of the attestor.
    #[error("`{text}` is no key of `{attestor}`; hint: {hint}", attestor = attestor.as_str())]
    Key {
        /// What was written.
        text: String,
        /// The attestor.
        attestor: Attestor,
        /// The nearest, or all.
        hint: String,
    },
    /// The third part is not spelled as values of the key are.
    #[error("`{text}` is no value of `{key}`; hint: write {expected}")]
    Value {
        /// What was written.
        text: String,
        /// The key.
        key: Key,
        /// How to write one.
        expected: &'static str,
    },
}

/// A selector's value, bytes: a path or label.
const VALUE_BYTES_MAX: usize = 4_096;

impl Selector {
    /// The selector of this key and value.
    pub fn new(key: Key, value: &str) -> Result<Self, SelectorError> {
        if value.len() <= VALUE_BYTES_MAX && key.form().fits(value) {
            Ok(Self { text: format!("{key}:{value}"), key })
        } else {
            let expected = key.form().expected();
            Err(SelectorError::Value { text: value.chars().take(128).collect(), key, expected })
        }
    }

    /// The key.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The value.
    pub fn value(&self) -> &str {
        let before = self.key.attestor().as_str().len() + self.key.as_str().len() + 2;
        self.text.get(before..).unwrap_or_default()
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether no process can have both.
    pub fn contradicts(&self, other: &Self) -> bool {
        if self.key != other.key || self.text == other.text {
            return false;
        }
        let name = |selector: &Self| selector.value().split_once('=').map(|(name, _)| name.to_owned());
        match self.key.values() {
            Values::One => true,
            Values::Many => false,
            Values::OnePerName => name(self) == name(other),
        }
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut parts = text.splitn(3, ':');
        let (Some(attestor), Some(key), Some(value)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(SelectorError::Parts { text: text.chars().take(128).collect() });
        };
        let attestors = Attestor::ALL.iter().copied();
        let found = attestors.clone().find(|one| one.as_str() == attestor).ok_or_else(|| {
            let hint = hint(attestor, attestors.map(Attestor::as_str));
            SelectorError::Attestor { text: attestor.to_owned(), hint }
        })?;
        let known = found.keys().find(|one| one.as_str() == key).ok_or_else(|| {
            let hint = hint(key, found.keys().map(Key::as_str));
            SelectorError::Key { text: key.to_owned(), attestor: found, hint }
        })?;
        Self::new(known, value)
    }
}

impl PartialOrd for Selector {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Selector {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({}:..)", self.key)
    }
}

impl Serialize for Selector {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Setting for Selector {
    const EXPECTED: &'static str = "a selector";
    const EXAMPLE: &'static str = "\"exe:path:/usr/bin/coder\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        value.parse()
    }
}

impl Form {
    fn fits(self, value: &str) -> bool {
        let spelled = match self {
            Self::Sha256 | Self::ContainerId => hex64(value),
            Self::PrefixedSha256 => value.strip_prefix("sha256:").is_some_and(hex64),
            Self::Number => value.parse::<u32>().is_ok_and(|number| number.to_string() == value),
            Self::Path => path(value),
            Self::Unit => !value.contains('/') && matches!(kind(value), "service" | "scope"),
            Self::Slice => !value.contains('/') && kind(value) == "slice",
            Self::Word => !value.is_empty(),
            Self::Label => value.split_once('=').is_some_and(|(name, _)| !name.is_empty()),
            Self::Agent => AgentName::new(value).is_ok(),
        };
        spelled && !value.chars().any(char::is_control)
    }

    const fn expected(self) -> &'static str {
        match self {
            Self::Sha256 => "64 lower-case hex digits, as `sha256sum` prints them",
            Self::PrefixedSha256 => "`sha256:` and 64 lower-case hex digits",
            Self::ContainerId => "the whole id: 64 lower-case hex digits",
            Self::Number => "a whole number without leading zeros",
            Self::Path => "an absolute path without `.`, `..`, `//` or a `/` at its end",
            Self::Unit => "a unit's whole name, as in `ci.service`",
            Self::Slice => "a slice's whole name, as in `agents.slice`",
            Self::Word => "one line of text",
            Self::Label => "`name=value`",
            Self::Agent => "an agent's name",
        }
    }
}

/// The kind of a systemd unit.
fn kind(unit: &str) -> &str {
    unit.rsplit_once('.').map_or("", |(_, kind)| kind)
}

fn hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn path(text: &str) -> bool {
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    text == "/" || text.strip_prefix('/').is_some_and(|rest| !rest.split('/').any(odd))
}

fn hint<'c>(text: &str, known: impl Iterator<Item = &'c str> + Clone) -> String {
    match nearest(text, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known: {}", known.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// The reference page of all selectors, as a Markdown table.
pub fn reference() -> String {
    let rows = Key::ALL.iter().map(|key| {
        let values = match key.values() {
            Values::One => "one",
            Values::Many => "many",
            Values::OnePerName => "one a name",
        };
        format!("| `{key}:` | {} | {values} | {} |\n", key.form().expected(), key.doc())
    });
    let head = "| selector | value | of a process | what it says |\n| --- | --- | --- | --- |\n";
    [head.to_owned()].into_iter().chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn selector(text: &str) -> Selector {
        text.parse().unwrap()
    }

    #[test]
    fn a_selector_is_read_and_printed_as_it_stands() {
        let image = format!("container:image-digest:sha256:{DIGEST}");
        for text in [
            "exe:path:/usr/bin/a b",
            "unix:uid:0",
            "k8s:label:app=a:b=c",
            "systemd:unit:ci@1.service",
            &image,
        ] {
            let read = selector(text);
            assert_eq!(read.to_string(), text);
            assert_eq!(Selector::new(read.key(), read.value()).unwrap(), read);
            let json = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<Selector>(&json).unwrap(), read);
            assert!(!format!("{read:?}").contains(read.value()), "a value in `Debug` gets into logs");
        }
    }

    #[test]
    fn what_has_two_spellings_is_refused() {
        for bad in [
            "",
            "exe",
            "exe:path",
            "exe:path:",
            "exe:path:bin/x",
            "exe:path:/a//b",
            "exe:path:/a/../b",
            "exe:path:/a/",
            "unix:uid:007",
            "unix:uid:-1",
            "unix:uid:4294967296",
            "exe:sha256:abc",
            "exe:path:/a\nb",
            "container:id:0a",
            "systemd:unit:ci",
            "systemd:slice:a/b.slice",
            "container:label:x",
            "container:label:=x",
            "lineage:agent:a/b",
        ] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
        let upper = format!("exe:sha256:{}", DIGEST.to_uppercase());
        assert!(upper.parse::<Selector>().unwrap_err().to_string().contains("lower-case"));
        let bare = format!("container:image-digest:{DIGEST}");
        assert!(bare.parse::<Selector>().unwrap_err().to_string().contains("`sha256:`"));
    }

    #[test]
    fn an_error_names_what_is_allowed_and_the_nearest() {
        let error = |text: &str| text.parse::<Selector>().unwrap_err().to_string();
        assert!(error("exec:path:/x").contains("did you mean `exe`"));
        assert!(
            error("unix:user_name:x").contains("known: `uid`, `user`")
                || error("unix:usr:x").contains("`user`")
        );
        assert!(error("argv:0:x").contains("known: `exe`, `script`, `unix`"), "{}", error("argv:0:x"));
        assert!(error("exe:argv:x").contains("no key of `exe`"));
    }

    #[test]
    fn selectors_contradict_only_where_a_process_has_one_value() {
        let contradicts = |a: &str, b: &str| selector(a).contradicts(&selector(b));
        assert!(contradicts("unix:uid:1", "unix:uid:2"));
        assert!(contradicts("k8s:label:app=a", "k8s:label:app=b"));
        for (a, b) in [
            ("unix:uid:1", "unix:uid:1"),
            ("unix:uid:1", "unix:gid:2"),
            ("k8s:label:app=a", "k8s:label:tier=b"),
            ("systemd:slice:a.slice", "systemd:slice:b.slice"),
            ("cgroup:under:/a", "cgroup:under:/b"),
        ] {
            assert!(!contradicts(a, b), "{a} {b}");
        }
    }

    #[test]
    fn every_key_is_named_once_and_documented() {
        let mut names: Vec<String> = Key::ALL.iter().map(Key::to_string).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), Key::ALL.len());
        assert!(Attestor::ALL.iter().all(|attestor| attestor.keys().next().is_some()));
        assert_eq!(reference().lines().count(), Key::ALL.len() + 2);
    }
}
