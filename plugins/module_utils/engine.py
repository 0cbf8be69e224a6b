# Copyright: Fleet Commander contributors. Apache-2.0.
"""Whether the agent of a node has an engine at work: by its processes, and by what it told of itself since it was started.

The agent is a unit of the node, or runs in the newest container of a service of the swarm.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

CHILD = "gpu_inference.engine"
UP, LEFT_OUT = "The engine is up.", "A model folder is left out."
WRONG = ("The engine does not start.", "The engine has ended.")
NONE = "No engine is installed on this node: it takes no jobs."
SURE_SECONDS = 90.0
"""An agent ends a child that did not introduce itself within a minute: an older one is up, also where the journal has lost its word."""

LINES = 4000


def look(unit: str) -> dict[str, Any]:
    """Return ``up``, ``backend``, ``devices`` and ``models`` where they are known, ``problems``, and the ``reason`` where it is not up."""
    shown = _output("systemctl", "show", unit, "-p", "MainPID,InvocationID,ActiveState")
    about = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    main, invocation = int(about.get("MainPID") or 0), about.get("InvocationID", "")
    said = (
        _output("journalctl", "-q", "--no-pager", "-o", "cat", "-n", str(LINES), f"_SYSTEMD_INVOCATION_ID={invocation}")
        if invocation
        else ""
    )
    return judged(children(main) if main else {}, said, about.get("ActiveState") == "active")


def look_into(service: str) -> dict[str, Any]:
    """Return what :func:`look` does of the agent in a container, whose id is ``container``.

    Where it is not up, the last words of a container that failed are the reason: Swarm starts another one time and again.
    """
    word = f"label=com.docker.swarm.service.name={service}"
    ids = _output("docker", "ps", "-aq", "--no-trunc", "--filter", word).split()
    found = {**judged({}, "", False), "reason": "there is no container of it on this node", "container": ""}
    for number, each in enumerate(ids):
        about = json.loads(_output("docker", "inspect", each, "--format", "{{json .State}}") or "{}")
        said = _output("docker", "logs", "--tail", str(LINES), each, both=True)
        if about.get("Running") and number == 0:
            found = {**judged(children(int(about.get("Pid") or 0), inner=True), said, True), "container": each}
            if found["up"]:
                break
        elif about.get("ExitCode"):
            found["reason"] = last_word(said) or "its container has ended with code {}".format(about["ExitCode"])
            break
        elif number == 0:
            found["reason"] = "its container has ended, or has yet to start"
    return found


def last_word(said: str) -> str:
    """Return what the agent said last, as the end of a sentence. Pure."""
    lines = said.strip().splitlines()
    entry = _parsed(lines[-1]) if lines else {}
    return str(entry.get("event") or (lines[-1] if lines else "")).strip().rstrip(".")[-400:]


def judged(found: dict[int, float], said: str, active: bool) -> dict[str, Any]:
    """Return what :func:`look` does, given the age in seconds of each child by its id, and the agent's own lines. Pure."""
    told: dict[str, Any] = {"up": False, "backend": None, "devices": None, "models": [], "problems": [], "reason": ""}
    if not active:
        return {**told, "reason": "the agent does not run"}
    for line in said.splitlines():
        entry = _parsed(line)
        event, pid = entry.get("event"), entry.get("pid")
        if event == LEFT_OUT:
            told["problems"].append(str(entry.get("reason")))
        elif event == UP:
            told.update(up=pid in found, backend=entry.get("backend"), devices=entry.get("devices"), reason="")
            told["models"] = list(entry.get("models") or [])
        elif event in WRONG:
            told.update(up=False, reason=str(entry.get("reason") or "it ended"))
        elif event == NONE:
            told.update(up=False, reason="the agent was started without an engine")
    if not told["up"] and any(age > SURE_SECONDS for age in found.values()):
        told.update(up=True, reason="")
    elif not told["up"] and not told["reason"]:
        told["reason"] = "it is starting" if found else "it was not started yet"
    return told


def children(parent: int, inner: bool = False) -> dict[int, float]:
    """Return the age in seconds of each engine that ``parent`` has started, by its id; with ``inner`` by that in its container."""
    found = {}
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8") as file:
                fields = file.read().rpartition(")")[2].split()
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read().decode("utf-8", "replace")
        except (OSError, ValueError):
            continue
        if len(fields) > 19 and int(fields[1]) == parent and CHILD in words:
            found[_inner(int(name)) if inner else int(name)] = _uptime() - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return found


def _inner(pid: int) -> int:
    """Return a process's id in the innermost namespace that it is in."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            ids = [line.split()[-1] for line in file if line.startswith("NSpid:")]
    except OSError:
        ids = []
    return int(ids[0]) if ids else pid


def _uptime() -> float:
    with open("/proc/uptime", encoding="utf-8") as file:
        return float(file.read().split()[0])


def _parsed(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _output(*words: str, both: bool = False) -> str:
    """Return what a command prints, with ``both`` on stderr too; empty where there is no such command."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT if both else subprocess.DEVNULL, check=False
        )
    except OSError:
        return ""
    return done.stdout.decode("utf-8", "replace")
