"""Runs each command once per round, so that a busy neighbour hits all alike, and prints a table.

    round_robin.py LIST ROUNDS

A line of LIST is NAME, PREPARE and COMMAND, parted by tabs, the latter two for the shell; PREPARE is not measured.
The first line is what the others are divided by. A command that fails in its first run is left out and says why.
One round comes before the counted ones. Times are wall clock from spawn to reaped; CPU is user and system of the
whole tree; RSS is the largest process of the tree (a spawned process counts at least this one's own 10 MB).
"""

import os
import subprocess
import sys
import time


def run(command: str) -> tuple[int, float, float, float, str]:
    begin = time.monotonic()
    child = subprocess.Popen(
        ["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    said = child.stderr.read().decode(errors="replace")
    _, status, used = os.wait4(child.pid, 0)
    wall = time.monotonic() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, said


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as lines:
        commands = [tuple(line.rstrip("\n").split("\t")) for line in lines]
    rounds = int(sys.argv[2])
    found: list[list[tuple[float, float, float]]] = [[] for _ in commands]
    broken: dict[int, str] = {}
    for number in range(-1, rounds):
        for at, (_, prepare, command) in enumerate(commands):
            if at in broken:
                continue
            subprocess.run(["sh", "-c", prepare], check=False, stderr=subprocess.DEVNULL)
            code, wall, cpu, rss, said = run(command)
            if code != 0:
                if number >= 0:
                    raise SystemExit(f"{command}: code {code}: {said}")
                broken[at] = said.strip().splitlines()[-1] if said.strip() else f"code {code}"
            elif number >= 0:
                found[at].append((wall, cpu, rss))
    print(f"{'':24} {'min s':>7} {'median':>7} {'CPU':>7} {'MiB':>6}   x floor: min  median")
    floor = sorted(wall for wall, _, _ in found[0])
    for at, (name, _, _) in enumerate(commands):
        if at in broken:
            print(f"{name:24} cannot run here: {broken[at][:150]}")
            continue
        walls = sorted(wall for wall, _, _ in found[at])
        cpus = sorted(cpu for _, cpu, _ in found[at])
        middle = len(walls) // 2
        rss = max(rss for _, _, rss in found[at])
        print(
            f"{name:24} {walls[0]:7.3f} {walls[middle]:7.3f} {cpus[middle]:7.3f} {rss:6.1f}"
            f" {walls[0] / floor[0]:14.2f} {walls[middle] / floor[middle]:7.2f}"
        )


main()
