//! Opaque services: the connection is one action, and its bytes are not read.

use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;
use writ_core::Reason;
use writ_core::service::{Headers, RequestHead};
use writ_gate::{Admitted, Asked, Marks, NoBody};

use crate::body::Transfer;
use crate::lane::Seat;
use crate::relay::Shared;
use crate::running::Running;
use crate::upstream::{self, Target};
use crate::{line, tunnel};

/// Relays one connection of a `tcp` service. No credential is ever placed: there is no place for one.
pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream, admitted: Arc<Admitted>, _seat: Seat) {
    let Some(host) = line::some_name(&admitted) else {
        shared.common.gate.reject(&admitted, Reason::UnknownDestination);
        return;
    };
    let gate = &shared.common.gate;
    let head = RequestHead { method: "CONNECT", path: "/", query: None, headers: Headers::default() };
    let asked = Asked { host: &host, head, marks: Marks::default(), body: &mut NoBody };
    let Ok(exchange) = gate.action(&admitted, asked).await else { return };
    let transfer = Arc::new(Transfer::new(None));
    let running = Running::new(exchange, Arc::clone(&transfer), shared.common.stop.clone());
    let place = line::place(&admitted, host, false);
    let target = Target { service: Arc::clone(admitted.service()), place, authority: None };
    let upstream = match upstream::dial_opaque(&target, shared.common.settings.upstream_connect_timeout).await
    {
        Ok(upstream) => upstream,
        Err(reason) => return running.fail(reason),
    };
    match tunnel::tie(stream, tunnel::Said::new(upstream, Bytes::new()), &transfer, None).await {
        Ok(()) => running.complete(),
        Err(error) => {
            tracing::debug!(target: "writ::proxy", %error, "an opaque connection broke");
            running.fail(Reason::UpstreamBroken);
        }
    }
}
