//! Grants: how a session is narrowed below what agent and human could do, and for whom runs act.
//!
//! A grant never permits anything: policy is asked all the same. An empty list narrows nothing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::argument::Argument;
use crate::name::{OperationName, ServiceName};
use crate::service::{Effect, Operation, PathSegment};

/// For whom the runs of an agent act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActsFor {
    /// The human who started the run.
    #[default]
    Starter,
    /// The human whose request the run serves, action by action; an action that belongs to no request is refused.
    Caller,
    /// The human that the agent's file names: the run is autonomous.
    Owner,
}

impl ActsFor {
    /// The word in files and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starter => "starter",
            Self::Caller => "caller",
            Self::Owner => "owner",
        }
    }
}

/// What a grant says of the operation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    Any,
    Effect(Effect),
    Operation(OperationName),
}

/// `SERVICE[:RESOURCE][:EFFECT]`: one thing that a session may do.
///
/// `RESOURCE` is compared with the values of the operation's path arguments, joined by `/` in the order of the path; it
/// covers what it equals and what lies below it, and `*` stands for one value. `EFFECT` is `read`, `write`, ... or the
/// part of an operation's name after the slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    text: String,
    service: ServiceName,
    resource: Vec<String>,
    scope: Scope,
}

/// Text that is no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a grant: {rule}; hint: write `SERVICE`, `SERVICE:RESOURCE` or `SERVICE:RESOURCE:EFFECT`, \
         as in `github:acme/site:read`"
)]
pub struct GrantError {
    text: String,
    rule: &'static str,
}

impl Grant {
    /// Whether some operation of the service could be covered.
    pub fn reaches(&self, service: &ServiceName) -> bool {
        self.service == *service
    }

    /// Whether it covers this operation.
    pub fn covers(&self, operation: &Operation) -> bool {
        let rule = &operation.rule;
        let scope = match &self.scope {
            Scope::Any => true,
            Scope::Effect(effect) => rule.effect == *effect,
            Scope::Operation(name) => rule.name == *name,
        };
        scope && rule.name.service() == self.service.as_str() && self.holds(&values(operation))
    }

    fn holds(&self, values: &[&str]) -> bool {
        // An empty resource is a prefix of everything.
        self.resource.len() <= values.len()
            && self.resource.iter().zip(values).all(|(wanted, value)| wanted == "*" || wanted == value)
    }
}

/// The values of the path's arguments in the order of the path; one that holds several segments counts as several.
fn values(operation: &Operation) -> Vec<&str> {
    let value = |name: &String| operation.arguments.get(name).and_then(Argument::as_str);
    let mut values = Vec::new();
    for segment in &operation.rule.path.segments {
        let names = match segment {
            PathSegment::Literal(_) => [None, None],
            PathSegment::Argument { name, .. } | PathSegment::Encoded(name) | PathSegment::Rest(name) => {
                [Some(name), None]
            }
            PathSegment::Pair(first, second) => [Some(first), Some(second)],
        };
        values.extend(names.into_iter().flatten().filter_map(value).flat_map(|value| value.split('/')));
    }
    values
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let refused = |rule| GrantError { text: text.to_owned(), rule };
        let mut parts = text.splitn(3, ':');
        let service = parts.next().and_then(|name| ServiceName::new(name).ok());
        let service = service.ok_or_else(|| refused("it begins with no service name"))?;
        let resource = match parts.next() {
            None | Some("") => Vec::new(),
            Some(resource) => resource.split('/').map(str::to_owned).collect(),
        };
        let dotted = |part: &String| part.is_empty() || part == "." || part == ".." || part.contains('%');
        if resource.iter().any(dotted) {
            return Err(refused("its resource has an empty, dotted or encoded part"));
        }
        let scope = match parts.next() {
            None | Some("*") => Scope::Any,
            Some("") => return Err(refused("its effect is empty")),
            Some(word) => match Effect::ALL.into_iter().find(|effect| effect.as_str() == word) {
                Some(effect) => Scope::Effect(effect),
                None => OperationName::new(&format!("{service}/{word}"))
                    .map(Scope::Operation)
                    .map_err(|_| refused("its effect is neither an effect nor an operation"))?,
            },
        };
        Ok(Self { text: text.to_owned(), service, resource, scope })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Grant {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a chain of delegation left: each hop hands on a list of grants, and every list must cover an action. So a hop
/// can only take away, whatever it writes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grants(Vec<Vec<Grant>>);

impl Grants {
    /// What remains after one more hop; an empty list narrows nothing.
    pub fn narrowed(mut self, by: Vec<Grant>) -> Self {
        if !by.is_empty() {
            self.0.push(by);
        }
        self
    }

    /// Whether something at the service could be covered.
    pub fn reach(&self, service: &ServiceName) -> bool {
        self.0.iter().all(|hop| hop.iter().any(|grant| grant.reaches(service)))
    }

    /// Whether every hop covers the operation.
    pub fn cover(&self, operation: &Operation) -> bool {
        self.0.iter().all(|hop| hop.iter().any(|grant| grant.covers(operation)))
    }

    /// Every hop's list as text, first hop first.
    pub fn hops(&self) -> impl Iterator<Item = &[Grant]> {
        self.0.iter().map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::service::{Conditions, OperationRule, PathTemplate};

    fn operation(effect: Effect, arguments: &[(&str, &str)]) -> Operation {
        let argument =
            |name: &&str| PathSegment::Argument { name: (*name).to_owned(), suffix: String::new() };
        let segments = ["owner", "repo"].iter().map(argument);
        let segments = segments.chain([PathSegment::Rest("path".to_owned())]).collect();
        let rule = OperationRule {
            name: OperationName::new("github/contents.get").unwrap(),
            effect,
            methods: Vec::new(),
            path: PathTemplate { text: String::new(), segments },
            when: Conditions::default(),
            arguments: BTreeMap::new(),
            graphql: None,
            labels: std::collections::BTreeSet::new(),
            mcp: None,
        };
        let arguments = arguments.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        Operation { rule: Arc::new(rule), arguments }
    }

    fn grant(text: &str) -> Grant {
        text.parse().unwrap()
    }

    #[test]
    fn a_grant_covers_its_resource_what_is_below_it_and_nothing_beside_it() {
        let site = operation(Effect::Read, &[("owner", "acme"), ("repo", "site"), ("path", "docs/a.md")]);
        for text in [
            "github",
            "github:acme",
            "github:acme/site",
            "github:acme/site:read",
            "github:*/site",
            "github:acme/site/docs:*",
            "github::contents.get",
        ] {
            assert!(grant(text).covers(&site), "{text}");
        }
        for text in [
            "gitlab",
            "github:acm",
            "github:acme/sit",
            "github:acme/site2",
            "github:acme/site:write",
            "github:acme/site/docs/a.md/more",
            "github::contents.put",
            "github:other/site",
        ] {
            assert!(!grant(text).covers(&site), "{text}");
        }
    }

    #[test]
    fn every_hop_must_cover_so_a_hop_cannot_widen() {
        let site = operation(Effect::Read, &[("owner", "acme"), ("repo", "site"), ("path", "x")]);
        let other = operation(Effect::Read, &[("owner", "acme"), ("repo", "other"), ("path", "x")]);
        let parent = Grants::default().narrowed(vec![grant("github:acme/site")]);
        let child = parent.clone().narrowed(vec![grant("github")]).narrowed(Vec::new());
        assert!(child.cover(&site) && !child.cover(&other));
        let (github, gitlab) = (ServiceName::new("github").unwrap(), ServiceName::new("gitlab").unwrap());
        assert!(child.reach(&github) && !child.reach(&gitlab) && Grants::default().reach(&gitlab));
        let text = serde_json::to_string(&child).unwrap();
        assert_eq!(text, r#"[["github:acme/site"],["github"]]"#);
        assert_eq!(serde_json::from_str::<Grants>(&text).unwrap(), child);
    }

    #[test]
    fn what_is_no_grant_is_refused_with_the_form_to_write() {
        for bad in
            ["", ":x", "a b", "github:a//b", "github:../x", "github:a%2fb", "github:a:", "github:a:b c"]
        {
            let error = bad.parse::<Grant>().unwrap_err().to_string();
            assert!(error.contains("hint: write `SERVICE`"), "{bad}: {error}");
        }
    }
}
