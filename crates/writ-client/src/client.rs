//! One method per operation.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::HeaderValue;
use serde::Serialize;
use serde::de::DeserializeOwned;
use writ_control::api::{
    self, ActionQuery, Agents, AnswerGiven, AnswerTaken, Approval, Approved, Checkpoint, Checks, LogQuery,
    LoggedOut, Login, LoginBegun, LoginFinish, LoginState, Nothing, Operation, PolicyView, Questions,
    Reloaded, Revocation, Revoked, SecretRef, Secrets, ServiceDetail, ServiceQuery, Services, Sessions,
    Status, Story, Who, Whose,
};
use writ_core::{ActionId, Layout, Secret, SecretName, ServiceName};

use crate::error::ClientError;
use crate::leaves::Leaves;
use crate::wire;

/// Calls the daemon of one installation. Must be used within a tokio runtime.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The daemon of this installation.
    pub fn new(layout: &Layout) -> Self {
        Self { socket: layout.control_socket() }
    }

    /// The socket that is called.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Is it ready, and in what state?
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.call(Operation::Status, &Nothing {}).await
    }

    /// The live sessions that the caller may see.
    pub async fn run_list(&self) -> Result<Sessions, ClientError> {
        self.call(Operation::RunList, &Nothing {}).await
    }

    /// Ends sessions and cuts what they have open.
    pub async fn revoke(&self, whose: Whose) -> Result<Revoked, ClientError> {
        self.call(Operation::Revoke, &Revocation { whose }).await
    }

    /// Begins to sign in.
    pub async fn human_login(&self, ask: &Login) -> Result<LoginBegun, ClientError> {
        self.call(Operation::HumanLogin, ask).await
    }

    /// Goes on with a sign-in.
    pub async fn human_finish(&self, ask: &LoginFinish) -> Result<LoginState, ClientError> {
        self.call(Operation::HumanFinish, ask).await
    }

    /// Who am I?
    pub async fn human_whoami(&self) -> Result<Who, ClientError> {
        self.call(Operation::HumanWhoami, &Nothing {}).await
    }

    /// Signs out.
    pub async fn human_logout(&self) -> Result<LoggedOut, ClientError> {
        self.call(Operation::HumanLogout, &Nothing {}).await
    }

    /// The agents in force.
    pub async fn agent_list(&self) -> Result<Agents, ClientError> {
        self.call(Operation::AgentList, &Nothing {}).await
    }

    /// Trusts a digest that is held.
    pub async fn agent_approve(&self, ask: &Approval) -> Result<Approved, ClientError> {
        self.call(Operation::AgentApprove, ask).await
    }

    /// The actions that wait for somebody's approval.
    pub async fn approval_list(&self) -> Result<Questions, ClientError> {
        self.call(Operation::ApprovalList, &Nothing {}).await
    }

    /// Says yes or no to one.
    pub async fn approval_answer(&self, ask: &AnswerGiven) -> Result<AnswerTaken, ClientError> {
        self.call(Operation::ApprovalAnswer, ask).await
    }

    /// Reads the evidence.
    pub async fn log_query(&self, query: &LogQuery) -> Result<Leaves, ClientError> {
        let request = wire::json(Operation::LogQuery, query)?;
        Ok(Leaves::new(wire::send(&self.socket, request).await?))
    }

    /// The story of one action.
    pub async fn action_why(&self, action: ActionId) -> Result<Story, ClientError> {
        self.call(Operation::ActionWhy, &ActionQuery { action }).await
    }

    /// Stores a secret, or replaces it. The copy that goes on the wire lives in secret memory until it is sent.
    pub async fn secret_set(&self, name: &SecretName, value: Secret<str>) -> Result<(), ClientError> {
        let body = Bytes::from_owner(Exposed(value));
        let mut request = wire::request(Operation::SecretSet, api::BYTES, body)?;
        let name = HeaderValue::from_str(name.as_str()).map_err(|error| ClientError::Broken(error.into()))?;
        request.headers_mut().insert(api::SECRET_NAME, name);
        let Nothing {} = wire::read(wire::send(&self.socket, request).await?).await?;
        Ok(())
    }

    /// The names of the stored secrets.
    pub async fn secret_list(&self) -> Result<Secrets, ClientError> {
        self.call(Operation::SecretList, &Nothing {}).await
    }

    /// Removes a secret.
    pub async fn secret_remove(&self, name: &SecretName) -> Result<(), ClientError> {
        let Nothing {} = self.call(Operation::SecretRemove, &SecretRef { name: name.clone() }).await?;
        Ok(())
    }

    /// The services in force.
    pub async fn service_list(&self) -> Result<Services, ClientError> {
        self.call(Operation::ServiceList, &Nothing {}).await
    }

    /// One service in full.
    pub async fn service_show(&self, name: &ServiceName) -> Result<ServiceDetail, ClientError> {
        self.call(Operation::ServiceShow, &ServiceQuery { name: name.clone() }).await
    }

    /// The policies in force.
    pub async fn policy_show(&self) -> Result<PolicyView, ClientError> {
        self.call(Operation::PolicyShow, &Nothing {}).await
    }

    /// Has the configuration read again.
    pub async fn reload(&self) -> Result<Reloaded, ClientError> {
        self.call(Operation::Reload, &Nothing {}).await
    }

    /// The latest signed checkpoint.
    pub async fn evidence_checkpoint(&self) -> Result<Checkpoint, ClientError> {
        self.call(Operation::EvidenceCheckpoint, &Nothing {}).await
    }

    /// What the daemon finds when it examines itself and the host.
    pub async fn doctor(&self) -> Result<Checks, ClientError> {
        self.call(Operation::Doctor, &Nothing {}).await
    }

    async fn call<Q: Serialize, T: DeserializeOwned>(
        &self,
        operation: Operation,
        ask: &Q,
    ) -> Result<T, ClientError> {
        wire::read(wire::send(&self.socket, wire::json(operation, ask)?).await?).await
    }
}

/// A secret as the owner of a body's bytes.
struct Exposed(Secret<str>);

impl AsRef<[u8]> for Exposed {
    fn as_ref(&self) -> &[u8] {
        self.0.expose().as_bytes()
    }
}
