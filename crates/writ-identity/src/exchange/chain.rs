//! `act` (RFC 8693 section 4.1): who acts, and through whom it came to that.

use serde_json::{Map, Value};
use writ_gate::{Session, limits};

use super::Refusal;

/// The actors of a new token, the newest first: the run, the runs that started it, and those of the token that it shows.
/// A run that shows its own token is no hop.
pub(super) fn actors(session: &Session, earlier: &[String]) -> Result<Vec<String>, Refusal> {
    let facts = session.facts();
    let run = facts.spiffe_id.to_string();
    let before = match earlier.split_first() {
        Some((newest, before)) if *newest == run => before,
        Some(_) | None => earlier,
    };
    let parents = facts.delegation.parents.iter().rev().map(|parent| parent.spiffe_id.to_string());
    let parents: Vec<String> = parents.filter(|parent| !before.contains(parent)).collect();
    let actors: Vec<String> = [run].into_iter().chain(parents).chain(before.iter().cloned()).collect();
    if actors.len() > limits::ACTORS_MAX {
        return Err(Refusal::Request("the chain of actors is too long"));
    }
    Ok(actors)
}

/// The claim: the newest outermost, and nothing in it but who.
pub(super) fn write(actors: &[String]) -> Option<Value> {
    actors.iter().rev().fold(None, |inner, actor| {
        let mut claim = Map::new();
        if let Some(inner) = inner {
            claim.insert("act".to_owned(), inner);
        }
        claim.insert("sub".to_owned(), actor.as_str().into());
        Some(Value::Object(claim))
    })
}

/// The actors of a claim, the newest first; `None` if it is not of our own form.
pub(super) fn read(claim: &Value) -> Option<Vec<String>> {
    let mut actors = Vec::new();
    let mut next = Some(claim);
    while let Some(claim) = next {
        if actors.len() >= limits::ACTORS_MAX {
            return None;
        }
        actors.push(claim.get("sub")?.as_str()?.to_owned());
        next = claim.get("act");
    }
    Some(actors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_outermost() {
        let actors = ["c", "b", "a"].map(str::to_owned);
        let claim = write(&actors).unwrap();
        assert_eq!(claim.to_string(), r#"{"act":{"act":{"sub":"a"},"sub":"b"},"sub":"c"}"#);
        assert_eq!(read(&claim).unwrap(), actors);
        assert_eq!(read(&serde_json::json!({"sub": "a", "act": {"iss": "x"}})), None);
        let long = vec!["x".to_owned(); limits::ACTORS_MAX + 1];
        assert_eq!(read(&write(&long).unwrap()), None);
    }
}
