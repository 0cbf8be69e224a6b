"""An address of this machine that is not loopback: a bridge that the test makes, and takes away again."""

from __future__ import annotations

import ipaddress
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
"""Which of the processes that share the run's tests this is."""
ADDRESS, PREFIX = f"10.213.{7 + WORKER}.1", 24
LAB_RANGE = "10.214.0.0/16"
LABS: set[ipaddress.IPv4Network] = set()
"""The subnets of the labs that this run of tests has made."""


def in_a_lab(host: str) -> bool:
    """Whether an address belongs to a lab of this run."""
    return any(ipaddress.ip_address(host) in subnet for subnet in LABS)


@contextmanager
def bridge() -> Iterator[str]:
    """Make a bridge and return its address. Raises OSError or CalledProcessError where that is not allowed."""
    name = f"fleet{os.getpid() % 10_000_000}"
    ip("link", "add", name, "type", "bridge")
    try:
        ip("addr", "add", f"{ADDRESS}/{PREFIX}", "dev", name)
        ip("link", "set", name, "up")
        yield ADDRESS
    finally:
        ip("link", "del", name)


def ip(*words: str) -> None:
    """Run ``ip``."""
    subprocess.run(["ip", *words], check=True, capture_output=True)
