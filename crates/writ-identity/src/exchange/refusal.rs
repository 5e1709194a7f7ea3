//! Why nothing is issued, in the words of OAuth.

use crate::Invalid;

/// A refusal (RFC 6749 section 5.2, RFC 8693 section 2.2.2). The text is fixed: nothing that was sent is repeated.
///
/// A token that is not good in itself is [`Refusal::Request`], as RFC 8693 demands; tokens that are each good and do not
/// belong together, or whose session is over, are [`Refusal::Grant`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A parameter is missing, stands twice or is malformed, or a token is not good.
    #[error("{0}")]
    Request(&'static str),
    /// The client did not prove who it is.
    #[error("{0}")]
    Client(&'static str),
    /// Subject, actor and session do not belong together.
    #[error("{0}")]
    Grant(&'static str),
    /// Another grant type.
    #[error("only token exchange is served here")]
    GrantType,
    /// More was asked for than may be given.
    #[error("{0}")]
    Scope(&'static str),
    /// No token is issued for that audience.
    #[error("{0}")]
    Target(&'static str),
    /// A proof of a key is not good (RFC 9449 section 5).
    #[error("{0}")]
    Proof(&'static str),
}

impl Refusal {
    /// The `error` of the answer.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Request(_) => "invalid_request",
            Self::Client(_) => "invalid_client",
            Self::Grant(_) => "invalid_grant",
            Self::GrantType => "unsupported_grant_type",
            Self::Scope(_) => "invalid_scope",
            Self::Target(_) => "invalid_target",
            Self::Proof(_) => "invalid_dpop_proof",
        }
    }

    /// The refusal of a subject token that is not believed.
    pub fn of_subject(invalid: &Invalid) -> Self {
        Self::Request(word(
            invalid,
            [
                "the subject token has expired",
                "the subject token is for another audience",
                "the subject token is of another type",
                "the subject token is not valid",
            ],
        ))
    }

    /// The refusal of an actor token that is not believed.
    pub fn of_actor(invalid: &Invalid) -> Self {
        Self::Request(word(
            invalid,
            [
                "the actor token has expired",
                "the actor token is for another audience",
                "the actor token is of another type",
                "the actor token is not valid",
            ],
        ))
    }
}

/// The one of the words that says what is wrong with a token, and no more than its sender may know.
fn word(invalid: &Invalid, [expired, audience, header, other]: [&'static str; 4]) -> &'static str {
    if *invalid == Invalid::Expired {
        expired
    } else if *invalid == Invalid::Audience {
        audience
    } else if matches!(invalid, Invalid::Header(_)) {
        header
    } else {
        other
    }
}
