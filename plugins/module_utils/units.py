# Copyright: Fleet Commander contributors. Apache-2.0.
"""systemd units with a way back."""

from __future__ import annotations

import subprocess
from typing import Any

from ansible_collections.fleet.commander.plugins.module_utils.ledger import ROOT, Ledger

ABSENT = {"exists": False, "enabled": False, "active": False, "masked": False}


class UnitFailed(Exception):
    """systemd did not do it; the text is a sentence."""


class Unit:
    """One unit; ``now`` tells whether it exists, is enabled, active and masked."""

    def __init__(self, name: str, root: str = ROOT) -> None:
        self.name = name if "." in name else name + ".service"
        self._ledger = Ledger("unit", root)
        self._files = Ledger("file", root)
        self.now = state_of(show(self.name))

    @property
    def entry(self) -> dict[str, Any] | None:
        """What it was like when Fleet Commander first came."""
        return self._ledger.get(self.name)

    def become(self, wanted: dict[str, Any]) -> None:
        """Note what it is like, and bring it to ``wanted``. Raises UnitFailed."""
        # A unit whose file is ours was not there before, even if it runs by now.
        ours = (self._files.get(f"/etc/systemd/system/{self.name}") or {}).get("kind") == "absent"
        self._ledger.note(self.name, ABSENT if ours else self.now)
        self._bring(wanted)

    def give_back(self, wanted: dict[str, Any]) -> None:
        """Bring it to ``wanted`` and forget it. Raises UnitFailed."""
        if self.now["exists"]:
            self._bring(wanted)
        self._ledger.forget(self.name)

    def _bring(self, wanted: dict[str, Any]) -> None:
        if wanted["masked"] != self.now["masked"]:
            systemctl("mask" if wanted["masked"] else "unmask", self.name)
        if self.now["active"] and not wanted["active"]:
            systemctl("stop", self.name)
        if wanted["enabled"] != self.now["enabled"] and not wanted["masked"]:
            systemctl("enable" if wanted["enabled"] else "disable", self.name)
        if wanted["active"] and not self.now["active"]:
            systemctl("start", self.name)


def show(name: str) -> dict[str, str]:
    """Return a unit's properties."""
    done = _run("show", name, "-p", "LoadState,UnitFileState,ActiveState,NeedDaemonReload")
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if found.get("NeedDaemonReload") == "yes" or found.get("LoadState") not in ("loaded", "masked"):
        _run("daemon-reload")
        found = dict(line.split("=", 1) for line in _run("show", name, "-p", "LoadState,UnitFileState,ActiveState").stdout.splitlines())
    return found


def state_of(properties: dict[str, str]) -> dict[str, Any]:
    """Return what a unit is like by its properties. Pure."""
    if properties.get("LoadState") in (None, "", "not-found") and properties.get("ActiveState") != "active":
        return dict(ABSENT)
    file_state = properties.get("UnitFileState", "")
    return {
        "exists": True,
        "enabled": file_state.startswith("enabled"),
        "active": properties.get("ActiveState") in ("active", "activating", "reloading"),
        "masked": file_state.startswith("masked"),
    }


def wanted_of(now: dict[str, Any], enabled: bool | None, active: bool | None, masked: bool | None) -> dict[str, Any]:
    """Return what a unit shall be like; what is None stays as it is. Pure."""
    given = {"enabled": enabled, "active": active, "masked": masked}
    return {"exists": True, **{key: now[key] if value is None else value for key, value in given.items()}}


def systemctl(verb: str, name: str) -> None:
    """Run ``systemctl``. Raises UnitFailed with the unit's last word."""
    if verb == "restart":  # systemd does not tell that a drop-in is the first of its folder, and so not yet known
        _run("daemon-reload")
    done = _run(verb, name)
    if done.returncode:
        said = subprocess.run(
            ["journalctl", "-u", name, "-n", "3", "-o", "cat", "--no-pager"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
        )  # fmt: skip
        last = " ".join(said.stdout.split())[-300:] or " ".join(done.stdout.split())[-300:]
        raise UnitFailed(
            "{} could not be brought to {}: {}; see 'journalctl -u {}' on the node.".format(name, verb, last.rstrip("."), name)
        )


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemctl", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
