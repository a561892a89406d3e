"""One session of the `fastmcp` client with a server over stdio: every tool's name, and the reply to each call.

    fast_client.py CALLS -- COMMAND [ARG]...      CALLS is [["tool", {arguments}], ...]

Prints {"tools": [...], "replies": [...]}. Not here: any judgement.
"""

import asyncio
import json
import os
import sys

from fastmcp import Client
from fastmcp.client.transports import StdioTransport


async def main():
    calls, _, command, *args = sys.argv[1:]
    transport = StdioTransport(command=command, args=args, env=dict(os.environ), keep_alive=False)
    async with Client(transport) as client:
        tools = [tool.name for tool in await client.list_tools()]
        replies = []
        for name, given in json.loads(calls):
            reply = await client.call_tool_mcp(name, given)
            replies.append(reply.model_dump(mode="json", by_alias=True, exclude_none=True))
    json.dump({"tools": tools, "replies": replies}, sys.stdout)


asyncio.run(main())
