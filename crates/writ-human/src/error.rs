//! What can go wrong between a human, their issuer and this node.

use writ_core::SecretName;
use writ_core::secret::MemoryError;

use crate::issuer::{EndpointError, IssuerName};
use crate::keep::KeepError;
use crate::refusal::Refusal;

/// A login, a refresh or a token that came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the issuer signed, or the caller showed, is not believed.
    #[error("the token is refused: {0}")]
    Token(Refusal),
    /// No issuer has this name.
    #[error("no issuer is called `{name}`; hint: known are {known}")]
    UnknownIssuer {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The issuer cannot be reached, or does not answer in time.
    #[error("issuer `{issuer}` does not answer: {what}; hint: see whether this node reaches {place}")]
    Unreachable {
        /// The issuer.
        issuer: IssuerName,
        /// What failed.
        what: &'static str,
        /// Where, as host and port.
        place: String,
        /// What the system said.
        #[source]
        source: Option<std::io::Error>,
    },
    /// The issuer answers what no issuer should.
    #[error("issuer `{issuer}` answers wrongly: {what}")]
    Answer {
        /// The issuer.
        issuer: IssuerName,
        /// What is wrong.
        what: String,
    },
    /// The issuer names a place that may not be asked.
    #[error("issuer `{issuer}` names a place that is not asked")]
    Place {
        /// The issuer.
        issuer: IssuerName,
        /// Which and why.
        #[source]
        source: EndpointError,
    },
    /// The issuer was asked and said no.
    #[error("issuer `{issuer}` refuses: {code}")]
    Refused {
        /// The issuer.
        issuer: IssuerName,
        /// Its error code (RFC 6749, section 5.2), with anything unprintable taken out.
        code: String,
    },
    /// The issuer does not offer what was asked for.
    #[error("issuer `{issuer}` offers no {what}; hint: {hint}")]
    Unsupported {
        /// The issuer.
        issuer: IssuerName,
        /// What.
        what: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The human, or the issuer for them, said no.
    #[error("the login was denied")]
    Denied,
    /// The login took too long.
    #[error("the login took too long; hint: begin it again")]
    LoginExpired,
    /// There is no such login, it is done, or it was begun by another user or in another login session.
    #[error("there is no such login here; hint: begin and finish it in the same login session")]
    UnknownLogin,
    /// What came back does not belong to the login.
    #[error("what came back does not belong to this login: {what}; hint: begin it again")]
    Callback {
        /// What does not fit.
        what: &'static str,
    },
    /// The address that the browser shall come back to is not on this machine.
    #[error("`{uri}` is not on this machine; hint: listen on 127.0.0.1 or ::1 and name it so")]
    Redirect {
        /// What was given.
        uri: String,
    },
    /// As many logins as may be are under way.
    #[error("{open} logins are under way, which is the limit; hint: finish one or wait ten minutes")]
    Busy {
        /// How many.
        open: usize,
    },
    /// As many are signed in as may be.
    #[error("{max} login sessions are signed in, which is the limit")]
    Full {
        /// The bound.
        max: usize,
    },
    /// The client's secret is not in the store.
    #[error("there is no secret `{name}`; hint: `writ secret set {name}`")]
    NoSecret {
        /// Its name.
        name: SecretName,
    },
    /// The issuer's roots cannot be used.
    #[error("the roots of issuer `{issuer}` cannot be used: {what}")]
    Roots {
        /// The issuer.
        issuer: IssuerName,
        /// Why.
        what: String,
    },
    /// What lasts could not be kept.
    #[error("a sign-in cannot be kept")]
    Keep(#[from] KeepError),
    /// There is no memory that could hold a secret.
    #[error("there is no memory for a secret")]
    Memory(#[from] MemoryError),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Token(refusal)
    }
}

impl Error {
    /// Why a token is not believed, if that is what this is.
    pub fn refusal(&self) -> Option<Refusal> {
        if let Self::Token(refusal) = self { Some(*refusal) } else { None }
    }

    /// The issuer's error code, if it said no.
    pub fn code(&self) -> Option<&str> {
        if let Self::Refused { code, .. } = self { Some(code) } else { None }
    }

    /// Whether the issuer has taken back what it gave (`invalid_grant`, RFC 6749, section 5.2).
    pub(crate) fn taken_back(&self) -> bool {
        self.code() == Some("invalid_grant")
    }
}
