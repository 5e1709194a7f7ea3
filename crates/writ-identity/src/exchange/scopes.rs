//! What a token is good for, in the words of its audience.

use std::collections::BTreeSet;
use std::fmt;

/// A set of scope tokens (RFC 6749 section 3.3). Their order says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scopes(BTreeSet<String>);

impl Scopes {
    /// Reads words with one space between them; `None` for anything else. Empty text is the empty set.
    pub fn read(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        text.split(' ').map(|word| is_scope(word).then(|| word.to_owned())).collect::<Option<_>>().map(Self)
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of it is in `wider`.
    pub fn is_within(&self, wider: &Self) -> bool {
        self.0.is_subset(&wider.0)
    }

    /// What is in both.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// What `keep` agrees to.
    #[must_use]
    pub fn filtered(self, keep: impl Fn(&str) -> bool) -> Self {
        Self(self.0.into_iter().filter(|word| keep(word)).collect())
    }

    /// The words, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.iter().collect();
        f.write_str(&words.join(" "))
    }
}

/// A `scope-token`: printable ASCII but for the quotation mark and the backslash.
pub(super) fn is_scope(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_the_rfc_writes_them() {
        let read = Scopes::read("write read").unwrap();
        assert_eq!(read.to_string(), "read write");
        assert!(Scopes::read("read").unwrap().is_within(&read) && !read.is_within(&Scopes::default()));
        assert!(Scopes::read("").unwrap().is_empty());
        for bad in [" ", "a  b", " a", "a ", "a\tb", "a\"", "a\\b", "ä"] {
            assert!(Scopes::read(bad).is_none(), "{bad:?}");
        }
    }
}
