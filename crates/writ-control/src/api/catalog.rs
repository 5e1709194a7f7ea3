//! Services, policies and secrets as they are in force. Names of secrets only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use writ_core::argument::ArgumentRule;
use writ_core::service::{CredentialRule, HostPattern, OperationRule, UpstreamAddress};
use writ_core::{Effect, Mode, OperationName, Placement, Protocol, SecretName, Service, ServiceName};

/// One service in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRow {
    /// What is lent, and where it goes; absent when the service needs nothing.
    pub credential: Option<CredentialView>,
    /// Settings that weaken safety.
    pub dangers: Vec<String>,
    /// The names by which agents know it.
    pub hosts: Vec<String>,
    /// Its name.
    pub name: ServiceName,
    /// How many operations it has.
    pub operations: u64,
    /// The ports.
    pub ports: Vec<u16>,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// What a service is lent: the secret's name and its place, never its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialView {
    /// Where it goes.
    pub place: Placement,
    /// The entry of the secret store.
    pub secret: SecretName,
}

/// The answer to `service.list`, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// The services.
    pub services: Vec<ServiceRow>,
}

/// `service.show`: which one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceQuery {
    /// Its name.
    pub name: ServiceName,
}

/// The answer to `service.show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDetail {
    /// Literal addresses by which agents may reach it.
    pub addresses: Vec<String>,
    /// The roots that it is verified with; the system's when absent.
    pub ca_file: Option<String>,
    /// What can be done there, in the order of the file.
    pub operations: Vec<OperationView>,
    /// The same as in the list.
    pub service: ServiceRow,
    /// What is dialled instead of the name that the agent asked for.
    pub upstream: Option<String>,
}

/// One operation of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationView {
    /// Its arguments besides those of the path, as they are written in the file: `body:/title string`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, String>,
    /// What it does.
    pub effect: Effect,
    /// The GraphQL root field that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graphql: Option<String>,
    /// What it is of an MCP server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp: Option<String>,
    /// Its methods; empty means any.
    pub methods: Vec<String>,
    /// Its name.
    pub name: OperationName,
    /// Its path template.
    pub path: String,
}

impl From<&Service> for ServiceRow {
    fn from(service: &Service) -> Self {
        let host = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(name) => name.to_string(),
            HostPattern::Below(name) => format!("*.{name}"),
        };
        let dangers = [
            ("danger_plaintext_credential", service.upstream.danger_plaintext_credential),
            ("observe", service.mode == Mode::Observe),
        ];
        Self {
            credential: service.credential.as_ref().map(CredentialView::from),
            dangers: dangers.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_owned()).collect(),
            hosts: service.hosts.iter().map(host).collect(),
            name: service.name.clone(),
            operations: u64::try_from(service.operations.len()).unwrap_or(u64::MAX),
            ports: service.ports.clone(),
            protocol: service.protocol,
        }
    }
}

impl From<&CredentialRule> for CredentialView {
    fn from(rule: &CredentialRule) -> Self {
        Self { place: rule.place.clone(), secret: rule.secret.clone() }
    }
}

impl From<&OperationRule> for OperationView {
    fn from(rule: &OperationRule) -> Self {
        let argument = |(name, rule): (&String, &ArgumentRule)| (name.clone(), rule.to_string());
        Self {
            arguments: rule.arguments.iter().map(argument).collect(),
            effect: rule.effect,
            graphql: rule.graphql.as_ref().map(ToString::to_string),
            mcp: rule.mcp.as_ref().map(ToString::to_string),
            methods: rule.methods.clone(),
            name: rule.name.clone(),
            path: rule.path.text.clone(),
        }
    }
}

impl From<&Service> for ServiceDetail {
    fn from(service: &Service) -> Self {
        let upstream = service.upstream.address.as_ref().map(|address| match address {
            UpstreamAddress::Socket(socket) => socket.to_string(),
            UpstreamAddress::Name(name, port) => format!("{name}:{port}"),
        });
        Self {
            addresses: service.addresses.iter().map(ToString::to_string).collect(),
            ca_file: service.upstream.ca_file.as_ref().map(|path| path.display().to_string()),
            operations: service.operations.iter().map(|rule| rule.as_ref().into()).collect(),
            service: service.into(),
            upstream,
        }
    }
}

/// The answer to `policy.show`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// SHA-256 of the policy set, hex.
    pub digest: String,
    /// The policies, by id.
    pub policies: Vec<PolicyText>,
}

/// One policy as it is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyText {
    /// Its id, as records name it.
    pub id: String,
    /// Its text.
    pub text: String,
}

/// The answer to `secret.list`, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// The names.
    pub names: Vec<SecretName>,
}
