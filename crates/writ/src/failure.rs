//! Why a command was not done, as it is told to the user.

use std::error::Error;

use serde::Serialize;
use writ_client::ClientError;
use writ_control::api::FileProblem;
use writ_control::{Class, Fault};
use writ_core::Origin;
use writ_core::config::Problems;

use crate::output::count;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    fault: Box<Fault>,
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
        Self { fault: Box::new(Fault::local(class, code, message)), causes: Vec::new() }
    }

    /// A failure with its cause. A hint at the end of a cause becomes the failure's own.
    pub(crate) fn caused(code: &str, message: impl Into<String>, cause: &dyn Error) -> Self {
        let mut failure = Self::new(Class::Failed, code, message);
        for cause in chain(Some(cause)) {
            let (cause, hint) = hinted(&cause);
            failure.causes.push(cause.to_owned());
            failure.fault.hint = failure.fault.hint.or_else(|| hint.map(str::to_owned));
        }
        failure
    }

    /// An error that is the failure itself.
    pub(crate) fn of(code: &str, error: &dyn Error) -> Self {
        let text = error.to_string();
        let (message, hint) = hinted(&text);
        let mut failure = match error.source() {
            Some(cause) => Self::caused(code, message, cause),
            None => Self::new(Class::Failed, code, message),
        };
        failure.fault.hint = hint.map(str::to_owned).or(failure.fault.hint);
        failure
    }

    /// A command that was used wrongly.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { fault: Box::new(Fault::caller(Class::Usage, "cli.usage", message)), causes: Vec::new() }
    }

    /// The same with what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.fault.hint = Some(hint.into());
        self
    }

    /// Files that are wrong, each problem with its place.
    pub(crate) fn invalid(what: &str, problems: &Problems) -> Self {
        let message = format!("{} in {what}", count(problems.len(), "problem"));
        let mut failure = Self::new(Class::Invalid, "config.invalid", message);
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
        let message = std::iter::once(&self.fault.message).chain(&self.causes);
        lines.push(format!("error: {}", message.map(String::as_str).collect::<Vec<_>>().join(": ")));
        lines.extend(self.fault.hint.iter().map(|hint| format!("hint: {hint}")));
        lines
    }
}

/// What an error of a library says, and the hint that it ends in.
fn hinted(text: &str) -> (&str, Option<&str>) {
    text.split_once("; hint: ").map_or((text, None), |(text, hint)| (text, Some(hint)))
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
            return Self { fault: Box::new(fault), causes: Vec::new() };
        }
        let fault = Fault {
            class: error.class(),
            code: error.code().to_owned(),
            hint: error.hint().map(str::to_owned),
            message: error.to_string(),
            origin: Origin::Local,
            problems: Vec::new(),
        };
        Self { fault: Box::new(fault), causes: chain(error.source()) }
    }
}
