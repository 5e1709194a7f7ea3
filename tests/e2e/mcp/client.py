"""Does at an MCP server what it can, and prints what came of it. usage: client.py http|legacy|sse URL, or stdio COMMAND..."""

import asyncio
import json
import logging
import sys

from mcp import Client, MCPError, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp_types import TextContent

logging.disable()
kind, url, *arguments = sys.argv[1:]


def say(what, value):
    print(json.dumps({what: value}), flush=True)


async def tried(what, action):
    try:
        result = await asyncio.wait_for(action, 10)
        text = [part.text for part in result.content if isinstance(part, TextContent)]
        say(what, {"text": text, "error": result.is_error})
    except MCPError as error:
        say(what, {"code": error.error.code, "data": error.error.data, "message": error.error.message})
    except TimeoutError:
        say(what, "no answer")


async def main():
    server = sse_client(url) if kind == "sse" else url
    if kind == "stdio":
        server = stdio_client(StdioServerParameters(command=url, args=arguments))
    async with Client(server, mode="legacy" if kind == "legacy" else "auto") as client:
        say("version", client.protocol_version)
        say("tools", [tool.name for tool in (await client.list_tools()).tools])
        say("resources", [str(it.uri) for it in (await client.list_resources()).resources])
        await tried("list", client.call_tool("list_issues", {}))
        await tried("create", client.call_tool("create_issue", {"title": "a \u2028 bug", "labels": ["ui", "bug"]}))
        await tried("forbidden", client.call_tool("create_issue", {"title": "hole", "labels": ["security"]}))
        await tried("delete", client.call_tool("delete_issue", {"number": 1}))
        await tried("unlisted", client.call_tool("unlisted", {}))
        say("read", (await client.read_resource("file:///readme")).contents[0].text)


asyncio.run(main())
