//! Asking an MCP server what it is and which tools it has (Streamable HTTP, revisions 2025-03-26 to 2026-07-28).
//!
//! Answers are bounded in size, number and time, and no redirection is followed. The token goes to the server that was named
//! and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use writ_gate::limits::MCP_MESSAGE_BYTES_MAX;

/// The newest revision with sessions, which servers of every age answer or refuse clearly.
const WITH_SESSION: &str = "2025-11-25";
/// The revision without.
const STATELESS: &str = "2026-07-28";
/// Pages of a list.
const PAGES_MAX: usize = 100;
/// For one answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a server says of itself.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) with_token: bool,
    /// As it lists them.
    pub(crate) tools: Vec<Value>,
    /// What it says that it can.
    pub(crate) capabilities: Value,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

/// Why the server was not understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAsked {
    #[error("`{0}` is no place of an MCP server; hint: as in `https://mcp.example.com/mcp`, without a query")]
    Url(String),
    #[error("the server is not reached")]
    Away(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the server took too long")]
    Slow,
    #[error("the server answers with status {0}; hint: with 401 or 403 it wants a token: `--token FILE`")]
    Status(u16),
    #[error("the server answers otherwise than MCP over Streamable HTTP does: {0}")]
    Strange(&'static str),
    #[error("the server refuses: {0}")]
    Refused(String),
}

impl Place {
    fn of(url: &str) -> Result<Self, NotAsked> {
        let wrong = || NotAsked::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().filter(|it| !it.as_str().contains('@')).ok_or_else(wrong)?;
        if uri.query().is_some() {
            return Err(wrong());
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, host: authority.host().to_owned(), port, path: uri.path().to_owned() })
    }
}

/// One conversation.
struct Client<'c> {
    place: &'c Place,
    token: Option<&'c str>,
    tls: Arc<ClientConfig>,
    revision: &'static str,
    session: Option<HeaderValue>,
    next: u64,
}

impl Server {
    /// Asks the server at this URL.
    pub(crate) async fn ask(url: &str, token: Option<&str>) -> Result<Self, NotAsked> {
        let place = Place::of(url)?;
        let mut client = Client::new(&place, token)?;
        let opened = match client.open().await {
            // It may know the revision without sessions alone.
            Err(NotAsked::Refused(_) | NotAsked::Status(400 | 404 | 405)) => {
                client.revision = STATELESS;
                client.session = None;
                client.request("server/discover", json!({})).await?
            }
            opened => opened?,
        };
        let mut tools = Vec::new();
        let mut cursor = Value::Null;
        for _ in 0..PAGES_MAX {
            let params = if cursor.is_null() { json!({}) } else { json!({ "cursor": cursor }) };
            let mut page = client.request("tools/list", params).await?;
            let listed = page.get_mut("tools").and_then(Value::as_array_mut);
            tools.append(listed.ok_or(NotAsked::Strange("a list of tools without tools"))?);
            cursor = page.get("nextCursor").cloned().unwrap_or_default();
            if cursor.is_null() {
                client.close().await;
                let said = opened.pointer("/serverInfo/name");
                // Without sessions it says so in what every result carries.
                let said = said.or_else(|| opened.pointer("/_meta/io.modelcontextprotocol~1serverInfo/name"));
                return Ok(Self {
                    name: said.and_then(Value::as_str).unwrap_or(&place.host).to_owned(),
                    place: place.clone(),
                    with_token: token.is_some(),
                    tools,
                    capabilities: opened.get("capabilities").cloned().unwrap_or_default(),
                });
            }
        }
        Err(NotAsked::Strange("a list without an end"))
    }

    /// Whether it says that it has these.
    pub(crate) fn offers(&self, what: &str) -> bool {
        self.capabilities.get(what).is_some()
    }

    /// The lists that can be asked for.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &'static str> {
        let of = [
            ("tools", "tools/list"),
            ("resources", "resources/list"),
            ("resources", "resources/templates/list"),
            ("prompts", "prompts/list"),
        ];
        of.into_iter().filter(|(what, _)| *what == "tools" || self.offers(what)).map(|(_, ask)| ask)
    }
}

impl<'c> Client<'c> {
    fn new(place: &'c Place, token: Option<&'c str>) -> Result<Self, NotAsked> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| NotAsked::Away(error.into()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { place, token, tls: Arc::new(tls), revision: WITH_SESSION, session: None, next: 1 })
    }

    async fn open(&mut self) -> Result<Value, NotAsked> {
        let client = json!({ "name": "writ", "version": env!("CARGO_PKG_VERSION") });
        let params = json!({ "protocolVersion": WITH_SESSION, "capabilities": {}, "clientInfo": client });
        let opened = self.request("initialize", params).await?;
        let told = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        self.send(Method::POST, Some((&told, "notifications/initialized"))).await?;
        Ok(opened)
    }

    /// Ends the session. A server that has none, or keeps it, is no reason to fail.
    async fn close(&mut self) {
        if self.session.is_some() {
            drop(self.send(Method::DELETE, None).await);
        }
    }

    async fn request(&mut self, method: &str, mut params: Value) -> Result<Value, NotAsked> {
        let id = self.next;
        self.next += 1;
        if self.revision == STATELESS
            && let Some(params) = params.as_object_mut()
        {
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": STATELESS,
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            params.insert("_meta".to_owned(), meta);
        }
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let answer = self.send(Method::POST, Some((&message, method))).await?;
        if let Some(session) = answer.headers().get("mcp-session-id") {
            self.session = Some(session.clone());
        }
        let (status, read) = (answer.status(), tokio::time::timeout(TIMEOUT, read(answer, id)).await);
        let mut answer = match read.map_err(|_| NotAsked::Slow)? {
            Err(NotAsked::Strange(_)) if !status.is_success() => {
                return Err(NotAsked::Status(status.as_u16()));
            }
            answer => answer?,
        };
        if let Some(error) = answer.get("error") {
            let said = error.get("message").and_then(Value::as_str).unwrap_or("without a reason");
            return Err(NotAsked::Refused(said.chars().filter(|c| !c.is_control()).take(200).collect()));
        }
        answer.get_mut("result").map(Value::take).ok_or(NotAsked::Strange("an answer without a result"))
    }

    /// Sends one request on a connection of its own, up to the head of the answer.
    async fn send(
        &self,
        method: Method,
        message: Option<(&Value, &str)>,
    ) -> Result<Response<Incoming>, NotAsked> {
        let place = self.place;
        let mut request = Request::builder()
            .method(method)
            .uri(&place.path)
            .header(header::HOST, format!("{}:{}", place.host, place.port))
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header("mcp-protocol-version", self.revision);
        if let Some(token) = self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        if let Some((_, asked)) = message {
            request = request.header(header::CONTENT_TYPE, "application/json");
            if self.revision == STATELESS {
                request = request.header("mcp-method", asked);
            }
        }
        let body = message.map(|(message, _)| message.to_string()).unwrap_or_default();
        let request =
            request.body(Full::new(Bytes::from(body))).map_err(|error| NotAsked::Away(error.into()))?;
        // Boxed: TLS and HTTP together are large.
        let sent = Box::pin(async {
            let tcp = TcpStream::connect((place.host.trim_matches(['[', ']']), place.port))
                .await
                .map_err(|error| NotAsked::Away(error.into()))?;
            if !place.tls {
                return exchange(tcp, request).await;
            }
            let name =
                ServerName::try_from(place.host.clone()).map_err(|error| NotAsked::Away(error.into()))?;
            let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await;
            exchange(tls.map_err(|error| NotAsked::Away(error.into()))?, request).await
        });
        tokio::time::timeout(TIMEOUT, sent).await.map_err(|_| NotAsked::Slow)?
    }
}

async fn exchange(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, NotAsked> {
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
        .await
        .map_err(|error| NotAsked::Away(error.into()))?;
    // It ends with the answer; what breaks it is told by the answer's body.
    tokio::spawn(connection);
    send.send_request(request).await.map_err(|error| NotAsked::Away(error.into()))
}

/// The message that answers the request of this id: the body, or the event that has it.
async fn read(answer: Response<Incoming>, id: u64) -> Result<Value, NotAsked> {
    if answer.status() == StatusCode::ACCEPTED {
        return Err(NotAsked::Strange("no answer to a request"));
    }
    let kind = answer.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let events = kind.starts_with(b"text/event-stream");
    let (mut body, mut read) = (answer.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| NotAsked::Away(error.into()))?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > MCP_MESSAGE_BYTES_MAX {
            return Err(NotAsked::Strange("a message that is too large"));
        }
        read.extend_from_slice(&data);
        if events && let Some(message) = among(&read, id) {
            return Ok(message);
        }
    }
    let message: Option<Value> = serde_json::from_slice(&read).ok();
    message.filter(Value::is_object).ok_or(NotAsked::Strange("a message that is no JSON"))
}

/// The message with this id among the whole events that were read so far.
fn among(read: &[u8], id: u64) -> Option<Value> {
    let text = String::from_utf8_lossy(read).replace("\r\n", "\n").replace('\r', "\n");
    let (whole, _) = text.rsplit_once("\n\n")?;
    whole.split("\n\n").find_map(|event| {
        let data: Vec<&str> = event.lines().filter_map(|line| line.strip_prefix("data:")).collect();
        let message: Value = serde_json::from_str(&data.join("\n")).ok()?;
        (message.get("id").and_then(Value::as_u64) == Some(id)).then_some(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_url_without_anything_that_is_not_one() {
        let place = Place::of("https://mcp.example.com/mcp").unwrap();
        let expected = Place { tls: true, host: "mcp.example.com".into(), port: 443, path: "/mcp".into() };
        assert_eq!(place, expected);
        assert_eq!(Place::of("http://localhost:8000").unwrap().path, "/");
        for url in ["mcp.example.com", "ftp://a/b", "https://u:p@a/b", "https://a/b?key=1", "/mcp", ""] {
            assert!(Place::of(url).is_err(), "{url}");
        }
    }

    #[test]
    fn the_answer_is_found_among_events() {
        let stream = b": ping\r\n\r\nevent: message\r\ndata: {\"id\":1,\r\ndata: \"result\":{}}\r\n\r\ndata: {\"id\":2";
        assert_eq!(among(stream, 1), Some(json!({"id": 1, "result": {}})));
        assert_eq!(among(stream, 2), None);
    }
}
