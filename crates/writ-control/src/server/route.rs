//! From a request to the daemon's method and back. The only place where operations are called.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use writ_core::{Secret, SecretName};
use writ_gate::limits;
use zeroize::Zeroize;

use super::reply::{self, Reply};
use super::{Connected, Context};
use crate::access::{self, Clearance, Standing};
use crate::api::{self, Nothing, Operation, Prepared, RunOpened};
use crate::fault::{Class, Fault};

/// Answers one request. Never fails: what goes wrong is a fault.
pub(super) async fn answer(context: &Context, peer: &Connected, request: Request<Incoming>) -> Reply {
    let operation = match operation(&request) {
        Ok(operation) => operation,
        Err(fault) => return refuse(request, &fault).await,
    };
    let answer = timeout(limits::CONTROL_TIMEOUT, call(context, peer, operation, request)).await;
    let reply = answer.unwrap_or_else(|_| {
        let fault =
            Fault::local(Class::Unavailable, "control.timeout", format!("`{operation}` took too long"));
        reply::fault(&fault.hint("see the daemon's log, and `writ status`"))
    });
    if reply.status() != StatusCode::OK {
        let (uid, pid, status) = (peer.caller.uid(), peer.caller.pid(), reply.status().as_u16());
        tracing::info!(target: "writ::control", %operation, uid, pid, status, "refused or failed");
    }
    reply
}

fn operation<B>(request: &Request<B>) -> Result<Operation, Fault> {
    let path = request.uri().path();
    let named = path.strip_prefix(api::PREFIX).and_then(Operation::from_name);
    let operation = named.ok_or_else(|| {
        Fault::caller(Class::Missing, "control.no_operation", "no such operation")
            .hint("client and daemon may be of different versions; see `writ status`")
    })?;
    if request.method() == Method::POST {
        Ok(operation)
    } else {
        Err(Fault::caller(Class::Usage, "control.bad_request", "operations are called with POST"))
    }
}

async fn call(
    context: &Context,
    peer: &Connected,
    operation: Operation,
    request: Request<Incoming>,
) -> Reply {
    let standing = match standing(context, peer).await {
        Ok(standing) => standing,
        Err(fault) => return refuse(request, &fault).await,
    };
    let cleared = access::clear(&context.access, operation, &peer.caller, standing);
    let by = match cleared {
        Ok(by) => by,
        Err(fault) => return refuse(request, &fault).await,
    };
    if operation == Operation::SecretSet {
        return reply::object(secret_set(context, &by, request).await);
    }
    match body(request).await {
        Ok(body) => dispatch(context, peer, &by, &body).await,
        Err(fault) => reply::fault(&fault),
    }
}

async fn dispatch(context: &Context, peer: &Connected, by: &Clearance, body: &[u8]) -> Reply {
    /// Reads the request and calls the method.
    macro_rules! ask {
        ($method:ident) => {
            match read::<Nothing>(body) {
                Ok(Nothing {}) => reply::object(context.daemon.$method(by).await),
                Err(fault) => reply::fault(&fault),
            }
        };
        ($method:ident, read) => {
            match read(body) {
                Ok(ask) => reply::object(context.daemon.$method(by, ask).await),
                Err(fault) => reply::fault(&fault),
            }
        };
    }
    match by.operation() {
        Operation::Status => ask!(status),
        Operation::RunOpen => reply::object(run_open(context, peer, by, body).await),
        Operation::RunReady => reply::object(run_ready(peer, body).await),
        Operation::RunList => ask!(run_list),
        Operation::Revoke => ask!(revoke, read),
        Operation::HumanLogin => ask!(human_login, read),
        Operation::HumanFinish => ask!(human_finish, read),
        Operation::HumanWhoami => ask!(human_whoami),
        Operation::HumanLogout => ask!(human_logout),
        Operation::AgentList => ask!(agent_list),
        Operation::AgentApprove => ask!(agent_approve, read),
        Operation::ApprovalList => ask!(approval_list),
        Operation::ApprovalAnswer => ask!(approval_answer, read),
        Operation::LogQuery => log_query(context, by, body).await,
        Operation::ActionWhy => ask!(action_why, read),
        Operation::SecretSet => reply::fault(&unreadable("the value comes as the body itself")),
        Operation::SecretList => ask!(secret_list),
        Operation::SecretRemove => ask!(secret_remove, read),
        Operation::ServiceList => ask!(service_list),
        Operation::ServiceShow => ask!(service_show, read),
        Operation::PolicyShow => ask!(policy_show),
        Operation::Reload => ask!(reload),
        Operation::EvidenceCheckpoint => ask!(evidence_checkpoint),
        Operation::Doctor => ask!(doctor),
    }
}

/// What the caller is. A process that has just been adopted is governed, and may still end its own beginning.
async fn standing(context: &Context, peer: &Connected) -> Result<Standing, Fault> {
    if peer.opening.lock().await.is_some() {
        return Ok(Standing::Opening);
    }
    let governed = context.daemon.is_governed(&peer.caller)?;
    Ok(if governed { Standing::Governed } else { Standing::Free })
}

async fn run_open(
    context: &Context,
    peer: &Connected,
    by: &Clearance,
    body: &[u8],
) -> Result<Prepared, Fault> {
    let (prepared, opening) = context.daemon.run_open(by, read(body)?).await?;
    *peer.opening.lock().await = Some(opening);
    Ok(prepared)
}

async fn run_ready(peer: &Connected, body: &[u8]) -> Result<RunOpened, Fault> {
    let Nothing {} = read(body)?;
    let opening = peer.opening.lock().await.take();
    let opening = opening.ok_or_else(|| unreadable("no run was opened on this connection"))?;
    opening.ready().await
}

async fn log_query(context: &Context, by: &Clearance, body: &[u8]) -> Reply {
    let stream = match read(body) {
        Ok(query) => context.daemon.log_query(by, query).await,
        Err(fault) => Err(fault),
    };
    match stream {
        Ok(stream) => reply::leaves(stream, context.stop.clone()),
        Err(fault) => reply::fault(&fault),
    }
}

/// The one request that carries a secret. Its body is the value, so no JSON reader ever holds it; every copy that
/// is ours is zeroed.
async fn secret_set(context: &Context, by: &Clearance, request: Request<Incoming>) -> Result<Nothing, Fault> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let is_bytes = header(header::CONTENT_TYPE.as_str()) == Some(api::BYTES);
    let name = header(api::SECRET_NAME).map(SecretName::new);
    let mut value = Vec::with_capacity(limits::CONTROL_BODY_BYTES_MAX);
    let taken = take(request, |piece| {
        // The room was reserved above, so nothing is moved and no copy stays behind.
        value.extend_from_slice(&piece);
        wipe(piece);
    });
    let taken = taken.await;
    let empty = value.is_empty();
    // From here on it lies in secret memory, and where it came from is zeroed.
    let value = Secret::<[u8]>::new(value)
        .map_err(|error| Fault::local(Class::Failed, "control.no_memory", error.to_string()))?;
    taken?;
    if !is_bytes {
        return Err(unreadable(format!("the value must be the body itself, as `{}`", api::BYTES)));
    }
    let name = name.ok_or_else(|| unreadable("the secret has no name"))?;
    let name = name.map_err(|error| unreadable(error.to_string()))?;
    if empty {
        return Err(unreadable("the value is empty"));
    }
    let value = value.into_text().ok_or_else(|| unreadable("the value is not UTF-8 text"))?;
    context.daemon.secret_set(by, name, value).await
}

/// A fault before the body was looked at. It is read all the same: a socket that is closed with something unread in
/// it takes the answer away from the caller.
async fn refuse(request: Request<Incoming>, fault: &Fault) -> Reply {
    // Whether it broke off makes no difference to the answer.
    let _read = timeout(limits::CONTROL_TIMEOUT, take(request, wipe)).await;
    reply::fault(fault)
}

/// Zeroes a piece of a body, if nobody else holds it.
fn wipe(piece: Bytes) {
    if let Ok(mut own) = piece.try_into_mut() {
        own.as_mut().zeroize();
    }
}

async fn body(request: Request<Incoming>) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    take(request, |piece| body.extend_from_slice(&piece)).await?;
    Ok(body)
}

/// Hands over the body piece by piece, up to [`limits::CONTROL_BODY_BYTES_MAX`].
async fn take(request: Request<Incoming>, mut piece: impl FnMut(Bytes)) -> Result<(), Fault> {
    let mut body = Limited::new(request.into_body(), limits::CONTROL_BODY_BYTES_MAX);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<LengthLimitError>() {
                unreadable(format!("the body is larger than {} bytes", limits::CONTROL_BODY_BYTES_MAX))
            } else {
                unreadable("the body broke off")
            }
        })?;
        if let Ok(data) = frame.into_data() {
            piece(data);
        }
    }
    Ok(())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))
}

fn unreadable(message: impl Into<String>) -> Fault {
    Fault::caller(Class::Usage, "control.bad_request", message)
}
