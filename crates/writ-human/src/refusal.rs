//! Why a token is not believed.

/// Why a token is not believed. Each is a different attack or mistake, and tests tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is no signed token at all.
    #[error("it is not a signed token: {0}")]
    Malformed(&'static str),
    /// `none`, a symmetric algorithm, or one that the key or the purpose does not allow.
    #[error("its algorithm is not allowed")]
    Algorithm,
    /// Its header brings keys, or parameters that would have to be understood.
    #[error("its header holds `{0}`")]
    Header(&'static str),
    /// No key of the issuer fits.
    #[error("no key of the issuer fits it")]
    Key,
    /// No key that is known so far fits, and the issuer was asked for its keys a moment ago.
    #[error("no key of the issuer that is known so far fits it")]
    KeyLater,
    /// The signature is wrong.
    #[error("its signature is wrong")]
    Signature,
    /// It is from another issuer, or from none that is known.
    #[error("it is from another issuer")]
    Issuer,
    /// It is for somebody else.
    #[error("it is for another audience")]
    Audience,
    /// It was given to another client.
    #[error("it was given to another client")]
    AuthorizedParty,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time has not come, or it was issued in the future.
    #[error("it is not valid yet")]
    NotYet,
    /// It is not the answer to this login.
    #[error("its nonce is not that of the login")]
    Nonce,
    /// The code or access token beside it is another one.
    #[error("its `{0}` does not fit what came with it")]
    Hash(&'static str),
    /// The human authenticated too long ago, or it does not say when.
    #[error("the human authenticated too long ago")]
    AuthTime,
    /// The human authenticated in another way than is required.
    #[error("the human authenticated in another way than is required")]
    Context,
    /// It is a token of another kind: an ID token as access token, the other way round, or something else again.
    #[error("it is a token of another kind")]
    Kind,
    /// It lacks something, or holds it in a form that it must not have.
    #[error("its `{0}` is missing or malformed")]
    Claim(&'static str),
    /// It is bound to a key whose possession nobody proved.
    #[error("it is bound to a key and came without proof")]
    Bound,
    /// It speaks of another human than before.
    #[error("it is for another human than before")]
    Subject,
    /// A program got it for itself.
    #[error("no human stands behind it")]
    NoHuman,
    /// It was issued before the human was revoked.
    #[error("it was issued before its human was revoked")]
    Revoked,
    /// It was seen before.
    #[error("it was seen before")]
    Replayed,
}

impl Refusal {
    /// A stable word for records.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Algorithm => "algorithm",
            Self::Header(_) => "header",
            Self::Key => "key",
            Self::KeyLater => "key_later",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::AuthorizedParty => "authorized_party",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Nonce => "nonce",
            Self::Hash(_) => "hash",
            Self::AuthTime => "auth_time",
            Self::Context => "context",
            Self::Kind => "kind",
            Self::Claim(_) => "claim",
            Self::Bound => "bound",
            Self::Subject => "subject",
            Self::NoHuman => "no_human",
            Self::Revoked => "revoked",
            Self::Replayed => "replayed",
        }
    }
}
