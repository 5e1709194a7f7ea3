//! Quantities with their unit in the text: `"30s"`, `"64 KiB"`. A bare number is an error.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Text that is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}; hint: write a whole number and a unit, as in {example}")]
pub struct UnitError {
    text: String,
    kind: &'static str,
    example: &'static str,
}

/// A number of bytes: `B`, `KiB`, `MiB`, `GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// This many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// This many KiB.
    pub const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    /// This many MiB.
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of bytes as an index; saturates on small machines.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        quantity(text, &SIZES).map(Self).ok_or_else(|| UnitError {
            text: text.to_owned(),
            kind: "size",
            example: "`\"64 KiB\"`",
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, self.0, &SIZES, " ")
    }
}

/// A length of time: `ms`, `s`, `m`, `h`, `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

impl Span {
    /// From a standard duration; parts below a millisecond are dropped.
    pub const fn new(duration: Duration) -> Self {
        Self(duration)
    }

    /// The standard duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        quantity(text, &TIMES).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(|| UnitError {
            text: text.to_owned(),
            kind: "length of time",
            example: "`\"30s\"`",
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &TIMES, "")
    }
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(end)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)], gap: &str) -> fmt::Result {
    let exact = units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    match exact.or(units.last()) {
        Some((unit, factor)) => write!(f, "{}{gap}{unit}", value / factor),
        None => write!(f, "{value}"),
    }
}

macro_rules! as_text {
    ($($name:ident),*) => { $(
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
    )* };
}
as_text!(ByteSize, Span);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_need_a_unit() {
        assert_eq!("64 KiB".parse(), Ok(ByteSize::kib(64)));
        assert_eq!("30s".parse(), Ok(Span::new(Duration::from_secs(30))));
        for bad in ["", "64", "KiB", "-1s", "1.5h", "10 sec", "99999999999999999999s", "64kb"] {
            assert!(bad.parse::<ByteSize>().is_err() && bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn shows_the_largest_exact_unit() {
        assert_eq!(ByteSize::mib(1).to_string(), "1 MiB");
        assert_eq!(ByteSize::bytes(1025).to_string(), "1025 B");
        assert_eq!(Span::new(Duration::from_hours(1) + Duration::from_mins(30)).to_string(), "90m");
        assert_eq!(Span::new(Duration::ZERO).to_string(), "0ms");
    }
}
