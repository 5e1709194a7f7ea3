//! Reading the evidence.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use writ_core::event::Leaf;
use writ_core::{ActionId, AgentName, HumanId, ServiceName, SessionId};

use super::Time;

/// `log.query`: which events, oldest first. What is absent does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogQuery {
    /// Of this agent only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// Refusals only.
    pub denied: bool,
    /// Go on with what is recorded from now on, until the caller hangs up.
    pub follow: bool,
    /// For this human only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub human: Option<HumanId>,
    /// The last so many that match; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// At this service only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// Of this session only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Recorded at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// `action.why`: which action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionQuery {
    /// The action.
    pub action: ActionId,
}

/// The answer to `action.why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// The action.
    pub action: ActionId,
    /// Every leaf that tells of it, in the order of the log.
    pub leaves: Vec<LeafText>,
    /// The same in sentences.
    pub text: String,
}

/// A leaf that stands in JSON as its canonical text, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafText(pub Leaf);

impl Serialize for LeafText {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error;
        let bytes = self.0.encode().map_err(S::Error::custom)?;
        serde_json::from_slice::<&RawValue>(&bytes).map_err(S::Error::custom)?.serialize(s)
    }
}

impl<'de> Deserialize<'de> for LeafText {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = Box::<RawValue>::deserialize(d)?;
        Leaf::decode(text.get().as_bytes()).map(Self).map_err(D::Error::custom)
    }
}

/// The answer to `evidence.checkpoint`: what, once it has left the host, makes changes of the past visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The log's origin line.
    pub origin: String,
    /// Root hash of the tree, base64.
    pub root_hash: String,
    /// Leaves covered.
    pub size: u64,
    /// The signed note, as C2SP tlog-checkpoint writes it.
    pub text: String,
    /// The verifier key of the log, as C2SP signed-note writes it.
    pub verifier_key: String,
}
