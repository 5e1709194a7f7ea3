// A tracker of issues as an MCP server. usage: server.mjs stateful|stateless|sse|stdio

import http from "node:http";
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { SSEServerTransport } from "@modelcontextprotocol/sdk/server/sse.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { z } from "zod";

const kind = process.argv[2];
const token = process.env.TRACKER_TOKEN ?? "";
const calls = [];
const text = (text) => ({ content: [{ type: "text", text }] });

function tracker() {
  const server = new McpServer({ name: "tracker", version: "1" });
  const tool = (name, about, inputSchema, annotations, act) =>
    server.registerTool(name, { description: about, inputSchema, annotations }, (args) => {
      calls.push(name);
      return text(act(args));
    });
  tool("list_issues", "Lists the issues.", {}, { readOnlyHint: true }, () => `one issue, and the token ${token}`);
  tool("create_issue", "Creates an issue.",
    { title: z.string(), labels: z.array(z.string()).optional(), urgent: z.boolean().optional() }, {},
    ({ title, labels }) => {
      if (kind === "stdio") execFileSync("curl", ["-sS", "-o", "/dev/null", "https://forge.test/api/repos/acme/site/issues"]);
      return `created ${title} ${(labels ?? []).sort()}`;
    });
  tool("delete_issue", "Deletes an issue.", { number: z.number().int() }, { destructiveHint: true }, ({ number }) => `deleted ${number}`);
  tool("unlisted", "No rule names it.", {}, {}, () => "done");
  for (const name of ["readme", "secret"]) {
    const uri = `file:///${name}`;
    server.registerResource(name, uri, {}, () => ({ contents: [{ uri, text: "read me" }] }));
  }
  return server;
}

const transports = new Map();

async function streamable(request, response) {
  let transport = transports.get(request.headers["mcp-session-id"]);
  if (!transport) {
    const stateful = { sessionIdGenerator: randomUUID, onsessioninitialized: (id) => transports.set(id, transport) };
    const stateless = { sessionIdGenerator: undefined, enableJsonResponse: true };
    transport = new StreamableHTTPServerTransport(kind === "stateful" ? stateful : stateless);
    await tracker().connect(transport);
  }
  await transport.handleRequest(request, response);
}

async function serve(request, response) {
  const url = new URL(request.url, "http://tracker.test");
  if (url.pathname === "/calls") return response.end(JSON.stringify(calls));
  if (request.headers.authorization !== `Bearer ${token}`) return response.writeHead(401).end("who are you?");
  if (url.pathname === "/mcp") return streamable(request, response);
  if (url.pathname === "/sse") {
    const transport = new SSEServerTransport("/messages/", response);
    transports.set(transport.sessionId, transport);
    return tracker().connect(transport);
  }
  const transport = transports.get(url.searchParams.get("sessionId"));
  return transport ? transport.handlePostMessage(request, response) : response.writeHead(404).end();
}

if (kind === "stdio") await tracker().connect(new StdioServerTransport());
const server = kind === "stdio" ? null : http.createServer((request, response) => void serve(request, response));
server?.listen(0, "127.0.0.1", () => console.log(server.address().port));
