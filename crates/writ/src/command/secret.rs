//! `writ secret`. A value comes from a prompt or from stdin, never from the command line, where every process of the
//! host can read it and shells keep it; and no command gives one back.

use std::io::{self, IsTerminal, Read};
use std::process::ExitCode;

use writ_client::Client;
use writ_control::Class;
use writ_control::api::Nothing;
use writ_core::{Secret as SecretValue, SecretName};
use writ_gate::limits;

use crate::args::Secret;
use crate::failure::Failure;
use crate::output::Output;

pub(crate) async fn secret(client: &Client, ask: Secret, output: &mut Output) -> Result<ExitCode, Failure> {
    match ask {
        Secret::Set { name, refused } => {
            if !refused.is_empty() {
                return Err(Failure::usage("a secret's value is never taken from the command line")
                    .hint("every process can read it there; pipe it in, or type it when asked"));
            }
            let value = value(&name)?;
            client.secret_set(&name, value).await?;
            done(output, &format!("secret `{name}` is stored"))
        }
        Secret::List => list(client, output).await,
        Secret::Rm { name } => {
            client.secret_remove(&name).await?;
            done(output, &format!("secret `{name}` is removed"))
        }
    }
}

async fn list(client: &Client, output: &mut Output) -> Result<ExitCode, Failure> {
    let secrets = client.secret_list().await?;
    if output.is_json() {
        output.object(&secrets)?;
    } else if secrets.names.is_empty() {
        output.note("no secrets");
    } else {
        secrets.names.iter().try_for_each(|name| output.text(name.as_str()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn done(output: &mut Output, text: &str) -> Result<ExitCode, Failure> {
    if output.is_json() {
        output.object(&Nothing {})?;
    } else {
        output.text(text)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn value(name: &SecretName) -> Result<SecretValue<str>, Failure> {
    let unread = |error: io::Error| Failure::caused("cli.secret", "cannot read the value", &error);
    let mut bytes = if io::stdin().is_terminal() {
        rpassword::prompt_password(format!("value of `{name}`: ")).map_err(unread)?.into_bytes()
    } else {
        piped().map_err(unread)?
    };
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    let (empty, large) = (bytes.is_empty(), bytes.len() > limits::CONTROL_BODY_BYTES_MAX);
    // From here on it lies in secret memory, and where it came from is zeroed.
    let value = SecretValue::<[u8]>::new(bytes)
        .map_err(|error| Failure::caused("cli.secret", "cannot keep the value safe", &error))?;
    let refused = |why: String| Failure::new(Class::Usage, "cli.secret", why);
    if empty {
        return Err(refused("the value is empty".into()));
    }
    if large {
        let most = limits::CONTROL_BODY_BYTES_MAX;
        return Err(refused(format!("the value is larger than {most} bytes")));
    }
    value.into_text().ok_or_else(|| refused("the value is not UTF-8 text".into()))
}

/// All of stdin, or enough of it to see that it is too much. The room is reserved first, so that no copy of the
/// value stays behind when a vector grows.
fn piped() -> io::Result<Vec<u8>> {
    let most = limits::CONTROL_BODY_BYTES_MAX + 2;
    let mut bytes = vec![0; most];
    let mut filled = 0;
    let mut stdin = io::stdin().lock();
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match stdin.read(room) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
