"""Ends what a cancelled or lost operation left running on a node, found by the mark in each process's environment.

A package manager is let finish, with all below it: the next preflight repairs what it left. The script runs as root. Where the node is
the control plane's own machine, the processes of its other operations are there too; they bear a mark of their own and are left.
"""

from __future__ import annotations

import asyncio
import shlex

import structlog

from fleet_api.errors import FleetError
from fleet_api.nodes.remote import Remote

log = structlog.get_logger()

SECONDS = 15.0

SCRIPT = r"""
import json, os, signal, sys, time
mark, own, keep = b"FLEET_OPERATION=", b"FLEET_CONTROLLER_OPERATION=", {each.encode() for each in sys.argv[1:]}
SPARED = {"apt", "apt-get", "dpkg", "dpkg-deb", "aptitude", "unattended-upgr"}
def read(pid, name):
    try:
        with open("/proc/%d/%s" % (pid, name), "rb") as file:
            return file.read()
    except OSError:
        return b""
def pids():
    return [int(each) for each in os.listdir("/proc") if each.isdigit() and int(each) != os.getpid()]
def left():
    above, names, ours = {}, {}, set()
    for pid in pids():
        stat = read(pid, "stat").decode("utf-8", "replace")
        if not stat or stat.rpartition(")")[2].split()[0] == "Z":
            continue
        names[pid] = stat[stat.find("(") + 1:stat.rfind(")")]
        above[pid] = int(stat.rpartition(")")[2].split()[1])
        items = read(pid, "environ").split(b"\0")
        if any(item.startswith(own) for item in items):
            continue
        for item in items:
            if item.startswith(mark) and item != mark and item[len(mark):] not in keep:
                ours.add(pid)
    def spared(pid):
        while pid in above:
            if names[pid] in SPARED:
                return True
            pid = above[pid]
        return False
    return {pid for pid in ours if not spared(pid)}
ended = set()
for number in (signal.SIGTERM, signal.SIGKILL):
    for _ in range(20):
        found = left()
        if not found:
            break
        for pid in found - (ended if number == signal.SIGTERM else set()):
            try:
                os.kill(pid, number)
            except OSError:
                pass
        ended |= found
        time.sleep(0.05)
path = "/run/fleet/lock.json"
try:
    with open(path) as file:
        owner = json.load(file).get("owner", "")
    if owner.startswith("operation ") and owner[len("operation "):].encode() not in keep:
        os.unlink(path)
except (OSError, ValueError):
    pass
folder = "/run/fleet/progress"
for name in os.listdir(folder) if os.path.isdir(folder) else []:
    if name.split(".")[0].encode() not in keep:
        os.unlink(os.path.join(folder, name))
print(json.dumps({"ended": len(ended), "left": len(left())}))
"""


def command(keep: str = "-") -> str:
    """Return the command that ends every operation's processes but those of ``keep``, and frees the node's lock from them."""
    return f"python3 -c {shlex.quote(SCRIPT)} {shlex.quote(keep)}"


async def clean(remote: Remote, address: str, port: int, credential_id: str) -> None:
    """Sweep a node after an operation on it was cut off. Where that cannot be done now, the next operation there does it first."""
    try:
        async with asyncio.timeout(SECONDS):
            await remote.run(address, port, credential_id, command(), become=True)
    except (FleetError, TimeoutError) as error:
        log.warning("node_not_swept", address=address, reason=str(error))
