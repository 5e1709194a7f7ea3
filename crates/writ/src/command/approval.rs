//! `writ approvals`, `writ approve`, `writ deny`.

use std::collections::BTreeSet;
use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use writ_client::Client;
use writ_control::Class;
use writ_control::api::{AnswerGiven, QuestionRow};
use writ_core::ApprovalId;
use writ_core::event::Answer;
use writ_core::units::ByteSize;

use crate::args::{Approvals, Approve};
use crate::failure::Failure;
use crate::localtime::local;
use crate::output::{Output, Style};
use crate::table::Table;

pub(crate) async fn approvals(
    client: &Client,
    ask: &Approvals,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    if ask.watch {
        return watch(client, output).await;
    }
    let mut all = client.approval_list().await?;
    if let Some(approval) = ask.approval {
        all.questions.retain(|row| row.approval == approval);
        let Some(row) = all.questions.first() else {
            return Err(Failure::new(
                Class::Missing,
                "approval.missing",
                format!("nobody asks for approval `{approval}` now"),
            ));
        };
        return if output.is_json() { output.object(row) } else { show(row, output) }
            .map(|()| ExitCode::SUCCESS);
    }
    if output.is_json() {
        output.object(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["APPROVAL", "AGENT", "HUMAN", "OPERATION", "STATE", "UNTIL"]);
    for row in &all.questions {
        let (style, state) = match (row.settled, row.yours) {
            (true, _) => (Style::Good, "approved"),
            (false, true) => (Style::Warn, "asks you"),
            (false, false) => (Style::Plain, "asks others"),
        };
        table.row([
            (Style::Strong, row.approval.to_string()),
            (Style::Plain, row.agent.to_string()),
            (Style::Plain, row.human.to_string()),
            (Style::Plain, row.request.operation.to_string()),
            (style, state.to_owned()),
            (Style::Plain, local(row.expires.0)),
        ]);
    }
    output.table(&table, "nothing waits for an approval")?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn approve(client: &Client, ask: Approve, output: &mut Output) -> Result<ExitCode, Failure> {
    let answer = if ask.session { Answer::ApprovedForSession } else { Answer::Approved };
    give(client, AnswerGiven { answer, approval: ask.approval, note: ask.note }, output).await
}

pub(crate) async fn deny(
    client: &Client,
    approval: ApprovalId,
    reason: String,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    give(client, AnswerGiven { answer: Answer::Denied, approval, note: Some(reason) }, output).await
}

async fn give(client: &Client, given: AnswerGiven, output: &mut Output) -> Result<ExitCode, Failure> {
    let taken = client.approval_answer(&given).await?;
    if output.is_json() {
        output.object(&taken)?;
        return Ok(ExitCode::SUCCESS);
    }
    let word = match given.answer {
        Answer::Approved => "approved",
        Answer::ApprovedForSession => "approved for the session",
        Answer::Denied => "denied",
    };
    let more = if taken.settled { "" } else { "; others are still asked" };
    output.text(&format!("{word} as {}{more}", taken.by))?;
    Ok(ExitCode::SUCCESS)
}

/// All that an approver needs to know.
fn show(row: &QuestionRow, output: &mut Output) -> Result<(), Failure> {
    let request = &row.request;
    output.line(&[
        (Style::Strong, &format!("{} wants {}", row.agent, request.operation)),
        (Style::Plain, &format!(" for {}", row.human)),
    ])?;
    if !row.purpose.is_empty() {
        output.text(&format!("purpose    {}", row.purpose.replace(['\n', '\r'], " ")))?;
    }
    for (name, value) in &request.arguments {
        output.text(&format!("argument   {name} = {value}"))?;
    }
    let body = ByteSize::bytes(row.body_bytes);
    output.text(&format!("request    {} {}{}", request.method, request.host, request.path))?;
    output.text(&format!("body       {body}, sha256 {}", row.body_sha256))?;
    for rule in &row.rules {
        output.text(&format!("policy     {rule}"))?;
    }
    for human in &row.approved_by {
        output.text(&format!("approved   by {human}"))?;
    }
    output.text(&format!("approval   {}, until {}", row.approval, local(row.expires.0)))?;
    let gone = "(the daemon was restarted: the text is here again once the request is; its digest holds)";
    for line in row.preview.as_deref().unwrap_or(gone).lines() {
        output.line(&[(Style::Faint, "| "), (Style::Plain, line)])?;
    }
    Ok(())
}

/// Asks on the terminal for each question to the caller, until interrupted.
async fn watch(client: &Client, output: &mut Output) -> Result<ExitCode, Failure> {
    if !std::io::stdin().is_terminal() {
        let failure =
            Failure::new(Class::Failed, "cli.no_terminal", "`--watch` asks on a terminal, and there is none");
        return Err(failure.hint("use `writ approvals --json` and `writ approve`"));
    }
    let mut shown: BTreeSet<ApprovalId> = BTreeSet::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let all = client.approval_list().await?;
        shown.retain(|known| all.questions.iter().any(|row| row.approval == *known));
        for row in all.questions.iter().filter(|row| row.yours && !row.settled) {
            if !shown.insert(row.approval) {
                continue;
            }
            show(row, output)?;
            output.flush()?;
            let Some(answer) = asked(output)? else { continue };
            let given = AnswerGiven { answer, approval: row.approval, note: None };
            // It may have been answered elsewhere, or be too late; the next may not.
            if let Err(error) = give(client, given, output).await {
                output.failure(&error);
            }
            output.flush()?;
        }
    }
}

/// What the human at the terminal says; `None` to leave it to others.
fn asked(output: &mut Output) -> Result<Option<Answer>, Failure> {
    let failed =
        |error: std::io::Error| Failure::caused("cli.terminal", "cannot ask on the terminal", &error);
    loop {
        output.ask("approve? [y]es, for the [s]ession, [n]o, [l]ater: ");
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line).map_err(failed)? == 0 {
            return Ok(None);
        }
        match line.trim() {
            "y" | "yes" => return Ok(Some(Answer::Approved)),
            "s" | "session" => return Ok(Some(Answer::ApprovedForSession)),
            "n" | "no" => return Ok(Some(Answer::Denied)),
            "l" | "later" => return Ok(None),
            _ => {}
        }
    }
}
