//! The trace of a request that came in: kept where it can name its caller, replaced where it could name another one.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderValue};
use writ_core::IdSource;
use writ_gate::{Join, Session, TraceId};

use crate::marks::{self, TRACEPARENT, TRACESTATE};

/// Tries to find a trace that is free; each fails only if 128 random bits were there before.
const TRIES: usize = 4;

/// Sees to it that the request's trace is that of this session, or of nobody.
///
/// Whoever knows another caller's trace could otherwise have their own request act for that caller. A request without a
/// human always begins a new trace, so that it cannot take one in advance.
pub(super) fn settle(
    headers: &mut HeaderMap,
    session: Option<&Arc<Session>>,
    join: &dyn Join,
    ids: &dyn IdSource,
) {
    let theirs = |trace| session.is_some_and(|session| join.note(session, trace));
    if marks::trace(headers).is_some_and(theirs) {
        return;
    }
    // What a tracing system keeps beside the id belongs to the trace that it came with (W3C Trace Context, section 3.3).
    headers.remove(TRACESTATE);
    headers.remove(TRACEPARENT);
    for _ in 0..TRIES {
        let Some(trace) = TraceId::new(ids.random().to_be_bytes()) else { continue };
        if session.is_none() || theirs(trace) {
            // Never zero, which is no id.
            let parent = (ids.random() >> 64) | 1;
            if let Ok(value) = HeaderValue::try_from(format!("00-{trace}-{parent:016x}-01")) {
                headers.insert(TRACEPARENT, value);
            }
            return;
        }
    }
}
