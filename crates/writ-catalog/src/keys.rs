//! The keys of a service file.

use writ_core::config::KeyDoc;

/// Every key of `services/*.toml`.
pub const KEYS: &[KeyDoc] = &[
    KeyDoc::required("name", "service name", "The service's name in policies and records."),
    KeyDoc::optional(
        "hosts",
        "list of host names; `*.` and a name of two labels or more for every name one label below it",
        "none; `addresses` must then say where the service is",
        "The names by which agents know the service. No two services may claim one name and port.",
    ),
    KeyDoc::required(
        "ports",
        "list of ports, without 53",
        "The ports on which agents reach the service. DNS is answered by Writ itself.",
    ),
    KeyDoc::defaulted(
        "protocol",
        "`https`, `http`, `tcp`, `pass` or `stdio`",
        "\"https\"",
        "What is spoken. `https` and `http`: each request is an action. `tcp`: the connection is one action, \
         relayed unread. `pass`: the kernel lets the connection through to the listed `addresses`, unread. `stdio`: an MCP \
         server that `writ mcp` starts; it has operations without paths, and neither hosts nor ports.",
    ),
    KeyDoc::defaulted(
        "virtual_hosts",
        "`true` or `false`",
        "false",
        "Hosts that a pattern `*.NAME` covers name the first segment of the path: `bucket.s3.example.com/key` is compared as \
         `s3.example.com/bucket/key`, so that both are one operation. A slash after the first segment alone adds nothing.",
    ),
    KeyDoc::defaulted(
        "mode",
        "`enforce` or `observe`",
        "\"enforce\"",
        "`observe`: what policy refuses here is done all the same, and recorded with the reason. For trying policies; every \
         start says so.",
    ),
    KeyDoc::optional(
        "addresses",
        "list of IP addresses",
        "none: the service is reached by name only",
        "Literal addresses that agents may connect to. Required for `pass`, whose names are answered with them.",
    ),
    KeyDoc::optional(
        "upstream.address",
        "`address:port` or `name:port`",
        "the host and port that the agent asked for",
        "Dial this instead: private installs and tests.",
    ),
    KeyDoc::optional(
        "upstream.ca_file",
        "absolute path of a PEM file",
        "the system's roots",
        "Trust these roots, and no others, for this service. Only for `https`.",
    ),
    KeyDoc::optional(
        "upstream.spiffe",
        "`agent:NAME` or a SPIFFE ID",
        "the service is no governed run",
        "The service is the server of a run: it is dialled with mutual TLS, with the caller's identity, and this identity \
         and no other is believed. It is told for which human it is called. `spiffe://TRUST-DOMAIN/agent/NAME` is every \
         run of an agent.",
    ),
    KeyDoc::defaulted(
        "upstream.danger_plaintext_credential",
        "`true` or `false`",
        "false",
        "Lend the credential of an `http` service although nothing encrypts it.",
    )
    .danger("Whoever sees the traffic between this host and the service has the credential."),
    KeyDoc::optional(
        "credential.secret",
        "name of a secret",
        "the service needs no credential",
        "The entry of the secret store that is lent. Only for `https` and `http`.",
    ),
    KeyDoc::optional(
        "credential.place",
        "`\"bearer\"`, `{ header = NAME }`, `{ basic = USER }`, `{ query = NAME }` or `{ cookie = NAME }`",
        "refused if there is a `[credential]`",
        "Where the credential goes. The place is overwritten, whatever the agent put there.",
    ),
    KeyDoc::optional(
        "operation.name",
        "operation name without the service",
        "refused: each operation has a name",
        "One thing that can be done; `NAME/connect` is implied for `tcp` and `pass`. Several rules may share a name \
         if they have the same effect and arguments. The first rule that matches a request wins.",
    ),
    KeyDoc::optional(
        "operation.effect",
        "`read`, `write`, `delete`, `execute` or `connect`",
        "refused: each operation has an effect",
        "What the operation does to the world; policies speak of it.",
    ),
    KeyDoc::optional(
        "operation.methods",
        "list of HTTP methods in upper case",
        "every method",
        "The methods that the operation covers.",
    ),
    KeyDoc::optional(
        "operation.path",
        "path template",
        "refused: each operation has a path",
        "Segments as they are after percent-decoding, compared with regard to case. `{x}` is one segment, `{x}.git` \
         one that ends so, `{x}%2F{y}` two with an encoded slash between them, `{x%2F...}` one with any number of encoded slashes, `{x...}` at the end everything that \
         remains.",
    ),
    KeyDoc::optional(
        "operation.query.*",
        "text, `true` or `false`",
        "any query",
        "Query parameters that must occur once and have exactly this value, any value (`true`), or not occur (`false`).",
    ),
    KeyDoc::optional(
        "operation.parameters",
        "list of names of query parameters",
        "there may be others",
        "The only query parameters that there may be, with those of `query` and of the arguments: for services where a \
         parameter makes another operation of a request.",
    ),
    KeyDoc::optional(
        "operation.headers.*",
        "text, `true` or `false`",
        "any headers",
        "Headers, in lower case, that must occur once and have exactly this value, any value, or not occur. None that the relay \
         takes away or writes.",
    ),
    KeyDoc::optional(
        "operation.form.*",
        "text",
        "the operation is not told by a form",
        "Fields of a form that must occur once and have exactly this value: the form is the body of a `POST`, whose query is \
         then empty, or the query of a `GET`. Operations told by a form share a path; a form that is none of them is refused.",
    ),
    KeyDoc::optional(
        "operation.arguments.*",
        "`query:NAME`, `header:NAME`, `header-path:NAME`, `body:POINTER`, `keys:POINTER`, `form:NAME`, `graphql:POINTER`, \
         `mcp:POINTER` or `push:refs`, a space, and `string`, `integer`, `boolean` or `strings`, with `?` after it if it may be absent",
        "the arguments of the path alone",
        "What policies and records know of a request besides its path, by a name of a-z, 0-9 and `_`. `body` reads the JSON \
         body at a JSON Pointer (RFC 6901), `keys` the names of an object's members there, `form` a field of a form, or all of \
         `NAME.1`, `NAME.2` and so on for `strings`, `graphql` the arguments of the root field, `mcp` those of the tool or \
         prompt or the `params` of another method, `header-path` a header that holds a path, decoded. `push:refs`, `push:creates` and `push:deletes` are the references in the commands of a git push, \
         as `strings`. A request in which it is missing, of another type, or to be read in two ways is refused. A body that is \
         read is held, up to 1 MiB; others stream, and so does the pack of a push.",
    ),
    KeyDoc::optional(
        "operation.labels",
        "list of labels",
        "none",
        "What a session that does this acquires and keeps, for policies to ask: `read:untrusted`. Lower case, digits and `-`, \
         with at most one `:`.",
    ),
    KeyDoc::optional(
        "operation.graphql",
        "`query` or `mutation`, a space, and the name of a root field",
        "the operation is not one of GraphQL",
        "One of the operations that share a path: requests whose document asks for this field, under whatever alias and in \
         whatever fragment. Sent by `POST`, one operation a request; persisted documents and batches are refused.",
    ),
    KeyDoc::optional(
        "operation.mcp",
        "a method as `tools/call NAME`, `resources/read`, or `session`, `GET`, `DELETE`, `response`",
        "the operation is not one of an MCP server",
        "One of the operations of an MCP server, which share a path. Tools are named, prompts and URIs may be. `session` is all \
         that is not what the server is for: `initialize`, `server/discover`, `ping`, `logging/setLevel`, \
         `subscriptions/listen`, notifications, the client's responses, the stream by `GET` and the end by `DELETE`. Lists \
         are shown without what policy could not permit. What the server asks of its client (`sampling/createMessage`, \
         `elicitation/create`, `roots/list`) reaches it only if a rule names it. Batches are refused.",
    ),
    KeyDoc::optional(
        "operation.digest",
        "`sha256:` and 64 hex digits",
        "the tool is whatever the server says",
        "The definition of an MCP tool that was approved, as `writ service import --mcp` writes it. A tool that is defined \
         otherwise is not listed, and its calls are refused until this is the digest of what it is now.",
    ),
];
