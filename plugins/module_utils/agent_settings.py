# Copyright: Fleet Commander contributors. Apache-2.0.
"""The settings of a node's agent, and how its command is run as the agent runs: by its user, or in its container."""

from __future__ import annotations

import os
import pwd
from typing import Any, NamedTuple

from ansible_collections.fleet.commander.plugins.module_utils.node import PATH

FILES = ["/etc/fleet/agent.env", "/etc/fleet/engine.env"]
IN_CONTAINER = "/opt/fleet/agent/bin/fleet-worker"
"""The command in the agent's images."""


class Call(NamedTuple):
    """The words of a command, and the environment that it is given."""

    words: list[str]
    environment: dict[str, str]


def settings(paths: list[str]) -> dict[str, str]:
    """Return the agent's and CUDA's settings of some files, as systemd reads them; the later ones win, and no other variable is taken."""
    found = {}
    for path in paths:
        if not os.path.exists(path):
            continue
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file if line.startswith(("FLEET_AGENT_", "CUDA_")) and "=" in line]
        for line in lines:
            name, value = line.split("=", 1)
            found[name] = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value
    return found


def call(given: dict[str, Any], words: list[str]) -> Call:
    """Return how ``words`` are run as the agent. ``given`` has ``container``, or ``user``, ``groups`` and ``settings``. Raises KeyError."""
    if given["container"]:
        return Call(["docker", "exec", given["container"], *words], {"PATH": PATH, "HOME": "/root"})
    account = pwd.getpwnam(given["user"])
    groups = [word for group in given["groups"] for word in ("-G", group)]
    environment = {"PATH": PATH, "HOME": account.pw_dir, "LANG": "C.UTF-8", **settings(given["settings"])}
    return Call(["runuser", "-u", given["user"], *groups, "--", *words], environment)


def program(given: dict[str, Any]) -> str:
    """Return the worker's command, where it is run."""
    return IN_CONTAINER if given["container"] else str(given["program"])
