//! `/introspect` (RFC 7662): whether a token of ours is active, told to those whom it concerns.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::{Map, Value, json};
use writ_identity::exchange::{Actor, Earlier, Form as TokenForm, Ground, Refusal};

use super::Tokens;
use super::answer::{Failure, answer};
use super::form::Form;

/// Claims that are told as they were signed.
const TOLD: [&str; 15] = [
    "act",
    "aud",
    "client_id",
    "cnf",
    "exp",
    "groups",
    "iat",
    "iss",
    "jti",
    "rctx",
    "req_wl",
    "scope",
    "sub",
    "tctx",
    "txn",
];

impl Tokens {
    /// Tells, or says why the client is told nothing at all.
    pub(super) fn introspected(
        &self,
        request: &Request<Bytes>,
        peer: Option<&Actor>,
    ) -> Result<Response<Bytes>, Failure> {
        let form = Form::read(request)?;
        let client = self.client(request, &form, peer)?;
        let client = client.ok_or(Refusal::Client("the client does not prove itself"))?;
        let is_run = !self.ports.sessions.live(&client.spiffe_id).is_empty();
        if !is_run && !self.settings.audiences.has_workload(&client.spiffe_id) {
            return Err(Refusal::Client("the client is neither a live run nor an audience").into());
        }
        let token = form.get("token").ok_or(Refusal::Request("there is no token"))?;
        let active = self.active(token).filter(|earlier| self.concerns(earlier, &client, is_run));
        let body = active.map_or_else(|| json!({ "active": false }), |earlier| told(&earlier));
        Ok(answer(StatusCode::OK, &body))
    }

    /// The token, if it is ours and good, and its session goes on.
    fn active(&self, token: &str) -> Option<Earlier> {
        let form = Earlier::shown(token, &self.name)?.ok()?;
        let bundles = self.bundles();
        let ground = Ground { issuer: &self.name, own: bundles.own(), now: self.now() };
        let earlier = Earlier::read(token, form, ground).ok()?;
        earlier.stands(&self.ports.sessions.live(&earlier.run), ground.now).then_some(earlier)
    }

    /// A token concerns the run that has it, the workload that it is for, and, if it is for the whole trust domain, every
    /// live run. For everybody else it might as well not exist.
    fn concerns(&self, earlier: &Earlier, client: &Actor, is_run: bool) -> bool {
        let audiences = &self.settings.audiences;
        let is_audience = |name: &String| audiences.is_workload(name, &client.spiffe_id);
        (is_run && (earlier.form == TokenForm::Transaction || earlier.run == client.spiffe_id))
            || earlier.audiences().iter().any(is_audience)
    }
}

fn told(earlier: &Earlier) -> Value {
    let claim = |name: &&str| Some(((*name).to_owned(), earlier.claims.get(*name)?.clone()));
    let mut members: Map<String, Value> = TOLD.iter().filter_map(claim).collect();
    members.insert("active".to_owned(), true.into());
    let token_type = match (earlier.form, &earlier.key) {
        (TokenForm::Access, None) => "Bearer",
        (TokenForm::Access, Some(_)) => "DPoP",
        (TokenForm::Transaction, _) => "N_A",
    };
    members.insert("token_type".to_owned(), token_type.into());
    Value::Object(members)
}
