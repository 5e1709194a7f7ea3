//! WebSocket (RFC 6455): after the service agrees, the connection is a tunnel in both directions.
//!
//! Frames are not interpreted. What the service sends is still searched for the credential that was lent, and so
//! that it can be found, extensions (which compress) are not offered when one is.

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use writ_core::Reason;

use crate::act::relay_answer;
use crate::body::Answer;
use crate::head;
use crate::lane::Lane;
use crate::running::Running;
use crate::scrub::Scrubber;
use crate::serving::Serving;
use crate::tunnel;
use crate::upstream::Target;
use crate::upstream::wire::Wire;

const EXTENSIONS: HeaderName = header::SEC_WEBSOCKET_EXTENSIONS;

/// The agent's side, which becomes a stream of bytes once the answer `101` has left.
pub(crate) fn agent_side(parts: &mut Parts) -> OnUpgrade {
    let mut request = Request::new(());
    std::mem::swap(request.extensions_mut(), &mut parts.extensions);
    hyper::upgrade::on(&mut request)
}

/// Asks the service for the upgrade and, if it agrees, ties the two sides together.
pub(crate) async fn relay<L: Serving>(
    serving: &Arc<L>,
    lane: &Arc<Lane>,
    target: &Target,
    mut parts: Parts,
    (mut running, agent_side): (Running, OnUpgrade),
) -> Result<Response<Answer>, Reason> {
    announce(&mut parts.headers);
    if running.lends() {
        parts.headers.remove(EXTENSIONS);
    }
    let transfer = Arc::clone(running.transfer());
    let answer = match lane.send_alone(target, parts, &transfer).await {
        Ok(answer) => answer,
        Err(reason) => {
            running.fail(reason);
            return Err(reason);
        }
    };
    running.answered(answer.status().as_u16());
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (parts, body) = answer.into_parts();
        return relay_answer(&Method::GET, parts, body, running).await;
    }
    let agrees = head::lists(answer.headers(), &header::UPGRADE, "websocket");
    let (mut parts, body) = answer.into_parts();
    let Some(wire) = body.into_wire().filter(|_| agrees) else {
        running.fail(Reason::UpstreamBroken);
        return Err(Reason::UpstreamBroken);
    };
    head::strip_answer(&mut parts.headers);
    if let Some(scrubber) = running.scrubber() {
        scrubber.headers(&mut parts.headers);
    }
    announce(&mut parts.headers);
    parts.extensions.clear();
    if let Some(strict) = &serving.pace().wire {
        strict.become_tunnel();
    }
    serving.common().tasks.spawn(tied(Arc::clone(serving), agent_side, wire, running));
    Ok(Response::from_parts(parts, Answer::Own(None)))
}

fn announce(headers: &mut http::HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Relays until one side ends, or the session does. Holds the connection's place in the session meanwhile.
async fn tied<L: Serving>(line: Arc<L>, agent_side: OnUpgrade, wire: Box<Wire>, running: Running) {
    let transfer = Arc::clone(running.transfer());
    let search = running.scrubber().map(Scrubber::flow);
    let relayed = async {
        let (service, first) = wire.into_io().await;
        let agent = TokioIo::new(agent_side.await.map_err(|_| Reason::ClientGone)?);
        let said = tunnel::Said::new(service, first);
        tunnel::tie(agent, said, &transfer, search).await.map_err(|_| Reason::UpstreamBroken)
    };
    let session = Arc::clone(running.session());
    let result = tokio::select! {
        biased;
        () = session.ended() => None,
        () = line.common().stop.cancelled() => None,
        result = relayed => Some(result),
    };
    match result {
        Some(Ok(())) => running.complete(),
        Some(Err(reason)) => running.fail(reason),
        // Dropped unfinished, it says itself that it was cut, and why.
        None => drop(running),
    }
}
