//! `writ service`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use writ_client::Client;
use writ_control::api::{OperationView, ServiceDetail, ServiceRow, Services};
use writ_core::{Layout, Placement, ServiceName};

use crate::args::Service;
use crate::failure::Failure;
use crate::files;
use crate::mcp::{self, Server};
use crate::openapi::{self, Wanted};
use crate::output::{Output, Style, count};
use crate::table::Table;
use crate::yaml;

pub(crate) async fn service(
    layout: &Layout,
    client: &Client,
    ask: Service,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    match ask {
        Service::List => list(&client.service_list().await?, output),
        Service::Show { name } => show(&client.service_show(&name).await?, output),
        Service::Import { mcp: Some(url), token, name, .. } => import_mcp(&url, token, name, output).await,
        Service::Import { openapi: Some(openapi), name: Some(name), host, .. } => {
            import(&openapi, &Wanted { name, host }, output)
        }
        Service::Import { .. } => {
            Err(Failure::usage("name what to import: `--openapi FILE --name NAME` or `--mcp URL`"))
        }
        Service::Check { folders } => check(layout, folders, output),
    }
}

fn list(services: &Services, output: &mut Output) -> Result<ExitCode, Failure> {
    if output.is_json() {
        output.object(services)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["NAME", "PROTOCOL", "HOSTS", "PORTS", "OPERATIONS", "SECRET"]).right(&[4]);
    for row in &services.services {
        let name = if row.dangers.is_empty() { Style::Strong } else { Style::Warn };
        table.row([
            (name, row.name.to_string()),
            (Style::Plain, protocol(row)),
            (Style::Plain, row.hosts.join(", ")),
            (Style::Plain, ports(row)),
            (Style::Plain, row.operations.to_string()),
            (Style::Plain, row.credential.as_ref().map_or_else(|| "-".into(), |c| c.secret.to_string())),
        ]);
    }
    output.table(&table, "no services")?;
    Ok(ExitCode::SUCCESS)
}

fn show(detail: &ServiceDetail, output: &mut Output) -> Result<ExitCode, Failure> {
    if output.is_json() {
        output.object(detail)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = &detail.service;
    output.line(&[(Style::Strong, row.name.as_str())])?;
    let mut facts = vec![
        ("protocol", protocol(row)),
        ("hosts", row.hosts.join(", ")),
        ("addresses", detail.addresses.join(", ")),
        ("ports", ports(row)),
        ("upstream", detail.upstream.clone().unwrap_or_default()),
        ("CA file", detail.ca_file.clone().unwrap_or_default()),
    ];
    if let Some(credential) = &row.credential {
        facts.push(("credential", format!("secret `{}` {}", credential.secret, place(&credential.place))));
    }
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        output.line(&[(Style::Faint, &format!("  {name:<11}")), (Style::Plain, value)])?;
    }
    for danger in &row.dangers {
        output.line(&[(Style::Warn, "  danger     "), (Style::Plain, danger)])?;
    }
    output.line(&[])?;
    let mut table = Table::new(&["OPERATION", "EFFECT", "METHODS", "PATH"]);
    for operation in &detail.operations {
        let methods = if operation.methods.is_empty() { "any".into() } else { operation.methods.join(",") };
        let effect = operation.effect.as_str().to_owned();
        table.plain([operation.name.to_string(), effect, methods, covered(operation)]);
    }
    output.table(&table, "no operations")?;
    Ok(ExitCode::SUCCESS)
}

fn import(file: &Path, wanted: &Wanted, output: &mut Output) -> Result<ExitCode, Failure> {
    let (shown, text) = (file.display(), read(file)?);
    let document = if text.trim_start().starts_with('{') {
        serde_json::from_str(&text).map_err(|error| {
            Failure::caused("cli.file", format!("`{shown}` begins as JSON and is not JSON"), &error)
        })?
    } else {
        yaml::read(&text)
            .map_err(|error| Failure::caused("cli.file", format!("`{shown}` is not YAML"), &error))?
    };
    let made =
        openapi::service_file(&document, wanted).map_err(|error| Failure::of("cli.openapi", &error))?;
    output.text(made.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

async fn import_mcp(
    url: &str,
    token: Option<PathBuf>,
    name: Option<ServiceName>,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let token = token.map(|file| read(&file)).transpose()?;
    let token = token.as_deref().map(str::trim);
    let told = Server::ask(url, token).await.map_err(|error| Failure::of("cli.mcp", &error))?;
    let made = mcp::service_file(&told, name).map_err(|error| Failure::of("cli.mcp", &error))?;
    output.text(made.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<String, Failure> {
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        fs::read_to_string(file)
    };
    text.map_err(|error| Failure::caused("cli.file", format!("cannot read `{}`", file.display()), &error))
}

fn check(layout: &Layout, folders: Vec<PathBuf>, output: &mut Output) -> Result<ExitCode, Failure> {
    let folders = if folders.is_empty() { vec![layout.services()] } else { folders };
    let services = files::services(&folders)?;
    if output.is_json() {
        let services = services.iter().map(|service| service.as_ref().into()).collect();
        output.object(&Services { services })?;
    } else {
        output.text(&format!("valid: {}", count(services.len(), "service")))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Its path, GraphQL field and arguments in one cell.
fn covered(operation: &OperationView) -> String {
    let field = operation.graphql.iter().map(|field| format!(" {field}"));
    let arguments = operation.arguments.iter().map(|(name, rule)| format!("  {name}={rule}"));
    let asked = operation.mcp.iter().map(|asked| format!(" {asked}"));
    std::iter::once(operation.path.clone()).chain(field).chain(asked).chain(arguments).collect()
}

fn protocol(row: &ServiceRow) -> String {
    let value = serde_json::to_value(row.protocol).ok();
    value.as_ref().and_then(serde_json::Value::as_str).unwrap_or("unknown").to_owned()
}

fn ports(row: &ServiceRow) -> String {
    row.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn place(place: &Placement) -> String {
    match place {
        Placement::Bearer => "as bearer token".to_owned(),
        Placement::Header(name) => format!("in the header `{name}`"),
        Placement::Basic { user } => format!("as password of `{user}`"),
        Placement::Query(name) => format!("in the query parameter `{name}`"),
        Placement::Cookie(name) => format!("in the cookie `{name}`"),
    }
}
