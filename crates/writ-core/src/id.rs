//! Typed identifiers. Each is a ULID (128 bit: 48 bit milliseconds, 80 bit random; <https://github.com/ulid/spec>),
//! so ids sort by creation and cannot be mistaken for one another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::clock::Timestamp;

/// Where ids get their randomness: passed in, so that simulations are reproducible.
pub trait IdSource: Send + Sync {
    /// 128 uniformly random bits; only the low 80 are used.
    fn random(&self) -> u128;
}

/// An id that is not 26 characters of Crockford base 32.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: 26 characters of 0-9 and A-Z without I, L, O, U")]
pub struct IdError(String);

macro_rules! id {
    ($(#[doc = $doc:literal])* $name:ident) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// A new id of the time `now`.
            pub fn new(now: Timestamp, source: &dyn IdSource) -> Self {
                Self(Ulid::from_parts(now.millis(), source.random()))
            }

            /// The id made of exactly these 128 bits.
            pub const fn from_bits(bits: u128) -> Self {
                Self(Ulid(bits))
            }

            /// The 128 bits of the id.
            pub const fn bits(self) -> u128 {
                self.0.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Ulid::from_string(text).map(Self).map_err(|_| IdError(text.to_owned()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id! {
    /// One attested process tree of an agent.
    RunId
}
id! {
    /// The binding of run, human, purpose, time limit and grant.
    SessionId
}
id! {
    /// One connection that a governed process opened.
    ConnId
}
id! {
    /// One thing an agent tried to do.
    ActionId
}
id! {
    /// One credential minted for one permit.
    LeaseId
}
id! {
    /// One question whether an action may be done, put to people.
    ApprovalId
}

/// What the kernel knows a run by: the low 64 of the 80 random bits of its [`RunId`], never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunTag(u64);

impl RunTag {
    /// The tag that the kernel reported; `None` for zero, which means "no run".
    pub const fn from_kernel(bits: u64) -> Option<Self> {
        if bits == 0 { None } else { Some(Self(bits)) }
    }

    /// The value to write into a kernel map.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl RunId {
    /// The run's tag in the kernel.
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
    pub const fn tag(self) -> RunTag {
        let low = self.bits() as u64;
        RunTag(if low == 0 { 1 } else { low })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u128);
    impl IdSource for Fixed {
        fn random(&self) -> u128 {
            self.0
        }
    }

    #[test]
    fn round_trips_as_text_and_sorts_by_time() {
        let early = RunId::new(Timestamp::from_micros(1_000), &Fixed(u128::MAX));
        let late = RunId::new(Timestamp::from_micros(2_000_000), &Fixed(0));
        assert!(early < late);
        assert_eq!(early.to_string().parse(), Ok(early));
        assert!("not-an-id".parse::<RunId>().is_err());
    }

    #[test]
    fn a_tag_is_never_zero() {
        assert_eq!(RunId::from_bits(0).tag().get(), 1);
        assert_eq!(RunId::from_bits(7 << 64 | 9).tag().get(), 9);
        assert_eq!(RunTag::from_kernel(0), None);
    }
}
