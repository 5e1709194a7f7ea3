//! Errors of the control API, in the manner of RFC 9457: a stable code, whose fault it is, what happened, what to do.

use serde::{Deserialize, Serialize};
use writ_core::config::Problems;
use writ_core::{Origin, Reason};

use crate::api::FileProblem;

/// What kind of failure it is; decides the HTTP status and the exit code of `writ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// It was tried and failed.
    Failed,
    /// The caller may not.
    Denied,
    /// Configuration or policy is invalid.
    Invalid,
    /// The request was not understood.
    Usage,
    /// The thing asked for is not there.
    Missing,
    /// Not now: starting, stopping, or at a limit.
    Unavailable,
}

impl Class {
    /// The HTTP status of an answer of this class.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Failed => 500,
            Self::Denied => 403,
            Self::Invalid => 422,
            Self::Usage => 400,
            Self::Missing => 404,
            Self::Unavailable => 503,
        }
    }

    /// The exit code of a program that ends with it.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed | Self::Missing | Self::Unavailable => 1,
            Self::Denied => 2,
            Self::Invalid => 3,
            Self::Usage => 64,
        }
    }
}

/// Why an operation was not done. The whole body of every answer that is not 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// The kind of failure.
    pub class: Class,
    /// Stable, `part.situation`.
    pub code: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What happened: lower case, no final period.
    pub message: String,
    /// Whose fault it is; `agent` is the caller.
    pub origin: Origin,
    /// Every problem of a refused configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<FileProblem>,
}

impl Fault {
    /// A fault on this host's side.
    pub fn local(class: Class, code: &str, message: impl Into<String>) -> Self {
        Self::new(class, code, Origin::Local, message.into())
    }

    /// A fault of the caller.
    pub fn caller(class: Class, code: &str, message: impl Into<String>) -> Self {
        Self::new(class, code, Origin::Agent, message.into())
    }

    fn new(class: Class, code: &str, origin: Origin, message: String) -> Self {
        Self { class, code: code.to_owned(), hint: None, message, origin, problems: Vec::new() }
    }

    /// The same with what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A configuration that was refused whole; the old one stays.
    pub fn refused_configuration(problems: &Problems) -> Self {
        let count = problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        let mut fault = Self::local(
            Class::Invalid,
            "config.refused",
            format!("the configuration has {count} {noun}; the old one stays in force"),
        )
        .hint("mend the files and run `writ reload` again");
        fault.problems = problems.iter().map(FileProblem::from).collect();
        fault
    }

    /// Nothing of this kind has this name.
    pub fn missing(what: &str, name: &impl std::fmt::Display) -> Self {
        Self::caller(Class::Missing, "control.not_found", format!("no {what} `{name}`"))
    }
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        let class = match reason.http_status() {
            403 => Class::Denied,
            503 => Class::Unavailable,
            _ => Class::Failed,
        };
        Self::new(class, reason.code(), reason.origin(), reason.public_text().to_owned()).hint(reason.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_style_guide() {
        let codes = [Class::Failed, Class::Denied, Class::Invalid, Class::Usage].map(Class::exit_code);
        assert_eq!(codes, [1, 2, 3, 64]);
    }

    #[test]
    fn a_reason_keeps_its_code_origin_and_hint() {
        let fault = Fault::from(Reason::NotReady);
        assert_eq!((fault.code.as_str(), fault.class), ("gate.not_ready", Class::Unavailable));
        assert_eq!(fault.origin, Origin::Local);
        assert!(fault.hint.is_some());
    }
}
