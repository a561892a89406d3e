"""One MCP session with a real client library, written down so that two runs can be compared.

    client.py [--env NAME=VALUE]... [--place NAME=PATH]... [--tree DIR] [--calls JSON] -- COMMAND [ARG]...
    client.py --measure RUNS [--env NAME=VALUE]... -- COMMAND [ARG]...

Starts COMMAND as a server over stdio, agrees on a protocol version, lists the tools, makes the calls
(`[["tool", {arguments}], ...]`) one after the other, and prints what passed over the wire, both ways and in
order, as JSON with sorted keys. In a call {"repeat": text, "times": n} stands for a long text.
Runs with the Python client `mcp` 1.x (initialize) and 2.x (asks `server/discover` first and falls back).
`--place` puts NAME for every occurrence of PATH, `--tree` adds the files under DIR with their content's hash
and owner. Times and process ids are put out of sight, long texts become their hash.
`--measure` prints instead the milliseconds from spawn to the reply to tools/list, one line a run.

Not here: any judgement. Whoever runs it twice compares.
"""

import argparse
import asyncio
import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import sys
import time

from mcp import StdioServerParameters
from mcp.client.session import ClientSession
from mcp.client.stdio import stdio_client

MODERN = int(importlib.metadata.version("mcp").split(".")[0]) >= 2
CALL_SECONDS = 30
LONG_CHARS_MAX = 16384
VOLATILE = [
    # 2026-11-22T16:03:12.345+01:00 and 2026-11-22 16:03; a date alone stays: protocol versions are dates
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?"), "TIME"),
    (re.compile(r"\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b"), "DAY"),
    (re.compile(r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \d{4}(?: [+-]\d{4})?"), "TIME"),
    (re.compile(r"\bpid[ =:]+\d+"), "PID"),
]


class Tap:
    """A message stream that writes down what passes, as (direction, message)."""

    def __init__(self, stream, wire):
        self.stream = stream
        self.wire = wire

    def note(self, direction, message):
        message = getattr(message, "message", message)
        if isinstance(message, Exception):
            self.wire.append([direction, {"exception": repr(message)}])
            return
        self.wire.append([direction, message.model_dump(mode="json", by_alias=True, exclude_unset=True)])

    async def send(self, message):
        self.note("client", message)
        await self.stream.send(message)

    async def receive(self):
        message = await self.stream.receive()
        self.note("server", message)
        return message

    def __aiter__(self):
        return self

    async def __anext__(self):
        message = await self.stream.__anext__()
        self.note("server", message)
        return message

    async def __aenter__(self):
        await self.stream.__aenter__()
        return self

    async def __aexit__(self, *ending):
        return await self.stream.__aexit__(*ending)

    def __getattr__(self, name):
        return getattr(self.stream, name)


@contextlib.asynccontextmanager
async def tapped(server, wire):
    async with stdio_client(server) as (read, write):
        yield Tap(read, wire), Tap(write, wire)


@contextlib.asynccontextmanager
async def connected(server, wire):
    if MODERN:
        from mcp import Client

        async with Client(tapped(server, wire), cache=None) as client:
            yield client
    else:
        async with tapped(server, wire) as (read, write):
            async with ClientSession(read, write) as session:
                await session.initialize()
                yield session


async def ignore_progress(*_):
    """Asks for progress by being there; the wire has it."""


async def converse(server, calls):
    wire = []
    async with connected(server, wire) as session:
        await asyncio.wait_for(session.list_tools(), CALL_SECONDS)
        for tool, arguments in calls:
            call = session.call_tool(tool, arguments, progress_callback=ignore_progress)
            try:
                await asyncio.wait_for(call, CALL_SECONDS)
            except Exception as failure:  # an error reply is part of the transcript, however the library tells it
                wire.append(["raised", {"error": type(failure).__name__}])
    return wire


async def measure(server):
    begin = time.perf_counter()
    async with connected(server, []) as session:
        await session.list_tools()
        return (time.perf_counter() - begin) * 1000


def tree(top):
    """Relative path -> kind, content's hash, and whether the caller owns it; not what git keeps times in."""
    found = {}
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if name != ".git"]
        for name in folders + files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            entry = {"mode": oct(status.st_mode), "mine": status.st_uid == os.geteuid()}
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as content:
                    entry["sha256"] = hashlib.sha256(content.read()).hexdigest()
            found[os.path.relpath(path, top)] = entry
    return found


def settled(value, places):
    """The value without what differs from run to run."""
    if isinstance(value, dict):
        return {key: settled(inner, places) for key, inner in value.items()}
    if isinstance(value, list):
        return [settled(inner, places) for inner in value]
    if not isinstance(value, str):
        return value
    for name, path in places:
        value = value.replace(path, name)
    for pattern, name in VOLATILE:
        value = pattern.sub(name, value)
    if len(value) > LONG_CHARS_MAX:
        return {"chars": len(value), "sha256": hashlib.sha256(value.encode()).hexdigest()}
    return value


def spelled_out(value):
    """A call's arguments; {"repeat": text, "times": n} stands for a long text."""
    if isinstance(value, dict):
        if set(value) == {"repeat", "times"}:
            return value["repeat"] * value["times"]
        return {key: spelled_out(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [spelled_out(inner) for inner in value]
    return value


def pair(text):
    name, _, value = text.partition("=")
    return name, value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", action="append", default=[], type=pair)
    parser.add_argument("--place", action="append", default=[], type=pair)
    parser.add_argument("--tree", action="append", default=[])
    parser.add_argument("--calls", default="[]", type=json.loads)
    parser.add_argument("--measure", type=int, metavar="RUNS")
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()

    server = StdioServerParameters(command=asked.command[0], args=asked.command[1:], env=dict(asked.env))
    if asked.measure:
        for _ in range(asked.measure):
            print(f"{asyncio.run(measure(server)):.1f}", flush=True)
        return
    wire = asyncio.run(converse(server, spelled_out(asked.calls)))
    transcript = {"client": importlib.metadata.version("mcp"), "wire": wire}
    transcript = settled(transcript, asked.place)
    if asked.tree:
        transcript["trees"] = [tree(top) for top in asked.tree]
    json.dump(transcript, sys.stdout, sort_keys=True, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
