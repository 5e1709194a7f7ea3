//! MCP over the standard input and output of a server that is a run of its own: each message of its client is an action of
//! whoever started it (revisions 2024-11-05 to 2026-07-28, "stdio": one JSON-RPC message a line).
//!
//! Invariant: what the server reads was permitted and its intent is durable; what the client reads was looked at as any answer
//! of an MCP server is. While a call has no answer, it stands on the way of what the server's run does.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
    BufReader,
};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use writ_core::service::{Headers, Needed, RequestHead};
use writ_core::{HostName, Reason};
use writ_gate::{
    Admitted, Asked, Body, BoxFuture, Call, Cause, Conn, Ended, Exchange, Gate, Marks, NoBody, Refusal,
    Session, Shown, limits,
};

use crate::mcp::echo::{self, Id, Said};

/// The ends between a server and its client.
pub struct Ends {
    from_client: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    to_client: Box<dyn AsyncWrite + Send + Unpin>,
    server: UnixStream,
}

impl Ends {
    /// The client's ends, which must be pipes or sockets, and the daemon's end of the server's pair. Within a runtime.
    pub fn new((input, output): (OwnedFd, OwnedFd), server: StdStream) -> io::Result<Self> {
        server.set_nonblocking(true)?;
        let from_client: Box<dyn AsyncRead + Send + Unpin> = if is_socket(&input)? {
            Box::new(socket(input)?)
        } else {
            Box::new(pipe::Receiver::from_owned_fd(input)?)
        };
        let to_client: Box<dyn AsyncWrite + Send + Unpin> = if is_socket(&output)? {
            Box::new(socket(output)?)
        } else {
            Box::new(pipe::Sender::from_owned_fd(output)?)
        };
        Ok(Self {
            from_client: BufReader::new(from_client),
            to_client,
            server: UnixStream::from_std(server)?,
        })
    }
}

fn is_socket(fd: &OwnedFd) -> io::Result<bool> {
    let about = rustix::fs::fstat(fd)?;
    Ok(rustix::fs::FileType::from_raw_mode(about.st_mode).is_socket())
}

fn socket(fd: OwnedFd) -> io::Result<UnixStream> {
    let stream = StdStream::from(fd);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// A server that is served to its client.
pub struct ServedOver {
    /// The path.
    pub gate: Gate,
    /// Who asks, as a connection to the service of the server.
    pub conn: Conn,
    /// The session of the server's own run.
    pub server: Arc<Session>,
    /// Where it is spoken.
    pub ends: Ends,
}

impl ServedOver {
    /// Decides until client, server or one of their sessions is gone. All ends are closed then.
    pub async fn serve(self) {
        let Self { gate, conn, server, ends } = self;
        // Refused and recorded: the client finds its server gone.
        let Ok(admitted) = gate.admit(conn).map(Arc::new) else { return };
        let Some(host) = admitted.conn().destination.name.clone() else { return };
        let (own, asking) = (Arc::clone(&server), Arc::clone(admitted.session()));
        let Ends { from_client, to_client, server: stream } = ends;
        let (from_server, to_server) = stream.into_split();
        let mut writers = JoinSet::new();
        let sides =
            Sides { to_client: writer(&mut writers, to_client), to_server: writer(&mut writers, to_server) };
        let serving = Serving { asker: Asker { gate, admitted, host }, server, sides, open: HashMap::new() };
        let conversation = async {
            if let Err(error) = Box::pin(serving.run(from_client, BufReader::new(from_server))).await {
                tracing::debug!(target: "writ::proxy", %error, "a server and its client part");
            }
            // What one of them said last still reaches the other.
            while writers.join_next().await.is_some() {}
        };
        let mut conversation = std::pin::pin!(conversation);
        tokio::select! {
            () = &mut conversation => return,
            () = own.ended() => {}
            () = asking.ended() => {}
        }
        // A server that exited said something last; whoever was revoked is cut where they stand (G7).
        if own.cause() == Some(Cause::Exited) && asking.cause().is_none() {
            drop(tokio::time::timeout(limits::STDIO_DRAIN, conversation).await);
        }
    }
}

/// Who asks the gate.
#[derive(Clone)]
struct Asker {
    gate: Gate,
    admitted: Arc<Admitted>,
    host: HostName,
}

impl Asker {
    async fn ask(&self, method: &str, body: &mut dyn Body) -> Result<Exchange, Refusal> {
        // What HTTP would say of such a message.
        let lines: [(&str, &[u8]); 1] = [("content-type", b"application/json")];
        let head = RequestHead { method, path: "/", query: None, headers: Headers(&lines) };
        let asked = Asked { host: &self.host, head, marks: Marks::default(), body };
        self.gate.action(&self.admitted, asked).await
    }
}

struct Sides {
    to_client: Lines,
    to_server: Lines,
}

/// Lines on their way to one side, which are written beside all else: neither side's slowness keeps the other from being read.
struct Lines(mpsc::Sender<Vec<u8>>);

impl Lines {
    async fn send(&self, line: &[u8]) -> io::Result<()> {
        // In one piece, so that a peer that goes away leaves no half of a message.
        let whole = [line, b"\n"].concat();
        self.0.send(whole).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn writer(writers: &mut JoinSet<io::Result<()>>, mut to: impl AsyncWrite + Send + Unpin + 'static) -> Lines {
    let (lines, mut waiting) = mpsc::channel::<Vec<u8>>(limits::STDIO_LINES_MAX);
    writers.spawn(async move {
        while let Some(line) = waiting.recv().await {
            to.write_all(&line).await?;
            to.flush().await?;
        }
        to.shutdown().await
    });
    Lines(lines)
}

/// A message of the client, decided.
struct Decided {
    line: Vec<u8>,
    said: Said,
    answer: Result<Exchange, Refusal>,
}

struct Serving {
    asker: Asker,
    server: Arc<Session>,
    sides: Sides,
    /// Requests without an answer.
    open: HashMap<Id, (Exchange, Option<Call>)>,
}

impl Serving {
    async fn run(
        mut self,
        mut from_client: impl AsyncBufRead + Unpin,
        mut from_server: impl AsyncBufRead + Unpin,
    ) -> io::Result<()> {
        // What the server sends by itself belongs to this; without it the client is not shown any of it.
        let by_itself = self.asker.ask("GET", &mut NoBody).await.ok();
        let mut calls: JoinSet<Decided> = JoinSet::new();
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        loop {
            tokio::select! {
                read = line(&mut from_client, &mut asked) => {
                    read?;
                    let line = std::mem::take(&mut asked);
                    if line.trim_ascii().is_empty() { continue; }
                    let said = echo::said(&line);
                    // A call may wait for people; nothing else does, and its order matters.
                    if said.calls() && calls.len() < limits::APPROVALS_PER_SESSION_MAX {
                        calls.spawn(decide(self.asker.clone(), line, said));
                    } else {
                        let decided = decide(self.asker.clone(), line, said).await;
                        self.pass_on(decided).await?;
                    }
                }
                Some(decided) = calls.join_next() => {
                    self.pass_on(decided.map_err(io::Error::other)?).await?;
                }
                read = line(&mut from_server, &mut answered) => {
                    read?;
                    let line = std::mem::take(&mut answered);
                    self.answer(&line, by_itself.as_ref()).await?;
                }
            }
        }
    }

    /// Hands a message to the server, or its refusal to the client.
    async fn pass_on(&mut self, decided: Decided) -> io::Result<()> {
        let Decided { line, said, answer } = decided;
        match answer {
            Ok(exchange) => {
                let Some(id) = said.id.filter(|_| said.method.is_some()) else {
                    // Nothing comes back, and not for what it takes back either.
                    if let Some((cancelled, _call)) = said.cancels.and_then(|id| self.open.remove(&id)) {
                        cancelled.finish(Ended::failed(Reason::ClientGone));
                    }
                    let sent = self.sides.to_server.send(&line).await;
                    exchange.finish(Ended { bytes_up: bytes(&line), ..Ended::completed(None) });
                    return sent;
                };
                if self.open.contains_key(&id) {
                    exchange.finish(Ended::failed(Reason::AmbiguousRequest));
                    let refusal = Refusal { reason: Reason::AmbiguousRequest, action: None };
                    return self.sides.to_client.send(echo::words(Some(&id), &refusal).as_bytes()).await;
                }
                let call = exchange.mcp_hop().map(|step| Call::begin(&self.server, exchange.action(), step));
                self.open.insert(id, (exchange, call));
                self.sides.to_server.send(&line).await
            }
            Err(refusal) if said.method.is_some() && said.id.is_some() => {
                self.sides.to_client.send(echo::words(said.id.as_ref(), &refusal).as_bytes()).await
            }
            // What has no answer is refused without one.
            Err(_) => Ok(()),
        }
    }

    /// Shows the client what the server sent, as far as it may see it.
    async fn answer(&mut self, line: &[u8], by_itself: Option<&Exchange>) -> io::Result<()> {
        let said = echo::said(line);
        if said.method.is_some() {
            let shown = by_itself.map(|exchange| exchange.shown(line));
            return match shown {
                Some(Ok(Shown::Whole)) => self.sides.to_client.send(line).await,
                Some(Ok(Shown::Part(text))) => self.sides.to_client.send(text.as_bytes()).await,
                Some(Ok(Shown::Nothing) | Err(_)) | None => Ok(()),
            };
        }
        // An answer to nothing that was asked is nobody's.
        let Some((id, (exchange, _call))) = said.id.and_then(|id| self.open.remove_entry(&id)) else {
            return Ok(());
        };
        let ended = Ended { bytes_down: bytes(line), ..Ended::completed(None) };
        match exchange.shown(line) {
            Ok(Shown::Whole) => {
                exchange.finish(ended);
                self.sides.to_client.send(line).await
            }
            Ok(Shown::Part(text)) => {
                exchange.finish(ended);
                self.sides.to_client.send(text.as_bytes()).await
            }
            shown @ (Ok(Shown::Nothing) | Err(_)) => {
                let reason = shown.err().unwrap_or(Reason::McpAnswer);
                let refusal = Refusal { reason, action: Some(exchange.action()) };
                exchange.finish(Ended::failed(reason));
                self.sides.to_client.send(echo::words(Some(&id), &refusal).as_bytes()).await
            }
        }
    }
}

async fn decide(asker: Asker, line: Vec<u8>, said: Said) -> Decided {
    let mut message = Message(line);
    let answer = asker.ask("POST", &mut message).await;
    Decided { line: message.0, said, answer }
}

/// A message that is there in full.
struct Message(Vec<u8>);

impl Body for Message {
    fn read(&mut self, _: Needed) -> BoxFuture<'_, Result<&[u8], Reason>> {
        let fits = self.0.len() <= limits::ARGUMENT_BODY_BYTES_MAX;
        Box::pin(std::future::ready(if fits { Ok(self.0.as_slice()) } else { Err(Reason::BodyTooLarge) }))
    }
}

/// Reads the rest of a line, without its end. What was read is kept if this is dropped.
async fn line(from: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<()> {
    let room = limits::MCP_MESSAGE_BYTES_MAX.saturating_sub(line.len());
    let mut limited = from.take(u64::try_from(room).unwrap_or(u64::MAX));
    limited.read_until(b'\n', line).await?;
    if line.pop_if(|last| *last == b'\n').is_none() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.pop_if(|last| *last == b'\r');
    Ok(())
}

fn bytes(line: &[u8]) -> u64 {
    u64::try_from(line.len()).unwrap_or(u64::MAX)
}
