// Does at an MCP server what it can, and prints what came of it. usage: client.mjs http|sse URL, or stdio COMMAND...

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [kind, address, ...args] = process.argv.slice(2);
const client = new Client({ name: "test", version: "1" });
const transports = {
  http: () => new StreamableHTTPClientTransport(new URL(address)),
  sse: () => new SSEClientTransport(new URL(address)),
  stdio: () => new StdioClientTransport({ command: address, args }),
};
const transport = transports[kind]();
const say = (what, value) => console.log(JSON.stringify({ [what]: value }));

async function tried(what, name, args) {
  try {
    const result = await client.callTool({ name, arguments: args }, undefined, { timeout: 10_000 });
    say(what, { text: result.content.map((part) => part.text), error: result.isError ?? false });
  } catch (error) {
    say(what, { code: error.code, data: error.data ?? null, message: error.message });
  }
}

await client.connect(transport);
say("version", transport.protocolVersion ?? null);
say("tools", (await client.listTools()).tools.map((tool) => tool.name));
say("resources", (await client.listResources()).resources.map((it) => it.uri));
await tried("list", "list_issues", {});
await tried("create", "create_issue", { title: "a \u2028 bug", labels: ["ui", "bug"] });
await tried("forbidden", "create_issue", { title: "hole", labels: ["security"] });
await tried("delete", "delete_issue", { number: 1 });
await tried("unlisted", "unlisted", {});
say("read", (await client.readResource({ uri: "file:///readme" })).contents[0].text);
if (kind === "http") await transport.terminateSession();
await client.close();
process.exit(0);
