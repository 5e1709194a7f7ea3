//! A browser that reads forms and keeps cookies.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HOST, LOCATION, SET_COOKIE};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{Provider, REDIRECT};

/// A browser.
pub(crate) struct Browser {
    cookies: HashMap<String, String>,
    tls: Option<Arc<ClientConfig>>,
}

/// What it shows.
pub(crate) struct Page {
    pub(crate) status: u16,
    location: Option<String>,
    pub(crate) body: String,
}

/// What a human does with the pages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mind {
    Yes,
    No,
}

impl Browser {
    pub(crate) fn new(provider: &Provider) -> Self {
        Self { cookies: HashMap::new(), tls: provider.tls.clone() }
    }

    /// Logs in and agrees; the query that the browser comes back with, or the last page if it does not.
    pub(crate) async fn log_in(&mut self, url: &str, user: &str) -> Result<String, String> {
        self.walk(url, user, Mind::Yes).await
    }

    /// Refuses; the same.
    pub(crate) async fn refuse(&mut self, url: &str) -> Result<String, String> {
        self.walk(url, "alice", Mind::No).await
    }

    /// Follows redirects and answers forms until there are none.
    async fn walk(&mut self, url: &str, user: &str, mind: Mind) -> Result<String, String> {
        let origin = origin(url);
        let mut page = self.fetch(url, None).await;
        for _ in 0..30 {
            if let Some(to) = &page.location {
                if let Some(query) = to.strip_prefix(REDIRECT) {
                    return Ok(query.trim_start_matches('?').to_owned());
                }
                let to = if to.starts_with('/') { format!("{origin}{to}") } else { to.clone() };
                page = self.fetch(&to, None).await;
                continue;
            }
            let Some(form) = Form::read(&page.body) else { return Err(page.body) };
            if mind == Mind::No {
                let abort = page.body.split('"').find(|part| part.ends_with("/abort")).map(str::to_owned);
                if let Some(abort) = abort {
                    page = self.fetch(&abort, None).await;
                    continue;
                }
            }
            let action = form.action.clone();
            page = self.fetch(&action, Some(&form.filled(user, mind))).await;
        }
        Err("too many pages".to_owned())
    }

    pub(crate) async fn get(&mut self, url: &str) -> Page {
        self.fetch(url, None).await
    }

    pub(crate) async fn post(&mut self, url: &str, fields: &[(&str, &str)]) -> Page {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.fetch(url, Some(&fields)).await
    }

    pub(crate) async fn post_json(&mut self, url: &str, what: &Value) -> Page {
        self.send(url, Some(("application/json", what.to_string()))).await
    }

    async fn fetch(&mut self, url: &str, fields: Option<&[(String, String)]>) -> Page {
        let body = fields.map(|fields| {
            let pairs: Vec<_> =
                fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
            ("application/x-www-form-urlencoded", pairs.join("&"))
        });
        self.send(url, body).await
    }

    async fn send(&mut self, url: &str, body: Option<(&str, String)>) -> Page {
        let uri: Uri = url.parse().unwrap();
        let (host, port) = (uri.host().unwrap().to_owned(), uri.port_u16().unwrap());
        let tcp = TcpStream::connect((host.as_str(), port)).await.unwrap();
        match (uri.scheme_str(), &self.tls) {
            (Some("https"), Some(tls)) => {
                let name = ServerName::try_from(host).unwrap();
                let tls = tokio_rustls::TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await.unwrap();
                self.exchange(tls, &uri, body).await
            }
            _ => self.exchange(tcp, &uri, body).await,
        }
    }

    async fn exchange<S>(&mut self, stream: S, uri: &Uri, body: Option<(&str, String)>) -> Page
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut send, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = Request::builder()
            .method(if body.is_some() { "POST" } else { "GET" })
            .uri(uri.path_and_query().unwrap().as_str())
            .header(HOST, uri.authority().unwrap().as_str())
            .header(COOKIE, cookies.join("; "));
        if let Some((kind, _)) = &body {
            request = request.header(CONTENT_TYPE, *kind);
        }
        let body = Bytes::from(body.map(|(_, text)| text).unwrap_or_default());
        let (head, body) =
            send.send_request(request.body(Full::new(body)).unwrap()).await.unwrap().into_parts();
        for cookie in head.headers.get_all(SET_COOKIE) {
            let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
            match rest.split(';').next().unwrap() {
                "" => self.cookies.remove(name),
                value => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        let body = body.collect().await.unwrap().to_bytes();
        driver.abort();
        Page {
            status: head.status.as_u16(),
            location: head.headers.get(LOCATION).map(|to| to.to_str().unwrap().to_owned()),
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }
}

/// The first form of a page.
struct Form {
    action: String,
    fields: Vec<(String, String)>,
    can_abort: bool,
}

impl Form {
    fn read(page: &str) -> Option<Self> {
        let form = page.split_once("<form")?.1;
        let action = attribute(form.split('>').next()?, "action")?;
        let inputs = page.split("<input").skip(1).map(|rest| rest.split('>').next().unwrap_or_default());
        let fields = inputs.filter_map(|input| {
            Some((attribute(input, "name")?, attribute(input, "value").unwrap_or_default()))
        });
        Some(Self { action, fields: fields.collect(), can_abort: page.contains("name=\"abort\"") })
    }

    fn filled(mut self, user: &str, mind: Mind) -> Vec<(String, String)> {
        for (name, value) in &mut self.fields {
            match name.as_str() {
                "login" => user.clone_into(value),
                "password" => "any".clone_into(value),
                _ => {}
            }
        }
        if mind == Mind::No && self.can_abort {
            self.fields.push(("abort".to_owned(), "yes".to_owned()));
        }
        self.fields
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!("{name}=\""))?;
    Some(rest.split('"').next()?.replace("&amp;", "&"))
}

fn origin(url: &str) -> String {
    let uri: Uri = url.parse().unwrap();
    format!("{}://{}", uri.scheme_str().unwrap(), uri.authority().unwrap())
}

/// Form encoding of everything that is not plainly safe.
pub(crate) fn escape(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes()
        .map(|byte| if safe(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// One parameter of a URL's query, decoded.
pub(crate) fn parameter(url: &str, name: &str) -> String {
    let query = url.split_once('?').map_or(url, |(_, query)| query);
    let value = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}="))).unwrap_or_default();
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex: String = rest.by_ref().take(2).map(char::from).collect();
            bytes.push(u8::from_str_radix(&hex, 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}
