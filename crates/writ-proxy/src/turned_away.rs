//! Telling a client that its connection was not admitted, in a voice it understands, before anything is read.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use writ_gate::Refusal;

use crate::refusal;
use crate::tls::{self, Alert};

/// A TLS client gets an alert, an HTTP client an answer, others nothing. Then the connection ends.
///
/// Inside TLS more could be said, but the session has no certificate for what it may not reach.
pub(crate) async fn tell(mut stream: TcpStream, refusal: Refusal, within: Duration) {
    let told = async {
        let mut first = [0u8; 1];
        if stream.peek(&mut first).await? == 0 {
            return Ok(());
        }
        match first {
            [tls::HANDSHAKE] => stream.write_all(&Alert::AccessDenied.record()).await?,
            [b'A'..=b'Z'] => stream.write_all(&refusal::raw(&refusal)).await?,
            _ => {}
        }
        stream.shutdown().await?;
        tls::discard(&mut stream).await
    };
    if let Ok(Err(error)) = tokio::time::timeout(within, told).await {
        let error: std::io::Error = error;
        tracing::debug!(target: "writ::proxy", %error, "a refused client went away");
    }
}
