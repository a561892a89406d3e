"""Measures one server behind everything that may stand in front of it; `run` says how it is called.

    measure.py WORK CALLS LISTS

Environment: CUDDY and FIXTURE are binaries, SRT is a command or empty. Speaks the line protocol itself: a client
library would cost more than the call. Prints tables, and each way's ratio to the direct one.
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
import time

TURN_CALLS = 100
AT_ONCE = 32
SERVERS = 10
HERE = os.path.dirname(os.path.abspath(__file__))
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "measure", "version": "1"}}


class Session:
    def __init__(self, command, tool, environment=None):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self.tool = tool
        self.number = 0
        self.seconds = []
        self.many = []
        self.ask("initialize", HELLO)
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def send(self, message):
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def begin(self, method, params):
        self.number += 1
        self.send({"jsonrpc": "2.0", "id": self.number, "method": method, "params": params})
        return self.number

    def reply(self):
        """The next response, whoever asked."""
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"the server ended: {self.process.args}")
            message = json.loads(line)
            if "method" not in message:
                if "error" in message:
                    raise RuntimeError(f"{self.process.args}: {message['error']}")
                return message

    def ask(self, method, params):
        self.begin(method, params)
        return self.reply()["result"]

    def call(self, tool=None):
        result = self.ask("tools/call", {"name": tool or self.tool, "arguments": {"message": "x"}})
        if result.get("isError"):
            raise RuntimeError(f"{self.process.args}: {result}")

    def list(self):
        tools, params = [], {}
        while True:
            page = self.ask("tools/list", params)
            tools += page["tools"]
            if not page.get("nextCursor"):
                return tools
            params = {"cursor": page["nextCursor"]}

    def turn(self):
        for _ in range(TURN_CALLS):
            begin = time.perf_counter()
            self.call()
            self.seconds.append(time.perf_counter() - begin)

    def turn_at_once(self):
        """Many calls, AT_ONCE of them under way; one write for each batch that is due."""
        begin, asked, answered = time.perf_counter(), 0, 0
        total = TURN_CALLS * 10
        while answered < total:
            lines = []
            while asked - answered < AT_ONCE and asked < total:
                self.number += 1
                asked += 1
                call = {"name": self.tool, "arguments": {"message": "x"}}
                lines.append(json.dumps({"jsonrpc": "2.0", "id": self.number, "method": "tools/call", "params": call}))
            if lines:
                self.process.stdin.write(("\n".join(lines) + "\n").encode())
                self.process.stdin.flush()
            self.reply()
            answered += 1
        self.many.append(total / (time.perf_counter() - begin))

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def configured(work, name, servers):
    path = os.path.join(work, name)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"version": 1, "servers": servers}, file)
    return path


def ways(work):
    cuddy, fixture = os.environ["CUDDY"], os.environ["FIXTURE"]
    config = configured(work, "one.json", {"f": {"command": fixture}})
    yield "direct", [fixture], "echo"
    yield "mcp run", [cuddy, "mcp", "run", "--", fixture], "echo"
    yield "gateway", [cuddy, "mcp", "gateway", "--config", config], "f__echo"
    yield "fastmcp proxy", [sys.executable, os.path.join(HERE, "proxy.py"), fixture], "echo"
    if os.environ.get("SRT"):
        settings = os.path.join(work, "srt.json")
        with open(settings, "w", encoding="utf-8") as file:
            network = {"allowedDomains": [], "deniedDomains": []}
            json.dump({"network": network, "filesystem": {"denyRead": [], "allowWrite": [], "denyWrite": []}}, file)
        yield "srt", [*shlex.split(os.environ["SRT"]), "--settings", settings, fixture], "echo"


def opened(work):
    sessions = {}
    for name, command, tool in ways(work):
        try:
            session = Session(command, tool)
            session.turn()
            session.turn_at_once()
        except (RuntimeError, OSError) as failure:
            print(f"{name}: cannot run: {failure}")
            continue
        session.seconds.clear()
        session.many.clear()
        sessions[name] = session
    return sessions


def measure_calls(work, calls):
    sessions = opened(work)
    for _ in range(-(-calls // TURN_CALLS)):
        for session in sessions.values():
            session.turn()
    for _ in range(max(3, calls // 1000)):
        for session in sessions.values():
            session.turn_at_once()
    print(f"\n{'one echo call at a time, us':28} {'p10':>7} {'p50':>7} {'p90':>7} {'p99':>7} {'calls/s':>8} {'added p50':>10}")
    floor = None
    for name, session in sessions.items():
        took = sorted(session.seconds)
        p10, p50, p90, p99 = (took[min(len(took) - 1, len(took) * part // 100)] * 1e6 for part in (10, 50, 90, 99))
        floor = p50 if floor is None else floor
        rate = len(took) / sum(took)
        print(f"{name:28} {p10:7.0f} {p50:7.0f} {p90:7.0f} {p99:7.0f} {rate:8.0f} {p50 - floor:10.0f}")
    print(f"\n{f'{AT_ONCE} echo calls at a time':28} {'min':>8} {'median':>8} {'max':>8} calls/s {'to direct':>10}")
    floor = None
    for name, session in sessions.items():
        median = statistics.median(session.many)
        floor = median if floor is None else floor
        print(f"{name:28} {min(session.many):8.0f} {median:8.0f} {max(session.many):8.0f} {median / floor:18.2f}")
        session.end()


def memory(process, field):
    with open(f"/proc/{process}/status", encoding="utf-8") as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    return 0.0


def measure_ten(work, lists):
    cuddy, fixture = os.environ["CUDDY"], os.environ["FIXTURE"]
    servers = {f"s{n}": {"command": fixture} for n in range(SERVERS)}
    command = [cuddy, "mcp", "gateway", "--config", configured(work, "ten.json", servers)]
    environment = {**os.environ, "XDG_DATA_HOME": os.path.join(work, "data")}
    first = Session(command, "s0__echo", environment)
    for n in range(SERVERS):
        first.call(f"s{n}__echo")
    count = len(first.list())
    print(f"\ngateway with {SERVERS} servers running, {count} tools listed:")
    print(f"  resident {memory(first.process.pid, 'VmRSS:'):.1f} MiB, at most {memory(first.process.pid, 'VmHWM:'):.1f} MiB")
    first.end()

    took = {"from its start": [], "when it runs": []}
    for _ in range(lists):
        begin = time.perf_counter()
        session = Session(command, "s0__echo", environment)
        listed = len(session.list())
        took["from its start"].append((time.perf_counter() - begin) * 1000)
        begin = time.perf_counter()
        session.list()
        took["when it runs"].append((time.perf_counter() - begin) * 1000)
        if listed != count:
            print(f"  a list from the catalogue had {listed} tools")
        session.end()
    print(f"\n{'list of ten servers, ms':28} {'min':>7} {'p25':>7} {'median':>7} {'max':>7}")
    for name, ms in took.items():
        ms.sort()
        print(f"{name:28} {ms[0]:7.1f} {ms[len(ms) // 4]:7.1f} {statistics.median(ms):7.1f} {ms[-1]:7.1f}")


def main():
    work, calls, lists = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    measure_calls(work, calls)
    measure_ten(work, lists)


if __name__ == "__main__":
    main()
