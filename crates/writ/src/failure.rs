//! Why a command was not done, as it is told to the user.

use std::error::Error;

use serde::Serialize;
use writ_client::ClientError;
use writ_control::api::FileProblem;
use writ_control::{Class, Fault};
use writ_core::Origin;
use writ_core::config::Problems;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    fault: Fault,
    causes: Vec<String>,
}

/// The same as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct FailureJson<'a> {
    error: &'a Fault,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    causes: &'a [String],
    exit_code: u8,
}

impl Failure {
    /// A failure on this side.
    pub(crate) fn new(class: Class, code: &str, message: impl Into<String>) -> Self {
        Self { fault: Fault::local(class, code, message), causes: Vec::new() }
    }

    /// A failure with its cause.
    pub(crate) fn caused(code: &str, message: impl Into<String>, cause: &dyn Error) -> Self {
        Self { causes: chain(Some(cause)), ..Self::new(Class::Failed, code, message) }
    }

    /// A command that was used wrongly.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { fault: Fault::caller(Class::Usage, "cli.usage", message), causes: Vec::new() }
    }

    /// The same with what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.fault.hint = Some(hint.into());
        self
    }

    /// Files that are wrong, each problem with its place.
    pub(crate) fn invalid(what: &str, problems: &Problems) -> Self {
        let count = problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        let mut failure = Self::new(Class::Invalid, "config.invalid", format!("{count} {noun} in {what}"));
        failure.fault.problems = problems.iter().map(FileProblem::from).collect();
        failure
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        self.fault.class.exit_code()
    }

    /// As JSON.
    pub(crate) fn json(&self) -> FailureJson<'_> {
        FailureJson { error: &self.fault, causes: &self.causes, exit_code: self.exit_code() }
    }

    /// As lines for people: what, why, where, and what to do.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for problem in &self.fault.problems {
            let place = match (problem.line, problem.key.as_str()) {
                (0, "") => problem.file.clone(),
                (0, key) => format!("{}: `{key}`", problem.file),
                (line, "") => format!("{}:{line}:{}", problem.file, problem.column),
                (line, key) => format!("{}:{line}:{}: `{key}`", problem.file, problem.column),
            };
            lines.push(format!("{place}: {}", problem.what));
            lines.extend(problem.hint.iter().map(|hint| format!("    hint: {hint}")));
        }
        let causes: String = self.causes.iter().map(|cause| format!(": {cause}")).collect();
        lines.push(format!("error: {}{causes}", self.fault.message));
        lines.extend(self.fault.hint.iter().map(|hint| format!("hint: {hint}")));
        lines
    }
}

fn chain(mut next: Option<&dyn Error>) -> Vec<String> {
    let mut causes = Vec::new();
    while let Some(error) = next {
        causes.push(error.to_string());
        next = error.source();
    }
    causes
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        if let ClientError::Fault(fault) = error {
            return Self { fault, causes: Vec::new() };
        }
        let fault = Fault {
            class: error.class(),
            code: error.code().to_owned(),
            hint: error.hint().map(str::to_owned),
            message: error.to_string(),
            origin: Origin::Local,
            problems: Vec::new(),
        };
        Self { fault, causes: chain(error.source()) }
    }
}
