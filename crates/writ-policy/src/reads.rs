//! Which facts of a session policies read, from their form in Cedar's JSON.
//!
//! A record that lacks such a fact cannot answer for it. Invariant: what a policy might read counts as read, so a policy
//! that takes the context or the session as a whole reads everything.

use serde_json::Value;

/// What is shown to conditions only if some policy may read it, because showing it takes longer than most conditions do: of
/// the session, and the way to the action.
pub(crate) const FACTS: [&str; 4] = ["approved", "done", "labels", "path"];

/// Whether this policy may read one of these attributes of the session or the context.
pub(crate) fn reads(policy: &cedar_policy::Policy, wanted: &[&str]) -> bool {
    policy
        .to_json()
        .map_or(true, |json| json.get("conditions").is_some_and(|conditions| finds(conditions, wanted)))
}

fn finds(expression: &Value, wanted: &[&str]) -> bool {
    if let Some((name, left)) = access(expression) {
        return match access(left) {
            // `context.session.NAME`.
            Some(("session", base)) if is_context(base) => wanted.contains(&name),
            // `context.NAME`; with the session as a whole goes all that is in it.
            None if is_context(left) => name == "session" || wanted.contains(&name),
            _ => finds(left, wanted),
        };
    }
    match expression {
        Value::Object(fields) => is_context(expression) || fields.values().any(|inner| finds(inner, wanted)),
        Value::Array(items) => items.iter().any(|inner| finds(inner, wanted)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The attribute and the expression that it is asked of, in `left.NAME` or `left has NAME`.
fn access(expression: &Value) -> Option<(&str, &Value)> {
    let asked = expression.get(".").or_else(|| expression.get("has"))?;
    Some((asked.get("attr")?.as_str()?, asked.get("left")?))
}

fn is_context(expression: &Value) -> bool {
    expression.get("Var").and_then(Value::as_str) == Some("context")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_found_wherever_it_stands() {
        for (condition, expected) in [
            ("context.session.done.write.hour > 3", true),
            ("!(context.args has x && context.session.done.read.day == 0)", true),
            ("[context.session] .contains(context.session)", true),
            ("context == context", true),
            ("context.session.labels.contains(\"a\")", false),
            ("context.args.done == 1", false),
            ("context.args.path.done == 1", false),
            ("context.done.done == 1", true),
            ("context.session has purpose", false),
            ("principal == resource", false),
        ] {
            let text = format!("permit (principal, action, resource) when {{ {condition} }};");
            let policy: cedar_policy::Policy = text.parse().unwrap();
            assert_eq!(reads(&policy, &["done"]), expected, "{condition}");
        }
    }
}
