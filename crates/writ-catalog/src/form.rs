//! The fields of a form: the body of a `POST`, whose query is then empty, or the query of a `GET`.
//!
//! Services of AWS name the operation in one of them, and number the items of a list (`InstanceId.1`, `InstanceId.2`). Names and
//! values are read as those of a query are.

use std::borrow::Cow;
use std::collections::BTreeSet;

use writ_core::argument::ArgumentKind;
use writ_core::service::{OperationRule, RequestHead};
use writ_core::{Argument, Reason};

use crate::content;
use crate::query::{self, alike, is_within, pairs, parameter};

/// The form that a request sends, as text. There is one place for it, so that no server reads another.
pub(crate) fn of<'r>(request: &RequestHead<'r>, body: &'r [u8]) -> Result<&'r str, Reason> {
    let query = request.query.unwrap_or_default();
    match request.method {
        "GET" => Ok(query),
        _ if query.is_empty() => content::form(request, body),
        _ => Err(Reason::AmbiguousRequest),
    }
}

/// Whether the form has the fields that the rule wants, each once and no other that some server takes for one of them.
pub(crate) fn fits(rule: &OperationRule, form: &str) -> Result<bool, Reason> {
    for (name, value) in &rule.when.form {
        match query::argument(Some(form), name, ArgumentKind::String)? {
            Some(Argument::String(found)) if found == *value => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// A field as an argument.
pub(crate) fn argument(form: &str, name: &str, kind: ArgumentKind) -> Result<Option<Argument>, Reason> {
    if kind == ArgumentKind::Strings { numbered(form, name) } else { query::argument(Some(form), name, kind) }
}

/// The values of all `NAME.1`, `NAME.2` and so on. Whatever else begins so is refused.
fn numbered(form: &str, name: &str) -> Result<Option<Argument>, Reason> {
    let (mut names, mut values) = (BTreeSet::new(), BTreeSet::new());
    for (key, _) in pairs(form.as_bytes()) {
        let (head, number) = key.rsplit_once('.').unwrap_or((&key, ""));
        if !alike(&key, name) && !is_within(&key, name) {
            continue;
        }
        let digits =
            !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
        if head != name || !digits || !names.insert(key.clone()) {
            return Err(Reason::AmbiguousRequest);
        }
        // Read again by the strict reader, which finds it once and well encoded, or refuses.
        let value = parameter(Some(form), &key)?.map(Cow::into_owned).ok_or(Reason::AmbiguousRequest)?;
        values.insert(value);
    }
    Ok((!names.is_empty()).then_some(Argument::Strings(values)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_fields_are_a_set() {
        let read = |form: &str| numbered(form, "InstanceId");
        let texts =
            |of: &[&str]| Ok(Some(Argument::Strings(of.iter().map(|text| (*text).to_owned()).collect())));
        assert_eq!(read("Action=x&InstanceId.1=i-1&InstanceId.2=i%2D2"), texts(&["i-1", "i-2"]));
        assert_eq!(read("InstanceId.7=i-1"), texts(&["i-1"]));
        assert_eq!(read("Action=x&InstanceIds.1=i-1&Instance.1=a"), Ok(None));
        for form in [
            "InstanceId=i-1",
            "InstanceId.=i-1",
            "InstanceId.01=i-1",
            "InstanceId.x=i-1",
            "InstanceId.1=a&InstanceId.1=b",
            "InstanceId.1=a&InstanceId.%31=b",
            "InstanceId.1=a&instanceid.2=b",
            "InstanceId.1=a&InstanceId_2=b",
            "InstanceId.1=a&InstanceId[2]=b",
            "InstanceId.1=%zz",
        ] {
            assert_eq!(read(form), Err(Reason::AmbiguousRequest), "{form}");
        }
    }
}
