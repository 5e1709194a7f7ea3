//! TLS towards the agent: the hello is read and judged before anything is promised.

use std::io;

use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;
use writ_core::{HostName, Reason};
use writ_gate::{Admitted, limits};

use crate::authority::Authority;

/// Record type of a TLS handshake (RFC 8446 section 5.1): how every TLS client begins.
pub(crate) const HANDSHAKE: u8 = 0x16;

/// What is read of a hello at a time.
const READ_BYTES: usize = 4096;
/// What a refused client may still send before the connection is dropped under it.
const DISCARD_BYTES_MAX: usize = 64 * 1024;

/// A fatal alert sent before there is a TLS connection (RFC 8446 section 6.2).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Alert {
    AccessDenied,
    UnrecognizedName,
}

impl Alert {
    pub(crate) const fn record(self) -> [u8; 7] {
        let code = match self {
            Self::AccessDenied => 49,
            Self::UnrecognizedName => 112,
        };
        [0x15, 3, 3, 0, 2, 2, code]
    }
}

/// A connection inside TLS.
pub(crate) struct Secured {
    pub(crate) stream: Box<TlsStream<TcpStream>>,
    /// The name that the certificate was shown for.
    pub(crate) host: HostName,
    /// What every request on it is told, if the hello was not acceptable.
    pub(crate) refused: Option<Reason>,
}

/// There is no TLS connection.
#[derive(Debug)]
pub(crate) enum NoTls {
    /// Refused, and why; the client was told as well as it could be.
    Refused(Reason),
    /// Not TLS at all: the stream, for an answer in plain text, with its first byte.
    Plain(TcpStream, u8),
    /// The client went away, or did not trust the certificate.
    Gone(io::Error),
}

impl From<io::Error> for NoTls {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// Reads the hello, judges its name, and completes the handshake.
pub(crate) async fn accept(
    stream: TcpStream,
    admitted: &Admitted,
    authority: &Authority,
) -> Result<Secured, NoTls> {
    let (mut stream, accepted) = read_hello(stream).await?;
    let hello = accepted.client_hello();
    let asked = hello.server_name().map(HostName::new).transpose();
    let offers_http = hello.alpn().is_none_or(|mut offered| offered.any(|p| p == b"h2" || p == b"http/1.1"));
    let Ok(judged) = judge(asked.ok().flatten(), hello.server_name().is_some(), admitted) else {
        stream.write_all(&Alert::UnrecognizedName.record()).await?;
        return Err(NoTls::Refused(Reason::NameMismatch));
    };
    let (host, refused) = judged.ok_or(NoTls::Refused(Reason::NoServerName))?;
    let config = match refused {
        Some(Reason::NoServerName) => authority.config_for(&host),
        Some(_) if authority.config_for(&host).is_none() => None,
        _ => Some(authority.config()),
    };
    let Some(config) = config else {
        stream.write_all(&Alert::UnrecognizedName.record()).await?;
        return Err(NoTls::Refused(refused.unwrap_or(Reason::NameMismatch)));
    };
    match StartHandshake::from_parts(accepted, stream).into_stream(config).await {
        Ok(stream) => Ok(Secured { stream: Box::new(stream), host, refused }),
        // The alert `no_application_protocol` was sent.
        Err(_) if !offers_http => Err(NoTls::Refused(Reason::ProtocolRefused)),
        Err(error) => Err(NoTls::Gone(error)),
    }
}

/// For which name to show a certificate, and what is wrong with the hello if something is.
///
/// `Err` for a name that cannot be shown, `None` for no name where none is known.
fn judge(
    asked: Option<HostName>,
    named: bool,
    admitted: &Admitted,
) -> Result<Option<(HostName, Option<Reason>)>, ()> {
    let known = admitted.conn().destination.name.clone();
    match (asked, known) {
        (None, _) if named => Err(()),
        (None, known) => Ok(known.map(|known| (known, Some(Reason::NoServerName)))),
        (Some(asked), Some(known)) if asked == known => Ok(Some((asked, None))),
        (Some(asked), Some(_)) => Ok(Some((asked, Some(Reason::NameMismatch)))),
        // A literal address that the service lists: the name must be one of the service's.
        (Some(asked), None) => {
            let ours = admitted.service().hosts.iter().any(|pattern| pattern.matches(&asked));
            let refused = if ours { None } else { Some(Reason::NameMismatch) };
            Ok(Some((asked, refused)))
        }
    }
}

async fn read_hello(mut stream: TcpStream) -> Result<(TcpStream, Accepted), NoTls> {
    let mut acceptor = Acceptor::default();
    let mut buffer = vec![0u8; READ_BYTES];
    let mut total = 0;
    loop {
        let read = stream.read(&mut buffer).await?;
        let mut bytes = buffer.get(..read).unwrap_or_default();
        match bytes.first() {
            None => return Err(NoTls::Gone(io::ErrorKind::UnexpectedEof.into())),
            Some(&first) if total == 0 && first != HANDSHAKE => return Err(NoTls::Plain(stream, first)),
            Some(_) => {}
        }
        total += read;
        if total > limits::HELLO_BYTES_MAX {
            return Err(NoTls::Refused(Reason::TooLarge));
        }
        while !bytes.is_empty() {
            acceptor.read_tls(&mut bytes)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok((stream, accepted)),
            Ok(None) => {}
            Err((_, mut alert)) => {
                let mut record = Vec::new();
                alert.write(&mut record)?;
                stream.write_all(&record).await?;
                return Err(NoTls::Refused(Reason::BadRequest));
            }
        }
    }
}

/// Reads what is still coming, so that the close does not become a reset that takes the last words with it.
pub(crate) async fn discard(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = vec![0u8; READ_BYTES];
    let mut total = 0;
    loop {
        let read = stream.read(&mut buffer).await?;
        total += read;
        if read == 0 || total > DISCARD_BYTES_MAX {
            return Ok(());
        }
    }
}
