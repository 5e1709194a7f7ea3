//! What can happen to a human, and what follows.

use crate::json::Object;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// CAEP session-revoked, RISC sessions-revoked.
    SessionRevoked,
    /// CAEP credential-change.
    CredentialChange {
        /// Whether a credential was taken away: revoked or deleted.
        lost: bool,
    },
    /// RISC account-credential-change-required, credential-compromise.
    CredentialCompromised,
    /// RISC account-disabled.
    AccountDisabled,
    /// RISC account-purged.
    AccountPurged,
    /// RISC account-enabled.
    AccountEnabled,
    /// CAEP token-claims-change.
    TokenClaimsChange,
    /// CAEP assurance-level-change.
    AssuranceLevelChange,
    /// CAEP device-compliance-change.
    DeviceComplianceChange,
    /// CAEP risk-level-change.
    RiskLevelChange {
        /// Whether the level is now high.
        high: bool,
    },
    /// CAEP session-established, session-presented.
    SessionSeen,
    /// SSF verification: the stream works.
    Verification,
    /// SSF stream-updated: the stream is paused, disabled, or works again.
    StreamUpdated,
    /// Something that is not known here.
    Unknown,
}

/// What follows from an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Everything that stands on the human ends now.
    End,
    /// The issuer is asked anew, and what it says is decided by from now on.
    Recheck,
    /// It is told and nothing else.
    Note,
}

impl Action {
    /// The word in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Recheck => "recheck",
            Self::Note => "note",
        }
    }
}

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";

impl Event {
    /// The event of this type URI; `content` is its value.
    pub(super) fn read(uri: &str, content: &Object) -> Self {
        if let Some(name) = uri.strip_prefix(CAEP) {
            return Self::caep(name, content);
        }
        if let Some(name) = uri.strip_prefix(RISC) {
            return match name {
                "account-disabled" => Self::AccountDisabled,
                "account-purged" => Self::AccountPurged,
                "account-enabled" => Self::AccountEnabled,
                "sessions-revoked" => Self::SessionRevoked,
                "account-credential-change-required" | "credential-compromise" => Self::CredentialCompromised,
                "verification" => Self::Verification,
                _ => Self::Unknown,
            };
        }
        match uri.strip_prefix(SSF) {
            Some("verification") => Self::Verification,
            Some("stream-updated") => Self::StreamUpdated,
            _ => Self::Unknown,
        }
    }

    fn caep(name: &str, content: &Object) -> Self {
        match name {
            "session-revoked" => Self::SessionRevoked,
            "credential-change" => {
                let change = content.text("change_type");
                // A change that does not say what it is counts as the worst.
                Self::CredentialChange { lost: !matches!(change, Some("create" | "update")) }
            }
            "token-claims-change" => Self::TokenClaimsChange,
            "assurance-level-change" => Self::AssuranceLevelChange,
            "device-compliance-change" => Self::DeviceComplianceChange,
            "risk-level-change" => {
                Self::RiskLevelChange { high: content.text("current_level") == Some("HIGH") }
            }
            "session-established" | "session-presented" => Self::SessionSeen,
            _ => Self::Unknown,
        }
    }

    /// What follows.
    pub fn action(&self) -> Action {
        match self {
            Self::SessionRevoked
            | Self::AccountDisabled
            | Self::AccountPurged
            | Self::CredentialCompromised
            | Self::CredentialChange { lost: true }
            | Self::RiskLevelChange { high: true } => Action::End,
            Self::CredentialChange { lost: false }
            | Self::TokenClaimsChange
            | Self::AssuranceLevelChange
            | Self::DeviceComplianceChange
            | Self::RiskLevelChange { high: false } => Action::Recheck,
            Self::AccountEnabled
            | Self::SessionSeen
            | Self::Verification
            | Self::StreamUpdated
            | Self::Unknown => Action::Note,
        }
    }

    /// The word in records.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::SessionRevoked => "session-revoked",
            Self::CredentialChange { .. } => "credential-change",
            Self::CredentialCompromised => "credential-compromise",
            Self::AccountDisabled => "account-disabled",
            Self::AccountPurged => "account-purged",
            Self::AccountEnabled => "account-enabled",
            Self::TokenClaimsChange => "token-claims-change",
            Self::AssuranceLevelChange => "assurance-level-change",
            Self::DeviceComplianceChange => "device-compliance-change",
            Self::RiskLevelChange { .. } => "risk-level-change",
            Self::SessionSeen => "session-seen",
            Self::Verification => "verification",
            Self::StreamUpdated => "stream-updated",
            Self::Unknown => "unknown",
        }
    }
}
