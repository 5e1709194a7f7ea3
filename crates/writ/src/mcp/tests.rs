//! Servers as they tell of themselves.

use serde_json::json;

use super::ask::Place;
use super::*;

fn server() -> Server {
    let tools = json!([
        {
            "name": "createIssue", "description": "Creates\nan issue.", "annotations": { "destructiveHint": false },
            "inputSchema": { "type": "object", "required": ["title"], "$defs": { "Flag": { "type": "boolean" } }, "properties": {
                "title": { "type": "string" }, "labels": { "type": "array", "items": { "type": "string" } },
                "urgent": { "$ref": "#/$defs/Flag" }, "weight": { "type": "number" },
                "note": { "anyOf": [{ "type": "string" }, { "type": "null" }] }, "apiToken": { "type": "string" },
            } },
        },
        { "name": "create_issue", "inputSchema": { "type": "object" }, "annotations": { "readOnlyHint": true } },
        { "name": "drop all", "annotations": { "readOnlyHint": true, "destructiveHint": true } },
        { "name": "" },
    ]);
    Server {
        place: Place { tls: true, host: "mcp.example.com".into(), port: 443, path: "/mcp".into() },
        name: "The Tracker".to_owned(),
        with_token: true,
        tools: tools.as_array().unwrap().clone(),
        capabilities: json!({ "tools": {}, "resources": {} }),
    }
}

/// What comes of it; `@N` is the digest of the tool with this number.
const EXPECTED: &str = r#"# The Tracker: made from what its MCP server says of itself. Read it before you use it: effects are the server's own hints, and
# nobody checks them. A tool that the server defines otherwise than now is refused (`digest`).
name = "the-tracker"
hosts = ["mcp.example.com"]
ports = [443]
protocol = "https"

[credential]
secret = "the-tracker-token"
place = "bearer"

# What is not yet for anything: opening, notifications, streams.
[[operation]]
name = "session"
effect = "read"
path = "/mcp"
mcp = "session"

[[operation]]
name = "tools-list"
effect = "read"
path = "/mcp"
mcp = "tools/list"

[[operation]]
name = "resources-list"
effect = "read"
path = "/mcp"
mcp = "resources/list"

[[operation]]
name = "resources-templates-list"
effect = "read"
path = "/mcp"
mcp = "resources/templates/list"

[[operation]]
name = "resources-read"
effect = "read"
path = "/mcp"
mcp = "resources/read"
[operation.arguments]
uri = "mcp:/uri string"

# Creates an issue.
[[operation]]
name = "create-issue"
effect = "write"
path = "/mcp"
mcp = "tools/call createIssue"
digest = "@0"
[operation.arguments]
labels = "mcp:/labels strings?"
title = "mcp:/title string"
urgent = "mcp:/urgent boolean?"

[[operation]]
name = "create-issue-2"
effect = "read"
path = "/mcp"
mcp = "tools/call create_issue"
digest = "@1"

[[operation]]
name = "drop-all"
effect = "delete"
path = "/mcp"
mcp = "tools/call drop all"
digest = "@2"

# Left out, because a service file cannot say it:
# createIssue: the argument apiToken, which may be secret
# createIssue: the argument note, for its type
# createIssue: the argument weight, for its type
# a tool without a name
"#;

#[test]
fn a_server_becomes_a_service_file_that_can_be_read() {
    let server = server();
    let text = service_file(&server, None).unwrap();
    let digests: Vec<String> = server.tools.iter().map(writ_catalog::digest).collect();
    let expected = digests
        .iter()
        .enumerate()
        .fold(EXPECTED.to_owned(), |text, (n, digest)| text.replace(&format!("@{n}"), digest));
    assert_eq!(text, expected);
}

#[test]
fn a_server_without_a_usable_name_must_be_named() {
    let server = Server { name: "???".to_owned(), ..server() };
    assert!(service_file(&server, None).unwrap_err().to_string().contains("--name NAME"));
    assert!(service_file(&server, ServiceName::new("tracker").ok()).is_ok());
}
