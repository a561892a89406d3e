"""What one call costs directly and through `cuddy mcp run`, one call at a time.

    calls.py CALLS CUDDY COMMAND [ARG]...

Starts the server COMMAND twice, directly and under `CUDDY mcp run --`, and keeps both. Then it calls the tool
`echo` in turns, a hundred times here and a hundred times there, so that a busy neighbour hits both alike.
Speaks the line protocol itself: a client library would cost more than the call.
"""

import json
import subprocess
import sys
import time

TURN_CALLS = 100


class Server:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.number = 0
        self.seconds = []
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "calls", "version": "1"}}
        self.ask("initialize", hello)
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def send(self, message):
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, method, params):
        self.number += 1
        self.send({"jsonrpc": "2.0", "id": self.number, "method": method, "params": params})
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit(f"the server ended: {self.process.args}")
            reply = json.loads(line)
            if reply.get("id") == self.number and "method" not in reply:
                if "error" in reply:
                    raise SystemExit(f"{method}: {reply['error']}")
                return reply

    def turn(self):
        for _ in range(TURN_CALLS):
            begin = time.perf_counter()
            self.ask("tools/call", {"name": "echo", "arguments": {"message": "x"}})
            self.seconds.append(time.perf_counter() - begin)


def main():
    calls, cuddy, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    ways = {"direct": Server(command), "inside": Server([cuddy, "mcp", "run", "--", *command])}
    for server in ways.values():
        server.turn()
        server.seconds.clear()
    for _ in range(-(-calls // TURN_CALLS)):
        for server in ways.values():
            server.turn()
    print(f"{'one echo call, us':22} {'way':7} {'p10':>8} {'p50':>8} {'p90':>8} {'calls/s':>8}")
    for way, server in ways.items():
        took = sorted(server.seconds)
        p10, p50, p90 = (took[len(took) * part // 10] * 1e6 for part in (1, 5, 9))
        print(f"{'everything':22} {way:7} {p10:8.0f} {p50:8.0f} {p90:8.0f} {len(took) / sum(took):8.0f}")
        server.process.stdin.close()
        server.process.wait(timeout=10)


if __name__ == "__main__":
    main()
