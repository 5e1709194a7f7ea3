//! Obligations: what a policy asks for beside its yes or no, written as an annotation of it.
//!
//! On a permit they are owed by what it permits. On a forbid, those that can be met (an approval, a rate, a budget)
//! lift it: it forbids what does not meet them. What an obligation *does* is writ-gate's.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::Span;

/// A label that a session acquires by what it does, and keeps: `read:untrusted`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Label(String);

impl Label {
    /// Bytes at the most.
    pub const BYTES_MAX: usize = 64;

    /// The label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Label {
    type Err = ObligationError;

    fn from_str(text: &str) -> Result<Self, ObligationError> {
        let word = |part: &str| {
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            part.bytes().all(inner) && part.starts_with(|c: char| c.is_ascii_lowercase())
        };
        let fits = text.len() <= Self::BYTES_MAX && text.split(':').count() <= 2 && text.split(':').all(word);
        if fits { Ok(Self(text.to_owned())) } else { Err(wrong(text, "a label", "`read:untrusted`")) }
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Text that is no obligation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}; hint: as in {example}")]
pub struct ObligationError {
    text: String,
    kind: &'static str,
    example: &'static str,
}

fn wrong(text: &str, kind: &'static str, example: &'static str) -> ObligationError {
    ObligationError { text: text.to_owned(), kind, example }
}

/// What a policy asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obligation {
    /// `@approve("owner, 10m")`: somebody must say yes to this very action.
    Approve(Approve),
    /// `@budget("amount 1000/day")`: the sum of an argument stays within a rate.
    Budget {
        /// The argument, a whole number.
        argument: String,
        /// How much of it.
        rate: Rate,
    },
    /// `@label("read:untrusted")`: the session acquires these.
    Label(BTreeSet<Label>),
    /// `@limit("10/min")`: no more actions than that.
    Limit(Rate),
}

impl Obligation {
    /// The annotations that are obligations.
    pub const NAMES: [&'static str; 4] = ["approve", "budget", "label", "limit"];

    /// The obligation of an annotation; `None` if the annotation is none.
    pub fn read(name: &str, text: &str) -> Option<Result<Self, ObligationError>> {
        Some(match name {
            "approve" => text.parse().map(Self::Approve),
            "budget" => budget(text),
            "label" => {
                text.split(',').map(|label| label.trim().parse()).collect::<Result<_, _>>().map(Self::Label)
            }
            "limit" => text.parse().map(Self::Limit),
            _ => return None,
        })
    }

    /// Whether it can be met or not, so that a forbid may wait on it. A label is just acquired.
    pub const fn is_condition(&self) -> bool {
        match self {
            Self::Approve(_) | Self::Budget { .. } | Self::Limit(_) => true,
            Self::Label(_) => false,
        }
    }
}

fn budget(text: &str) -> Result<Obligation, ObligationError> {
    let refused = || wrong(text, "a budget", "`amount 1000/day`: an argument and how much of it");
    let (argument, rate) = text.split_once(' ').ok_or_else(refused)?;
    if argument.is_empty() {
        return Err(refused());
    }
    Ok(Obligation::Budget { argument: argument.to_owned(), rate: rate.trim().parse()? })
}

/// As it is written: `approve owner, 10m`.
impl fmt::Display for Obligation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Approve(approve) => write!(f, "approve {approve}"),
            Self::Budget { argument, rate } => write!(f, "budget {argument} {rate}"),
            Self::Label(labels) => {
                let labels: Vec<&str> = labels.iter().map(Label::as_str).collect();
                write!(f, "label {}", labels.join(", "))
            }
            Self::Limit(rate) => write!(f, "limit {rate}"),
        }
    }
}

/// So much in a window of time that ends now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    /// How much at the most.
    pub most: u64,
    /// In which time.
    pub per: Per,
}

impl FromStr for Rate {
    type Err = ObligationError;

    fn from_str(text: &str) -> Result<Self, ObligationError> {
        let refused = || wrong(text, "a rate", "`10/min`, `100/hour` or `1000/day`");
        let (most, per) = text.split_once('/').ok_or_else(refused)?;
        let per = Per::ALL.into_iter().find(|known| known.as_str() == per).ok_or_else(refused)?;
        let digits = most.bytes().all(|b| b.is_ascii_digit());
        let most = most.parse().ok().filter(|most| digits && *most > 0).ok_or_else(refused)?;
        Ok(Self { most, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.most, self.per.as_str())
    }
}

/// A window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Per {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
}

impl Per {
    /// All of them, shortest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// The word in a rate.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "min",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// How long it is.
    pub const fn length(self) -> Duration {
        match self {
            Self::Minute => Duration::from_mins(1),
            Self::Hour => Duration::from_hours(1),
            Self::Day => Duration::from_hours(24),
        }
    }
}

/// Who must say yes, and how.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Approve {
    /// Who may.
    pub by: Approver,
    /// How long the answer may take, and how long a yes may then wait to be used; both together.
    pub ttl: Duration,
    /// How many different people must.
    pub quorum: u8,
    /// Whether the human behind the action is none of them.
    pub not_self: bool,
    /// Whether a yes is for this action alone, never for the rest of the session.
    pub once: bool,
}

impl Approve {
    /// The time if none is said.
    pub const TTL_DEFAULT: Duration = Duration::from_mins(10);
    /// The longest time.
    pub const TTL_MAX: Duration = Duration::from_hours(24);
    /// The largest quorum.
    pub const QUORUM_MAX: u8 = 8;
}

/// Who may approve.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Approver {
    /// The owner of the agent.
    Owner,
    /// The human behind the session.
    Human,
    /// Somebody in this group: `unix:NAME`, or `ISSUER:VALUE`.
    Group(String),
}

impl FromStr for Approve {
    type Err = ObligationError;

    fn from_str(text: &str) -> Result<Self, ObligationError> {
        let refused = || {
            let example = "`owner`, `human, 5m` or `unix:oncall, 10m, quorum 2, not self, once`";
            wrong(text, "an approval", example)
        };
        let mut words = text.split(',').map(str::trim);
        let by = match words.next() {
            Some("owner") => Approver::Owner,
            Some("human") => Approver::Human,
            Some(group)
                if group.split_once(':').is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty()) =>
            {
                Approver::Group(group.to_owned())
            }
            _ => return Err(refused()),
        };
        let (mut ttl, mut quorum, mut not_self, mut once) = (None, None, None, None);
        for word in words {
            let fresh = match (word, word.strip_prefix("quorum ")) {
                ("not self", _) => not_self.replace(true).is_none(),
                ("once", _) => once.replace(true).is_none(),
                (_, Some(number)) => {
                    let number = number.parse().ok().filter(|n| (1..=Self::QUORUM_MAX).contains(n));
                    quorum.replace(number.ok_or_else(refused)?).is_none()
                }
                (span, None) => {
                    let span: Span = span.parse().map_err(|_| refused())?;
                    let fits = !span.get().is_zero() && span.get() <= Self::TTL_MAX;
                    ttl.replace(fits.then(|| span.get()).ok_or_else(refused)?).is_none()
                }
            };
            if !fresh {
                return Err(refused());
            }
        }
        let rule = Self {
            by,
            ttl: ttl.unwrap_or(Self::TTL_DEFAULT),
            quorum: quorum.unwrap_or(1),
            not_self: not_self.unwrap_or(false),
            once: once.unwrap_or(false),
        };
        // One person cannot be two, nor somebody else than themselves.
        let alone = rule.by == Approver::Human && (rule.quorum > 1 || rule.not_self);
        if alone { Err(refused()) } else { Ok(rule) }
    }
}

impl fmt::Display for Approve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match &self.by {
            Approver::Owner => "owner",
            Approver::Human => "human",
            Approver::Group(group) => group,
        };
        write!(f, "{by}, {}", Span::new(self.ttl))?;
        if self.quorum > 1 {
            write!(f, ", quorum {}", self.quorum)?;
        }
        f.write_str(if self.not_self { ", not self" } else { "" })?;
        f.write_str(if self.once { ", once" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obligations_read_back_as_they_are_written() {
        for (name, text, written) in [
            ("approve", "owner", "approve owner, 10m"),
            (
                "approve",
                "unix:oncall,5m, quorum 2,not self, once",
                "approve unix:oncall, 5m, quorum 2, not self, once",
            ),
            ("approve", "human, once", "approve human, 10m, once"),
            ("budget", "amount 1000/day", "budget amount 1000/day"),
            ("label", "read:untrusted,seen", "label read:untrusted, seen"),
            ("limit", "10/min", "limit 10/min"),
        ] {
            let obligation = Obligation::read(name, text).unwrap().unwrap();
            assert_eq!(obligation.to_string(), written);
            let (name, text) = written.split_once(' ').unwrap();
            assert_eq!(Obligation::read(name, text).unwrap().unwrap(), obligation);
        }
        assert!(Obligation::read("advice", "x").is_none());
    }

    #[test]
    fn what_is_none_is_refused_with_the_form_to_write() {
        for (name, text) in [
            ("approve", ""),
            ("approve", "anybody"),
            ("approve", "owner, 25h"),
            ("approve", "owner, 0s"),
            ("approve", "owner, quorum 0"),
            ("approve", "owner, quorum 9"),
            ("approve", "owner, once, once"),
            ("approve", "human, quorum 2"),
            ("approve", "human, not self"),
            ("approve", "unix:, 5m"),
            ("budget", "1000/day"),
            ("budget", " 1000/day"),
            ("label", ""),
            ("label", "Read"),
            ("label", "a:b:c"),
            ("limit", "10"),
            ("limit", "0/min"),
            ("limit", "+1/min"),
            ("limit", "10/minute"),
        ] {
            let error = Obligation::read(name, text).unwrap().unwrap_err().to_string();
            assert!(error.contains("hint: as in `"), "{name} {text}: {error}");
        }
    }
}
