//! A verdict in sentences, for people.

use std::fmt::Write as _;

use writ_core::Reason;
use writ_core::event::Key;
use writ_gate::Verdict;

/// Says the verdict, both keys with their policies, and what to do about a refusal.
///
/// ```
/// use writ_core::Mode;
/// use writ_core::event::{Key, Keys};
/// use writ_gate::Verdict;
///
/// let key = |permitted, policy: &str| Key { permitted, policies: vec![policy.to_owned()] };
/// let keys = Keys { agent: key(true, "a"), human: key(true, "b"), policy_digest: String::new() };
/// assert_eq!(
///     writ_policy::explain(&Verdict { keys, reason: None, owed: Vec::new(), mode: Mode::Enforce }),
///     "Permitted. The agent may, by policy `a`. The human may, by policy `b`."
/// );
/// ```
pub fn explain(verdict: &Verdict) -> String {
    let keys = &verdict.keys;
    if verdict.permits() {
        let (agent, human) = (by(&keys.agent), by(&keys.human));
        let mut text = format!("Permitted. The agent may, {agent}. The human may, {human}.");
        for owed in &verdict.owed {
            write!(text, " It owes `{}`, by policy `{}`.", owed.obligation, owed.policy).unwrap_or_default();
        }
        return text;
    }
    let reason = verdict.refusal();
    let mut text = format!("Refused, because {} ({}).", reason.public_text(), reason.code());
    for (who, key) in [("agent", &keys.agent), ("human", &keys.human)] {
        // Writing to a string cannot fail.
        write!(text, " {}.", side(who, key, reason)).unwrap_or_default();
    }
    write!(text, " Next: {}.", reason.hint()).unwrap_or_default();
    text
}

fn side(who: &str, key: &Key, reason: Reason) -> String {
    match (key.permitted, key.policies.is_empty()) {
        (true, _) => format!("The {who} may, {}", by(key)),
        (false, true) if reason == Reason::PolicyError => format!("Whether the {who} may is not known"),
        (false, true) => format!("No policy permits the {who}"),
        (false, false) if reason == Reason::PolicyError => {
            format!(
                "Whether the {who} may is not known: evaluation failed {}",
                by(key).replacen("by", "in", 1)
            )
        }
        (false, false) => format!("The {who} may not, {}", by(key)),
    }
}

fn by(key: &Key) -> String {
    let ids: Vec<String> = key.policies.iter().map(|id| format!("`{id}`")).collect();
    match ids.as_slice() {
        [] => "by no policy that is named".to_owned(),
        [one] => format!("by policy {one}"),
        _ => format!("by policies {}", ids.join(", ")),
    }
}
