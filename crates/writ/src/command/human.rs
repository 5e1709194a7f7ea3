//! `writ login`, `writ logout`, `writ whoami`. The daemon speaks with the issuer; what passes here is a URL and a code
//! that is good once.

use std::process::{ExitCode, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use writ_client::Client;
use writ_control::Class;
use writ_control::api::{Login as LoginAsk, LoginFinish, LoginPlace, LoginState, Who};

use crate::args::Login;
use crate::failure::Failure;
use crate::localtime::local;
use crate::output::{Output, count};

/// Where a browser is sent back to. The daemon is told, the issuer compares.
const CALLBACK: &str = "/callback";
/// As long as issuers keep a sign-in open.
const PATIENCE: Duration = Duration::from_mins(10);
/// A browser's request line is the URL and little else.
const LINE_BYTES_MAX: u64 = 16 * 1024;

pub(crate) async fn login(client: &Client, ask: Login, output: &mut Output) -> Result<ExitCode, Failure> {
    let listener = if ask.device { None } else { Some(listen().await?) };
    let redirect_uri = match &listener {
        Some(listener) => {
            let port = listener.local_addr().map_err(|error| unheard(&error))?.port();
            Some(format!("http://127.0.0.1:{port}{CALLBACK}"))
        }
        None => None,
    };
    let begun = client.human_login(&LoginAsk { issuer: ask.issuer, redirect_uri }).await?;
    let (login, signed_in) = match (begun.place, listener) {
        (LoginPlace::Browser { url }, Some(listener)) => {
            output.ask(&format!("Sign in with your browser. If none opens, go to:\n  {url}"));
            open(&url);
            let back = tokio::time::timeout(PATIENCE, callback(&listener)).await;
            let (query, stream) = back.map_err(|_| late())?.map_err(|error| unheard(&error))?;
            let finish = LoginFinish { login: begun.login, query: Some(query) };
            let state = client.human_finish(&finish).await;
            tell_browser(stream, state.is_ok()).await;
            (finish.login, state?)
        }
        (LoginPlace::Device { verification_uri, verification_uri_complete, user_code }, _) => {
            output.ask(&format!("Go to {verification_uri} and enter the code {user_code}"));
            if let Some(complete) = verification_uri_complete {
                output.ask(&format!("or open {complete}"));
            }
            (begun.login, LoginState::Pending { wait_s: 0 })
        }
        (LoginPlace::Browser { .. }, None) => {
            return Err(Failure::new(
                Class::Failed,
                "login.no_flow",
                "the daemon began another flow than was asked for",
            ));
        }
    };
    let who = until_done(client, login, signed_in).await?;
    show(&who, output)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn logout(client: &Client, output: &mut Output) -> Result<ExitCode, Failure> {
    let out = client.human_logout().await?;
    if output.is_json() {
        output.object(&out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let ended = count(out.sessions.len(), "session");
    output.text(&format!("{} is signed out, {ended} ended", out.human))?;
    if let Some(url) = out.end_session_url {
        output.text(&format!("to end the browser's own session, open {url}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn whoami(client: &Client, output: &mut Output) -> Result<ExitCode, Failure> {
    show(&client.human_whoami().await?, output)?;
    Ok(ExitCode::SUCCESS)
}

/// Asks until it is done, as often as the daemon says.
async fn until_done(client: &Client, login: String, mut state: LoginState) -> Result<Who, Failure> {
    let finish = LoginFinish { login, query: None };
    let done = async {
        loop {
            match state {
                LoginState::Done(who) => return Ok(who),
                LoginState::Pending { wait_s } => tokio::time::sleep(Duration::from_secs(wait_s)).await,
            }
            state = client.human_finish(&finish).await?;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.map_err(|_| late())?
}

fn show(who: &Who, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.object(who);
    }
    let named = who.display.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
    output.text(&format!("{}{named}", who.human))?;
    match (&who.issuer, who.expires) {
        (Some(issuer), Some(expires)) => {
            output.text(&format!("signed in at {issuer}, until {} unless refreshed", local(expires.0)))?;
        }
        _ => output.text("not signed in: known by the login on this host")?,
    }
    let login = who.login_uid.map_or_else(|| "none".to_owned(), |uid| uid.to_string());
    let audit = who.audit_session.map_or_else(|| "none".to_owned(), |id| id.to_string());
    output.text(&format!("uid {}, login uid {login}, login session {audit}", who.uid))?;
    output.text(&format!("groups: {}", who.groups.join(", ")))
}

async fn listen() -> Result<TcpListener, Failure> {
    TcpListener::bind(("127.0.0.1", 0)).await.map_err(|error| unheard(&error))
}

/// Waits for the browser. Whatever else knocks at the port is told that there is nothing.
async fn callback(listener: &TcpListener) -> std::io::Result<(String, TcpStream)> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut line = String::new();
        let read = BufReader::new((&mut stream).take(LINE_BYTES_MAX)).read_line(&mut line).await;
        let path = line.strip_prefix("GET ").and_then(|rest| rest.split(' ').next());
        let query = path.and_then(|path| path.strip_prefix(CALLBACK)?.strip_prefix('?'));
        match (read, query) {
            (Ok(_), Some(query)) => return Ok((query.to_owned(), stream)),
            _ => say(&mut stream, "404 Not Found", "There is nothing here.").await,
        }
    }
}

async fn tell_browser(mut stream: TcpStream, good: bool) {
    let words =
        if good { "Signed in. You may close this page." } else { "The sign-in failed; see the terminal." };
    say(&mut stream, if good { "200 OK" } else { "400 Bad Request" }, words).await;
}

async fn say(stream: &mut TcpStream, status: &str, words: &str) {
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n{words}",
        words.len()
    );
    // A browser that is gone has been told by the terminal.
    let _gone = stream.write_all(answer.as_bytes()).await;
    let _gone = stream.shutdown().await;
}

/// Opens the URL if this machine knows how; it was printed all the same.
fn open(url: &str) {
    let mut command = std::process::Command::new("xdg-open");
    let _none = command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
}

fn unheard(error: &std::io::Error) -> Failure {
    Failure::caused("login.no_callback", "cannot wait for the browser", error)
        .hint("use `writ login --device`")
}

fn late() -> Failure {
    Failure::new(Class::Failed, "login.too_late", "nobody signed in within ten minutes")
}
