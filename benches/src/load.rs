//! The load that every peer of the benchmark gets: HTTPS requests over kept-alive HTTP/1.1 connections, multiplexed
//! HTTP/2 connections, or a new connection each. Closed loop: the next request goes out when the last was answered.
//!
//! One thread, bounded in time. Anything but the expected status counts as an error, so a proxy that does not inject
//! cannot win. Prints one line of JSON: `requests`, `errors`, `seconds`, `rps`,
//! `p50_us`, `p99_us`.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

#[derive(Debug, Parser)]
struct Options {
    /// What to get.
    url: Uri,
    /// Dial this address instead of looking the host up.
    #[arg(long)]
    connect: Option<SocketAddr>,
    /// Roots to trust (PEM).
    #[arg(long)]
    cacert: PathBuf,
    /// Connections at once.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Streams at once on each HTTP/2 connection.
    #[arg(long, default_value_t = 1)]
    streams: usize,
    #[arg(long, value_enum, default_value_t = Mode::Keepalive)]
    mode: Mode,
    /// For how long, seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Status that counts as success.
    #[arg(long, default_value_t = 200)]
    expect: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// HTTP/1.1, one request after the other on each connection.
    Keepalive,
    /// HTTP/2, `streams` requests at once on each connection.
    Http2,
    /// A new TCP and TLS connection for each request.
    Fresh,
}

struct Target {
    address: SocketAddr,
    authority: String,
    uri: Uri,
    name: ServerName<'static>,
    tls: TlsConnector,
    expect: u16,
    end: Instant,
}

#[derive(Default)]
struct Tally {
    micros: Vec<u32>,
    errors: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measuring program for the terminal"
)]
async fn run(options: Options) -> Result<()> {
    let started = Instant::now();
    let target = Arc::new(target(&options, started).await?);
    let mut tasks = JoinSet::new();
    for _ in 0..options.connections {
        let target = Arc::clone(&target);
        let streams = options.streams;
        match options.mode {
            Mode::Keepalive => tasks.spawn(async move { keepalive(&target).await }),
            Mode::Fresh => tasks.spawn(async move { fresh(&target).await }),
            Mode::Http2 => tasks.spawn(async move { http2(target, streams).await }),
        };
    }
    let mut all = Tally::default();
    while let Some(done) = tasks.join_next().await {
        let tally = done?;
        all.micros.extend(tally.micros);
        all.errors += tally.errors;
    }
    let seconds = started.elapsed().as_secs_f64();
    all.micros.sort_unstable();
    let line = serde_json::json!({
        "requests": all.micros.len(),
        "errors": all.errors,
        "seconds": seconds,
        "rps": all.micros.len() as f64 / seconds,
        "p50_us": percentile(&all.micros, 50),
        "p99_us": percentile(&all.micros, 99),
    });
    println!("{line}");
    Ok(())
}

async fn target(options: &Options, started: Instant) -> Result<Target> {
    let host = options.url.host().context("the URL has no host")?.to_owned();
    let port = options.url.port_u16().unwrap_or(443);
    let address = match options.connect {
        Some(address) => address,
        None => {
            tokio::net::lookup_host((host.as_str(), port)).await?.next().context("the host has no address")?
        }
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&options.cacert)? {
        roots.add(certificate?)?;
    }
    let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols =
        vec![if options.mode == Mode::Http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(Target {
        address,
        authority: host.clone(),
        uri: options.url.clone(),
        name: ServerName::try_from(host)?,
        tls: TlsConnector::from(Arc::new(tls)),
        expect: options.expect,
        end: started + Duration::from_secs_f64(options.seconds),
    })
}

impl Target {
    async fn dial(&self) -> Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(self.tls.connect(self.name.clone(), stream).await?))
    }

    fn http1_request(&self) -> Result<Request<Empty<Bytes>>> {
        let path = self.uri.path_and_query().map_or("/", |p| p.as_str());
        Ok(Request::get(path).header("host", &self.authority).body(Empty::new())?)
    }

    #[expect(clippy::disallowed_methods, reason = "a measuring program")]
    fn over(&self) -> bool {
        Instant::now() >= self.end
    }
}

impl Tally {
    #[expect(clippy::disallowed_methods, reason = "a measuring program")]
    async fn measure(&mut self, one: impl Future<Output = Result<bool>>) -> bool {
        let started = Instant::now();
        let good = one.await.unwrap_or(false);
        if good {
            self.micros.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
        } else {
            self.errors += 1;
        }
        good
    }
}

/// Errors in a row after which a connection gives up, so that a dead peer ends the run early.
const PATIENCE: u64 = 100;

async fn keepalive(target: &Target) -> Tally {
    let mut tally = Tally::default();
    while !target.over() && tally.errors < PATIENCE {
        let Ok(io) = target.dial().await else {
            tally.errors += 1;
            continue;
        };
        let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(io).await else { continue };
        let driver = tokio::spawn(connection);
        while !target.over() {
            let one = async {
                let response = sender.send_request(target.http1_request()?).await?;
                let status = response.status().as_u16();
                response.into_body().collect().await?;
                Ok(status == target.expect)
            };
            if !tally.measure(one).await || sender.is_closed() {
                break;
            }
        }
        driver.abort();
    }
    tally
}

async fn fresh(target: &Target) -> Tally {
    let mut tally = Tally::default();
    while !target.over() && tally.errors < PATIENCE {
        let one = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(target.dial().await?).await?;
            let driver = tokio::spawn(connection);
            let response = sender.send_request(target.http1_request()?).await?;
            let status = response.status().as_u16();
            response.into_body().collect().await?;
            driver.abort();
            Ok(status == target.expect)
        };
        tally.measure(one).await;
    }
    tally
}

async fn http2(target: Arc<Target>, streams: usize) -> Tally {
    let mut all = Tally::default();
    let Ok(io) = target.dial().await else {
        return Tally { errors: 1, ..all };
    };
    let Ok((sender, connection)) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await
    else {
        return Tally { errors: 1, ..all };
    };
    let driver = tokio::spawn(connection);
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        let (target, mut sender) = (Arc::clone(&target), sender.clone());
        tasks.spawn(async move {
            let mut tally = Tally::default();
            while !target.over() && tally.errors < PATIENCE {
                let one = async {
                    let request = Request::get(target.uri.clone()).body(Empty::<Bytes>::new())?;
                    let response = sender.send_request(request).await?;
                    let status = response.status().as_u16();
                    response.into_body().collect().await?;
                    Ok(status == target.expect)
                };
                tally.measure(one).await;
            }
            tally
        });
    }
    while let Some(done) = tasks.join_next().await {
        if let Ok(tally) = done {
            all.micros.extend(tally.micros);
            all.errors += tally.errors;
        }
    }
    driver.abort();
    all
}

fn percentile(sorted: &[u32], percent: usize) -> u32 {
    let index = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(index).copied().unwrap_or(0)
}
