//! Signals that are fetched (RFC 8936).

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};
use writ_gate::limits;
use zeroize::Zeroizing;

use super::{Signals, Source, is_for_later, set};
use crate::error::Error;
use crate::issuer::Delivery;
use crate::refusal::Refusal;
use crate::web::Question;

/// What the next poll tells about the events of the last.
#[derive(Default)]
struct Receipts {
    taken: Vec<String>,
    refused: BTreeMap<String, (&'static str, String)>,
}

/// After a poll that brought nothing: a transmitter that does not hold polls open is not asked in a circle.
const EMPTY_PAUSE: Duration = Duration::from_secs(2);
/// After a poll that failed: the first wait, doubled up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(5));

impl Signals {
    /// Polls one transmitter for ever; ends at once for one that pushes.
    pub(super) async fn fetch_from(&self, source: &Source) {
        if !matches!(source.transmitter.delivery, Delivery::Poll { .. }) {
            return;
        }
        let Some(ports) = &self.ports else { return };
        let (mut receipts, mut wait) = (Receipts::default(), RETRY.0);
        loop {
            match self.poll(source, &mut receipts, Hold::Open).await {
                Ok(0) => {
                    wait = RETRY.0;
                    ports.pace.pause(EMPTY_PAUSE).await;
                }
                Ok(_) => wait = RETRY.0,
                Err(error) => {
                    let error = &error as &(dyn std::error::Error + Send + Sync);
                    tracing::warn!(target: "writ::human", error, "signals cannot be fetched");
                    ports.pace.pause(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
    }

    /// Polls every transmitter that is polled until none has more, and lets each know what was taken. How many came.
    pub async fn poll_once(&self) -> Result<usize, Error> {
        let mut came = 0;
        for source in &self.sources {
            if !matches!(source.transmitter.delivery, Delivery::Poll { .. }) {
                continue;
            }
            let mut receipts = Receipts::default();
            loop {
                let now = self.poll(source, &mut receipts, Hold::Not).await?;
                came += now;
                if now == 0 && receipts.is_empty() {
                    break;
                }
            }
        }
        Ok(came)
    }

    /// One poll: acknowledges the last events, takes the next.
    async fn poll(&self, source: &Source, receipts: &mut Receipts, hold: Hold) -> Result<usize, Error> {
        let answer = source.ask(receipts, hold).await?;
        // They have been told; the new ones come next time. Crash before that: the transmitter sends them again.
        *receipts = Receipts::default();
        let mut came = 0;
        for (id, token) in answer {
            came += 1;
            let Some(token) = token.as_str() else {
                receipts.refused.insert(id, ("invalid_request", "it is no text".to_owned()));
                continue;
            };
            match self.take(source, token).await {
                Ok(()) | Err(Error::Token(Refusal::Replayed)) => receipts.taken.push(id),
                Err(error @ Error::Token(_)) if !is_for_later(&error) => {
                    tracing::warn!(target: "writ::human", %error, "a signal is refused");
                    receipts.refused.insert(id, (set::code(&error), error.to_string()));
                }
                // Neither taken nor refused: it comes again.
                Err(error) => return Err(error),
            }
        }
        Ok(came)
    }
}

/// Whether the transmitter shall wait for an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    Open,
    Not,
}

impl Receipts {
    fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.refused.is_empty()
    }
}

impl Source {
    async fn ask(&self, receipts: &Receipts, hold: Hold) -> Result<Map<String, Value>, Error> {
        let Delivery::Poll { endpoint, token } = &self.transmitter.delivery else { return Ok(Map::new()) };
        let errors: Map<String, Value> = receipts
            .refused
            .iter()
            .map(|(id, (code, description))| (id.clone(), json!({ "err": code, "description": description })))
            .collect();
        let question = json!({
            "maxEvents": limits::SIGNALS_PER_POLL_MAX,
            "returnImmediately": hold == Hold::Not,
            "ack": receipts.taken,
            "setErrs": errors,
        });
        let authorization = match token {
            Some(name) => {
                let secret = self.provider.ports.secret(name).await?;
                Some(self.provider.bearer(secret.expose())?)
            }
            None => None,
        };
        let body = Zeroizing::new(question.to_string().into_bytes());
        let within = if hold == Hold::Open { limits::SIGNAL_POLL_TIMEOUT } else { limits::ISSUER_TIMEOUT };
        let asked = Question { to: endpoint, authorization, body: Some(("application/json", body)), within };
        let answer = self.provider.ask(asked).await?;
        let object = answer.object().filter(|_| answer.status == StatusCode::OK);
        let object = object.ok_or_else(|| {
            self.provider.wrong(&format!("status {} where signals should be", answer.status.as_u16()))
        })?;
        let sets = object.get("sets").and_then(Value::as_object);
        let sets = sets.ok_or_else(|| self.provider.wrong("a poll without a list of signals"))?;
        if sets.len() > limits::SIGNALS_PER_POLL_MAX {
            return Err(self.provider.wrong("more signals than were asked for"));
        }
        Ok(sets.clone())
    }
}
