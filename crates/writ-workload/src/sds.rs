//! Envoy's secret discovery (xDS v3, state of the world), on the socket of the Workload API.
//!
//! A SPIFFE ID or `default` names a certificate with its key; a trust domain's ID, `ROOTCA` (our own) or `ALL` names what
//! peers are checked with, the last by Envoy's SPIFFE validator, which chooses the roots by the peer's trust domain.
//! No names at all mean everything. The names are those of SPIRE's agent. Envoy does not send the Workload API's
//! header, so none is demanded. The incremental form is not served.

mod secret;

use futures_util::stream::{self, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use writ_core::Timestamp;

use crate::api::{Api, Stream};
use crate::proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use crate::proto::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryService;
use crate::standing::{Moment, Standing};
use secret::{Named, Wanted};

#[tonic::async_trait]
impl SecretDiscoveryService for Api {
    type DeltaSecretsStream = Stream<DeltaDiscoveryResponse>;

    async fn delta_secrets(
        &self,
        _request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("incremental discovery is not served; use StreamSecrets"))
    }

    type StreamSecretsStream = Stream<DiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let mut standing = self.shared.standing(&request).await?;
        standing.now()?;
        let conversation =
            Conversation { standing, requests: request.into_inner(), asked: None, said: None, version: 0 };
        let answers = stream::unfold(Some(conversation), |conversation| async {
            let mut conversation = conversation?;
            match conversation.next().await {
                Ok(Some(answer)) => Some((Ok(answer), Some(conversation))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let wanted = Wanted::read(request.get_ref())?;
        let mut standing = self.shared.standing(&request).await?;
        let (identities, bundles) = standing.now()?;
        let moment = Moment { parts: standing.parts(), identities: &identities, bundles: &bundles };
        let named = wanted.find(&identities, &bundles)?;
        let (resources, _) = secret::resources(&named, &moment)?;
        Ok(Response::new(DiscoveryResponse {
            version_info: String::new(),
            resources,
            type_url: secret::TYPE.to_owned(),
            nonce: String::new(),
        }))
    }
}

/// One stream: what the client subscribed to, and what it was told last.
struct Conversation {
    standing: Standing,
    requests: Streaming<DiscoveryRequest>,
    asked: Option<Wanted>,
    said: Option<Said>,
    /// Of the last answer. It is the nonce as well: each answer has its own.
    version: u64,
}

/// The last answer: what it said but for keys, and when it must be said anew.
struct Said {
    named: Vec<Named>,
    renew: Option<Timestamp>,
}

impl Conversation {
    /// The next answer; none when the client has hung up.
    async fn next(&mut self) -> Result<Option<DiscoveryResponse>, Status> {
        loop {
            let renew = self.said.as_ref().and_then(|said| said.renew);
            tokio::select! {
                biased;
                changed = self.standing.changed(renew) => changed?,
                request = self.requests.message() => match request? {
                    None => return Ok(None),
                    Some(request) => self.hear(&request)?,
                },
            }
            // An identity that is gone ends the stream, whatever was asked for.
            let (identities, bundles) = self.standing.now()?;
            let Some(wanted) = &self.asked else { continue };
            let named = wanted.find(&identities, &bundles)?;
            let parts = self.standing.parts();
            let now = parts.clock.now();
            let known = self
                .said
                .as_ref()
                .is_some_and(|said| said.named == named && said.renew.is_none_or(|renew| renew > now));
            if known {
                continue;
            }
            let moment = Moment { parts, identities: &identities, bundles: &bundles };
            let (resources, renew) = secret::resources(&named, &moment)?;
            self.said = Some(Said { named, renew });
            self.version += 1;
            return Ok(Some(DiscoveryResponse {
                version_info: self.version.to_string(),
                resources,
                type_url: secret::TYPE.to_owned(),
                nonce: self.version.to_string(),
            }));
        }
    }

    /// Takes a request: a subscription, an acknowledgement, or both. One that answers an older message than the last
    /// is stale and means nothing; a refused answer is not sent again until it would say something new.
    fn hear(&mut self, request: &DiscoveryRequest) -> Result<(), Status> {
        let version = self.version.to_string();
        if self.said.is_some() && request.response_nonce != version {
            tracing::debug!(target: "writ::workload", "a stale secret discovery request");
            return Ok(());
        }
        if let Some(error) = &request.error_detail {
            // Envoy's own words may quote what it was given.
            let pid = self.standing.pid();
            tracing::warn!(target: "writ::workload", pid, code = error.code, "Envoy refused secrets");
        } else if self.said.is_some() && request.version_info != version {
            let pid = self.standing.pid();
            tracing::warn!(target: "writ::workload", pid, "Envoy kept older secrets");
        }
        let wanted = Wanted::read(request)?;
        if self.asked.as_ref() != Some(&wanted) {
            // Another subscription is answered at once, even if it happens to mean the same.
            (self.asked, self.said) = (Some(wanted), None);
        }
        Ok(())
    }
}
