//! `writ policy`: show asks the daemon; everything else works on files, with the daemon's own engine.

mod ask;
mod diff;
mod replay;
mod suggest;
mod who_can;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use writ_client::Client;
use writ_control::Class;
use writ_core::{Layout, OperationName, Service};
use writ_policy::{
    Deed, Misasked, Outcome, Pair, PolicySet, ReplayScope, SuggestScope, check, read_samples, run_samples,
};

use super::log;
use crate::args::{Given, Policy, PolicyFiles};
use crate::event::short;
use crate::failure::Failure;
use crate::files;
use crate::output::{Output, Style, count};

pub(crate) async fn policy(
    layout: &Layout,
    client: &Client,
    ask: Policy,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    match ask {
        Policy::Check(ask) => checked(layout, ask, output),
        Policy::Test { files, samples } => tested(layout, files, samples, output),
        Policy::Show => show(client, output).await,
        Policy::Replay { files, record, since, agent } => {
            let scope = ReplayScope { since: since.map(log::beginning), agent };
            replay::replay(layout, (files, record), scope, output)
        }
        Policy::Suggest { agent, human, since, files, record } => {
            let scope = SuggestScope { agent, human, since: since.map(log::beginning) };
            suggest::suggest(layout, (files, record), scope, output)
        }
        Policy::Can { agent, human, groups, operation, arguments, purpose, against } => {
            let pair = Pair { agent, human, groups, purpose };
            ask::can(layout, against, &pair, &deed(operation, arguments), output)
        }
        Policy::WhoCan { operation, arguments, against, record } => {
            who_can::who_can(layout, (against, record), &deed(operation, arguments), output)
        }
        Policy::Diff { folder, base, services } => {
            let files = |folder| PolicyFiles { folder: Some(folder), services: services.clone() };
            let now = loaded(layout, files(folder))?.set.listed();
            let was = match base {
                Some(base) => loaded(layout, files(base))?.set.listed(),
                None => diff::in_force(client).await?,
            };
            diff::diff(now, was, output)
        }
    }
}

/// Folder of policies, and folders of services.
fn folders(layout: &Layout, ask: PolicyFiles) -> (PathBuf, Vec<PathBuf>) {
    let services = if ask.services.is_empty() { vec![layout.services()] } else { ask.services };
    (ask.folder.unwrap_or_else(|| layout.policies()), services)
}

fn deed(operation: OperationName, arguments: Vec<Given>) -> Deed {
    let arguments = arguments.into_iter().map(|Given(name, value)| (name, value));
    Deed { operation, arguments: arguments.collect() }
}

/// A question that does not fit the catalog was typed wrongly.
fn misasked(wrong: Misasked) -> Failure {
    let failure = Failure::usage(wrong.what);
    match wrong.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// A checked set with what it was checked against.
struct Loaded {
    folder: PathBuf,
    services: Vec<Arc<Service>>,
    set: Arc<PolicySet>,
}

fn loaded(layout: &Layout, ask: PolicyFiles) -> Result<Loaded, Failure> {
    let (folder, services) = folders(layout, ask);
    let services = files::services(&services)?;
    let set = PolicySet::load(&files::read(&folder, "cedar")?, &services)
        .map_err(|problems| Failure::invalid("the policies", &problems))?;
    Ok(Loaded { folder, services, set: Arc::new(set) })
}

fn checked(layout: &Layout, ask: PolicyFiles, output: &mut Output) -> Result<ExitCode, Failure> {
    let (folder, services) = folders(layout, ask);
    let services = files::services(&services)?;
    let checked = check(&files::read(&folder, "cedar")?, &services)
        .map_err(|problems| Failure::invalid("the policies", &problems))?;
    if output.is_json() {
        output.object(&checked)?;
        return Ok(ExitCode::SUCCESS);
    }
    for warning in &checked.warnings {
        output.note(&format!("warning: {warning}"));
    }
    let (policies, operations) = (count(checked.policies, "policy"), count(checked.operations, "operation"));
    output.text(&format!("valid: {policies} against {operations}; digest {}", checked.digest))?;
    Ok(ExitCode::SUCCESS)
}

/// A sample's answer, as JSON.
#[derive(Serialize)]
struct Answered {
    title: String,
    file: String,
    line: usize,
    passed: bool,
    permitted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    explanation: String,
}

impl From<&Outcome> for Answered {
    fn from(outcome: &Outcome) -> Self {
        let permitted = outcome.verdict.permits();
        Self {
            title: outcome.sample.title.clone(),
            file: outcome.sample.place.file.to_string(),
            line: outcome.sample.place.line,
            passed: outcome.passed,
            permitted,
            reason: (!permitted).then(|| outcome.verdict.refusal().code()),
            explanation: outcome.explanation.clone(),
        }
    }
}

fn tested(
    layout: &Layout,
    ask: PolicyFiles,
    samples: Option<PathBuf>,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let Loaded { folder, services, set } = loaded(layout, ask)?;
    let samples = samples.unwrap_or_else(|| folder.join("samples"));
    let samples = read_samples(&files::read(&samples, "toml")?, &services)
        .map_err(|problems| Failure::invalid("the samples", &problems))?;
    let report = run_samples(&set, &samples);
    let answered: Vec<Answered> = report.outcomes.iter().map(Answered::from).collect();
    if output.is_json() {
        output.object(&answered)?;
    } else {
        for answer in &answered {
            let (style, word) = if answer.passed { (Style::Good, "ok    ") } else { (Style::Bad, "FAILED") };
            output.line(&[(style, word), (Style::Plain, &format!("  {}", answer.title))])?;
            if !answer.passed {
                let place = format!("        {}:{}", answer.file, answer.line);
                output.line(&[(Style::Faint, &place)])?;
                for line in answer.explanation.lines() {
                    output.line(&[(Style::Plain, &format!("        {line}"))])?;
                }
            }
        }
    }
    if report.passed() {
        output.note(&format!("{} answered as expected", count(answered.len(), "sample")));
        return Ok(ExitCode::SUCCESS);
    }
    let message = format!("{} of {} answered otherwise", report.failures(), count(answered.len(), "sample"));
    Err(Failure::new(Class::Invalid, "policy.samples_failed", message))
}

/// What a command ends with that was done and found a difference: no failure, and not nothing either.
const DIFFERS: u8 = 4;

async fn show(client: &Client, output: &mut Output) -> Result<ExitCode, Failure> {
    let view = client.policy_show().await?;
    if output.is_json() {
        output.object(&view)?;
        return Ok(ExitCode::SUCCESS);
    }
    for policy in &view.policies {
        output.line(&[(Style::Faint, &format!("// {}", policy.id))])?;
        output.text(policy.text.trim_end())?;
        output.line(&[])?;
    }
    output.note(&format!("{}, digest {}", count(view.policies.len(), "policy"), short(&view.digest)));
    Ok(ExitCode::SUCCESS)
}
