//! `writ policy can`: both keys, asked of policies on disk.

use std::process::ExitCode;

use serde::Serialize;
use writ_control::Class;
use writ_core::Layout;
use writ_core::event::Keys;
use writ_policy::{Deed, Pair, can as asked, explain};

use super::{Loaded, loaded, misasked};
use crate::args::Against;
use crate::failure::Failure;
use crate::output::{Output, Style};

/// The answer as JSON.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    permitted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    keys: &'a Keys,
    explanation: &'a str,
}

/// Ends as a command does that was denied, if the answer is no; but the answer is a result, and no failure.
pub(super) fn can(
    layout: &Layout,
    against: Against,
    pair: &Pair,
    deed: &Deed,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let Loaded { services, set, .. } = loaded(layout, against.into())?;
    let verdict = asked(&set, &services, pair, deed).map_err(misasked)?;
    let (permitted, explanation) = (verdict.permits(), explain(&verdict));
    if output.is_json() {
        let reason = (!permitted).then(|| verdict.refusal().code());
        output.object(&Answer { permitted, reason, keys: &verdict.keys, explanation: &explanation })?;
    } else {
        output.line(&[(if permitted { Style::Good } else { Style::Bad }, &explanation)])?;
    }
    Ok(if permitted { ExitCode::SUCCESS } else { ExitCode::from(Class::Denied.exit_code()) })
}
