//! Suggested policies as the text of a file: what they rest on stands above each as a comment.

use writ_core::{OperationName, ServiceName};
use writ_gate::limits::POLICY_ID_BYTES_MAX;

use super::{SuggestScope, Suggested, Suggestion, Whose};

/// What one policy is about.
pub(super) struct Key<'k> {
    pub(super) scope: &'k SuggestScope,
    pub(super) whose: &'k Whose,
    pub(super) operation: &'k OperationName,
    pub(super) service: &'k ServiceName,
}

impl Key<'_> {
    /// The id: unique, as its three names are. `None` if policies could not have it.
    pub(super) fn id(&self) -> Option<String> {
        let Self { scope: SuggestScope { agent, .. }, operation, .. } = self;
        let id = match self.whose {
            Whose::Agent => format!("suggested/{agent}/{operation}"),
            Whose::Human(human) => format!("suggested/{agent}/{operation}/{human}"),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_/:#".contains(c);
        (id.len() <= POLICY_ID_BYTES_MAX && id.chars().all(allowed)).then_some(id)
    }

    fn principal(&self) -> String {
        match self.whose {
            Whose::Agent => format!("Writ::Agent::{}", quoted(self.scope.agent.as_str())),
            Whose::Human(human) => format!("Writ::Human::{}", quoted(human.as_str())),
        }
    }

    /// What the key asks of the session: a human's is for this agent alone, and an agent's for the human that was asked for.
    pub(super) fn conditions(&self) -> Vec<String> {
        match (self.whose, &self.scope.human) {
            (Whose::Human(_), _) => {
                vec![format!("context.session.agent == Writ::Agent::{}", quoted(self.scope.agent.as_str()))]
            }
            (Whose::Agent, Some(human)) => {
                vec![format!("context.session.human == Writ::Human::{}", quoted(human.as_str()))]
            }
            (Whose::Agent, None) => Vec::new(),
        }
    }
}

/// One policy with its comment.
pub(super) fn policy(key: &Key<'_>, suggestion: &Suggestion) -> String {
    let Suggestion { id, actions, observed, first, newest, open, conditions, .. } = suggestion;
    let mut lines = vec![match actions {
        1 => format!("// 1 action, {newest}"),
        _ => format!("// {actions} actions, first {first}, newest {newest}"),
    }];
    if *observed > 0 {
        lines.push(format!("// {observed} of them done only because observed"));
    }
    lines.extend(open.iter().map(|(name, why)| format!("// any `{name}`: {}", why.text())));
    lines.extend(id.as_ref().map(|id| format!("@id({})", quoted(id))));
    lines.extend([
        "permit (".to_owned(),
        format!("  principal == {},", key.principal()),
        format!("  action == Writ::Action::{},", quoted(key.operation.as_str())),
        format!("  resource == Writ::Service::{}", quoted(key.service.as_str())),
    ]);
    if conditions.is_empty() {
        lines.push(");".to_owned());
    } else {
        lines.extend([")".to_owned(), "when {".to_owned()]);
        lines.push(format!("  {}", conditions.join(" &&\n  ")));
        lines.push("};".to_owned());
    }
    lines.join("\n") + "\n"
}

/// The whole file.
pub(super) fn file(found: &Suggested, policies: &[String]) -> String {
    let people = found.humans().len();
    let mut head = vec![format!(
        "// Suggested for agent `{}`: {} of {} recorded actions, for {people} {}.",
        found.agent,
        found.suggested,
        found.actions,
        if people == 1 { "human" } else { "humans" }
    )];
    head.extend(
        found.left_out.iter().map(|left| format!("// Not suggested: {} {}.", left.count, left.why.text())),
    );
    let head = head.join("\n") + "\n";
    [head].iter().chain(policies).map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// As a literal of Cedar. What hides is escaped.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}
