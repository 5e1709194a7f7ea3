//! Who asks: a workload that proves its SPIFFE ID.

use bytes::Bytes;
use http::{Request, header};
use writ_identity::exchange::proof::{self, Proof};
use writ_identity::exchange::{Actor, Refusal};
use writ_identity::{Invalid, validate};

use super::Tokens;
use super::form::Form;

/// How a client assertion may be called: draft-ietf-oauth-spiffe-client-auth, and RFC 7523 section 2.2.
const ASSERTIONS: [&str; 2] = [
    "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe",
    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
];
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

impl Tokens {
    /// The client, if it proves itself: by the kernel, by an assertion, or by a bearer token. In one way only.
    pub(super) fn client(
        &self,
        request: &Request<Bytes>,
        form: &Form,
        peer: Option<&Actor>,
    ) -> Result<Option<Actor>, Refusal> {
        let refused = |_: Invalid| Refusal::Client("the client's JWT-SVID is not valid");
        let assertion = match form.token("client_assertion", "client_assertion_type")? {
            Some((token, typ)) if ASSERTIONS.contains(&typ) => Some(token),
            Some(_) => return Err(Refusal::Client("clients are authenticated by JWT-SVIDs")),
            None => None,
        };
        let mut shown = bearer(request)?.into_iter().chain(assertion);
        let client = match (peer, shown.next(), shown.next()) {
            (Some(peer), None, None) => Some(peer.clone()),
            (None, Some(token), None) => Some(self.svid(token).map_err(refused)?),
            (None, None, None) => None,
            _ => return Err(Refusal::Request("the client proves itself in several ways")),
        };
        match (form.get("client_id"), &client) {
            (Some(name), Some(client)) if name != client.spiffe_id.as_str() => {
                Err(Refusal::Client("`client_id` is another workload"))
            }
            _ => Ok(client),
        }
    }

    /// The run that will act: the actor token's, or the client itself. Whoever shows another run's token is not it.
    pub(super) fn actor(&self, form: &Form, client: Option<Actor>) -> Result<Actor, Refusal> {
        let Some((token, typ)) = form.token("actor_token", "actor_token_type")? else {
            return client
                .ok_or(Refusal::Client("an actor token, or a client that proves itself, is needed"));
        };
        if typ != JWT {
            return Err(Refusal::Request("an actor token is a JWT-SVID"));
        }
        let actor = self.svid(token).map_err(|invalid| Refusal::of_actor(&invalid))?;
        match client {
            Some(client) if client.spiffe_id != actor.spiffe_id => {
                Err(Refusal::Grant("the actor token is another run's"))
            }
            Some(client) => Ok(Actor { expires: client.expires.min(actor.expires), ..actor }),
            None => Ok(actor),
        }
    }

    /// The thumbprint of the key that the request proves, if it proves one.
    pub(super) fn key(&self, request: &Request<Bytes>, actor: &Actor) -> Result<Option<String>, Refusal> {
        let mut headers = request.headers().get_all("dpop").iter();
        let shown = match (headers.next(), headers.next()) {
            (Some(shown), None) => shown,
            (Some(_), Some(_)) => return Err(Refusal::Proof("there are several proofs")),
            (None, _) => return Ok(None),
        };
        let shown = shown.to_str().map_err(|_| Refusal::Proof("the proof is malformed"))?;
        let proof: Proof = proof::verify(shown, "POST", &self.url(), self.now()).map_err(|e| refused(&e))?;
        self.replays.admit(&proof, &actor.spiffe_id, self.now())?;
        Ok(Some(proof.thumbprint))
    }

    /// A workload of a trust domain that is trusted here, by a JWT-SVID for this issuer.
    fn svid(&self, token: &str) -> Result<Actor, Invalid> {
        let svid = validate::jwt(token, &self.name, &self.bundles(), self.now())?;
        Ok(Actor { spiffe_id: svid.subject, expires: svid.expires })
    }
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1).
fn bearer(request: &Request<Bytes>) -> Result<Option<&str>, Refusal> {
    let wrong = Refusal::Client("clients are authenticated by JWT-SVIDs");
    let mut headers = request.headers().get_all(header::AUTHORIZATION).iter();
    match (headers.next(), headers.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(Refusal::Request("the client proves itself in several ways")),
        (Some(one), None) => {
            let (scheme, token) = one.to_str().ok().and_then(|one| one.split_once(' ')).ok_or(wrong)?;
            if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(wrong) }
        }
    }
}

fn refused(invalid: &Invalid) -> Refusal {
    let words = [
        (Invalid::Expired, "the proof is too old"),
        (Invalid::NotYet, "the proof is from the future"),
        (Invalid::Signature, "the proof's signature is not its key's"),
    ];
    let word = words.iter().find(|(known, _)| known == invalid).map(|(_, word)| *word);
    Refusal::Proof(word.unwrap_or("the proof is not one of this request"))
}
