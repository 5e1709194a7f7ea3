//! `writ policy suggest`: recorded actions as policies, to be read before anything else.

use std::process::ExitCode;

use writ_core::Layout;
use writ_policy::{Suggest, SuggestScope, check};

use super::{Loaded, loaded};
use crate::args::{PolicyFiles, Record};
use crate::command::verify;
use crate::failure::Failure;
use crate::output::{Output, count};

pub(super) fn suggest(
    layout: &Layout,
    (policies, record): (PolicyFiles, Record),
    scope: SuggestScope,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let Loaded { services, set, .. } = loaded(layout, policies)?;
    let mut suggest = Suggest::new(set, &services, scope);
    verify::read(layout, record, |leaf| suggest.take(leaf))?;
    let found = suggest.finish();
    // What is not valid is not worth reading.
    check(&[("suggested".into(), found.text.clone())], &services)
        .map_err(|problems| Failure::invalid("what would be suggested", &problems))?;
    if output.is_json() {
        output.object(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    output.text(&found.text)?;
    output.note(&format!(
        "{} to read; try them beside the forbids with `writ policy replay DIR`",
        count(found.policies.len(), "policy")
    ));
    Ok(ExitCode::SUCCESS)
}
