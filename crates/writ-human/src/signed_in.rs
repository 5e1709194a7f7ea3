//! A human who is signed in, and the end of that.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use writ_core::{HumanId, Timestamp};
use writ_gate::limits;

use crate::issuer::{Issuer, IssuerName, group_named};
use crate::json::{Object, texts};
use crate::refusal::Refusal;

/// Who began a login, as the kernel proves it. A sign-in is theirs alone: this uid, in this login session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginOwner {
    /// The uid that the sign-in is for.
    pub uid: u32,
    /// The uid that logged in to the machine, where the kernel keeps one.
    pub login_uid: Option<u32>,
    /// The audit session of that login; without it the sign-in is the uid's in all that have none.
    pub audit_session: Option<u32>,
}

/// Where a sign-in belongs: one login session of one uid.
pub(crate) type Seat = (u32, Option<u32>);

impl LoginOwner {
    pub(crate) fn seat(&self) -> Seat {
        (self.uid, self.audit_session)
    }
}

/// A human who is signed in. Shared; a refresh makes a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// Issuer and subject: the id in records and policies.
    pub human: HumanId,
    /// How configuration calls the issuer.
    pub issuer: IssuerName,
    /// The subject, as the issuer writes it.
    pub subject: String,
    /// What is shown beside the id. Proves nothing.
    pub display: String,
    /// The address, if the issuer gives one. Signals may name a human by it; nothing else does.
    pub email: Option<String>,
    /// Groups, as policies call them.
    pub groups: Vec<String>,
    /// How the human authenticated (RFC 8176).
    pub amr: Vec<String>,
    /// In which context.
    pub acr: Option<String>,
    /// When.
    pub auth_time: Option<Timestamp>,
    /// When the sign-in began.
    pub since: Timestamp,
    /// When it ends unless it is refreshed.
    pub expires: Timestamp,
    /// Whose it is.
    pub owner: LoginOwner,
}

/// The end of a human's proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Who.
    pub human: HumanId,
    /// Which sign-in; `None` if all that stands on the human ends, whether signed in here or only a caller.
    pub owner: Option<LoginOwner>,
    /// Why.
    pub cause: EndCause,
}

/// Why a human's proof ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndCause {
    /// The human signed out.
    SignedOut,
    /// Another human signed in, in the same login session.
    Replaced,
    /// The issuer refused to refresh.
    Refused,
    /// It could not be refreshed in time.
    Expired,
    /// A transmitter said so.
    Signalled,
    /// An operator said so.
    Revoked,
}

impl EndCause {
    /// The word in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::Replaced => "replaced",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Signalled => "signalled",
            Self::Revoked => "revoked",
        }
    }
}

/// What an issuer says of a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Person {
    pub(crate) subject: String,
    pub(crate) display: String,
    pub(crate) email: Option<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) amr: Vec<String>,
    pub(crate) acr: Option<String>,
    pub(crate) auth_time: Option<Timestamp>,
}

impl Person {
    /// Reads a token that is believed; what it lacks is looked for in `more`.
    pub(crate) fn read(issuer: &Issuer, token: &Object, more: Option<&Object>) -> Result<Self, Refusal> {
        let subject = token.text("sub").ok_or(Refusal::Claim("sub"))?.to_owned();
        let claim = |name: &str| token.path(name).or_else(|| more?.path(name));
        let text =
            |name: &str| claim(name).and_then(Value::as_str).map(printable).filter(|text| !text.is_empty());
        let display =
            [&issuer.display_claim, "name", "preferred_username", "email"].into_iter().find_map(text);
        Ok(Self {
            display: display.unwrap_or_else(|| printable(&subject)),
            email: text("email"),
            groups: groups(issuer, claim(&issuer.groups_claim)),
            amr: token.texts("amr").unwrap_or_default().into_iter().take(16).map(printable).collect(),
            acr: token.text("acr").map(printable),
            auth_time: token.get("auth_time").and_then(crate::claims::numeric_date),
            subject,
        })
    }

    /// Whether the token lacks what the issuer may tell elsewhere.
    pub(crate) fn is_incomplete(issuer: &Issuer, token: &Object) -> bool {
        [&issuer.groups_claim, &issuer.display_claim].into_iter().any(|claim| token.path(claim).is_none())
    }
}

/// The id of a human: `oidc:ISSUER#SUBJECT`.
pub fn human_id(issuer: &str, subject: &str) -> Result<HumanId, Refusal> {
    HumanId::oidc(issuer, subject).map_err(|_| Refusal::Claim("sub"))
}

fn groups(issuer: &Issuer, claim: Option<&Value>) -> Vec<String> {
    let values = claim.and_then(texts).unwrap_or_default();
    let named = |value: &str| group_named(&issuer.name, &issuer.groups, value);
    // A group that would have to be changed to be recorded is no group.
    let fits = |value: &&str| {
        value.len() <= limits::HUMAN_TEXT_BYTES_MAX
            && !value.is_empty()
            && !value.chars().any(char::is_control)
    };
    let mut groups: Vec<String> =
        values.into_iter().filter(fits).take(limits::HUMAN_GROUPS_MAX).map(named).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// The text without control characters, cut to what is kept.
fn printable(text: &str) -> String {
    let mut kept = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > limits::HUMAN_TEXT_BYTES_MAX {
            break;
        }
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_subjects_have_different_ids() {
        let id = |subject: &str| human_id("https://login.example.com", subject).unwrap().to_string();
        assert_eq!(id("alice"), "oidc:https://login.example.com#alice");
        assert_eq!(id("a#b%20 ü"), "oidc:https://login.example.com#a%23b%2520%20%C3%BC");
        assert_ne!(id("a b"), id("a%20b"));
        assert!(human_id("https://login.example.com", "").is_err());
    }
}
