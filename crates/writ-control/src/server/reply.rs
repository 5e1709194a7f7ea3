//! Answers as HTTP responses.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use writ_core::event::{Leaf, LeafError};

use crate::api;
use crate::daemon::LeafStream;
use crate::fault::{Class, Fault};

/// A response of the control API.
pub(super) type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// One JSON object.
pub(super) fn object<T: Serialize>(answer: Result<T, Fault>) -> Reply {
    let encoded = answer.and_then(|value| {
        serde_json::to_vec(&value).map_err(|_| {
            Fault::local(Class::Failed, "control.unencodable", "the answer could not be written as JSON")
        })
    });
    match encoded {
        Ok(bytes) => reply(StatusCode::OK, api::JSON, bytes),
        Err(fault) => self::fault(&fault),
    }
}

/// A fault.
pub(super) fn fault(fault: &Fault) -> Reply {
    let status = StatusCode::from_u16(fault.class.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // A fault is strings and numbers; should it be unwritable all the same, its status still tells.
    reply(status, api::PROBLEM, serde_json::to_vec(fault).unwrap_or_default())
}

fn reply(status: StatusCode, content: &'static str, body: Vec<u8>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *reply.status_mut() = status;
    head(&mut reply, content);
    reply
}

fn head(reply: &mut Reply, content: &'static str) {
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

#[derive(Serialize)]
struct Broken<'a> {
    fault: &'a Fault,
}

/// One leaf a line, until the stream ends or the daemon stops.
pub(super) fn leaves(stream: LeafStream, stop: CancellationToken) -> Reply {
    let lines = stream.map(|leaf| Ok(Frame::data(Bytes::from(line(leaf)))));
    let mut reply = Response::new(StreamBody::new(lines.take_until(stop.cancelled_owned())).boxed_unsync());
    head(&mut reply, api::NDJSON);
    reply
}

fn line(leaf: Result<Leaf, Fault>) -> Vec<u8> {
    let unreadable = |_: LeafError| {
        Fault::local(Class::Failed, "control.unencodable", "a leaf could not be written as JSON")
    };
    let mut line = leaf
        .and_then(|leaf| leaf.encode().map_err(unreadable))
        .unwrap_or_else(|fault| serde_json::to_vec(&Broken { fault: &fault }).unwrap_or_default());
    line.push(b'\n');
    line
}
