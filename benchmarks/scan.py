"""A scan of 256 addresses, of which 51 are somebody's, beside nmap: in a network namespace whose other addresses drop what they get.

Wants root, iproute2 and iptables; nmap is measured where it is installed. By itself: ``python -m benchmarks.scan``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import uvloop

SUBNET = "127.77.0.0/24"
UP = range(1, 52)
PORTS = (22, 8080, 2375, 2376, 2377, 5000, 7946, 8765, 9100)
OPEN = (22, 8080)
"""Ports that every second machine has open; the others have port 22 alone."""

ROUNDS = 5
NMAP = ("nmap", "-n", "-Pn", "-T4", "--max-retries", "1", "--min-hostgroup", "256", "--max-rtt-timeout", "300ms", "--min-rate", "1000")


def report() -> dict[str, Any]:
    """Measure and print; returns nothing where this machine cannot make a network namespace."""
    if os.getuid() or not shutil.which("unshare") or not shutil.which("iptables"):
        print("network scan: left out, as it wants root, unshare and iptables")
        return {}
    done = subprocess.run(["unshare", "--net", sys.executable, "-m", "benchmarks.scan", "inside"], capture_output=True, text=True)
    if done.returncode:
        print(f"network scan: left out: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'it failed'}")
        return {}
    found: dict[str, Any] = json.loads(done.stdout)
    print(f"{'scan of 256 addresses, 51 there':36} {'seconds':>8} {'open found':>12}")
    for name, figures in found["methods"].items():
        print(f"{name:36} {figures['seconds']:8.2f} {figures['open']:6} of {found['open']}")
    if "nmap, tuned" in found["methods"]:
        found["ratio"] = found["methods"]["nmap, tuned"]["seconds"] / found["methods"]["ours"]["seconds"]
        print(f"nmap takes {found['ratio']:.1f} times as long")
    return found


def inside() -> dict[str, Any]:
    """Measure, in a namespace of its own."""
    _run("ip", "link", "set", "lo", "up")
    first, last = SUBNET.split("/")[0].rsplit(".", 1)[0] + ".", max(UP)
    _run("iptables", "-A", "INPUT", "-m", "iprange", "--dst-range", f"{first}{last + 1}-{first}255", "-j", "DROP")
    _run("iptables", "-A", "INPUT", "-d", f"{first}0", "-j", "DROP")
    with _machines(first) as number:
        methods: dict[str, Any] = {"ours": uvloop.run(_ours())}
        if shutil.which("nmap"):
            methods["nmap, tuned"] = _nmap()
        methods["ours, thorough"] = uvloop.run(_ours(thorough=True, rounds=1))
        return {"open": number, "methods": methods}


async def _ours(thorough: bool = False, rounds: int = ROUNDS) -> dict[str, Any]:
    from fleet_api.adapters.scan import NetworkProber
    from fleet_api.kit.allowed import AllowedNetworks
    from fleet_api.kit.clock import SystemClock
    from fleet_api.nodes.discovery.service import Scanner

    scanner = Scanner(NetworkProber(), SystemClock(), AllowedNetworks(), PORTS, dict)
    took, found = [], 0
    for _ in range(rounds):
        started = time.perf_counter()
        scan, _ = await scanner.scan(SUBNET, refresh=True, thorough=thorough)
        took.append(time.perf_counter() - started)
        found = sum(len(device.ports) for device in scan.devices)
    return {"seconds": statistics.median(took), "open": found}


def _nmap() -> dict[str, Any]:
    took, found = [], 0
    for _ in range(3):
        started = time.perf_counter()
        words = [*NMAP, "-oG", "-", "-p", ",".join(map(str, PORTS)), SUBNET]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        took.append(time.perf_counter() - started)
        found = done.stdout.count("/open/tcp")
    return {"seconds": statistics.median(took), "open": found}


@contextlib.contextmanager
def _machines(first: str) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        number = 0
        for last in UP:
            for port in OPEN if last % 2 else OPEN[:1]:
                stack.enter_context(socket.create_server((f"{first}{last}", port), backlog=64))
                number += 1
        yield number


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["inside"]:
        json.dump(inside(), sys.stdout)
    else:
        report()
