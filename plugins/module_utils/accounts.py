# Copyright: Fleet Commander contributors. Apache-2.0.
"""Users and groups with a way back."""

from __future__ import annotations

import grp
import pwd
import subprocess
import time
from typing import Any

from ansible_collections.fleet.commander.plugins.module_utils.ledger import ROOT, Ledger

PATIENCE = 5.0


class AccountFailed(Exception):
    """An account could not be changed; the text is a sentence."""


class Account:
    """One user, and its membership in further groups."""

    def __init__(self, name: str, root: str = ROOT) -> None:
        self.name = name
        self._ledger = Ledger("account", root)
        self.now = look(name)

    @property
    def entry(self) -> dict[str, Any] | None:
        """What it was like when Fleet Commander first came."""
        return self._ledger.get(self.name)

    def missing(self, groups: list[str]) -> list[str]:
        """Return the groups that it is not in."""
        return [group for group in groups if group not in self.now["groups"]]

    def make(self, system: bool, home: str | None, shell: str | None, groups: list[str]) -> None:
        """Make the user unless it is there, and add it to groups, which are made too. Raises AccountFailed."""
        entry = self.entry or {"existed": self.now["exists"], "joined": [], "made": []}
        new = [group for group in groups if not group_exists(group)]
        entry = {**entry, "joined": sorted({*entry["joined"], *self.missing(groups)}), "made": sorted({*entry["made"], *new})}
        self._ledger.put(self.name, entry)
        for group in new:
            run("groupadd", "--system", group)
        if not self.now["exists"]:
            words = ["--system", "--no-create-home"] if system else ["--create-home"]
            run(
                "useradd",
                *words,
                *(["--home-dir", home] if home else []),
                "--shell",
                shell or "/usr/sbin/nologin",
                "--user-group",
                self.name,
            )
        for group in self.missing(groups):
            run("gpasswd", "--add", self.name, group)

    def give_back(self) -> None:
        """Take away what :meth:`make` did. Raises AccountFailed."""
        entry = self.entry
        if entry is None:
            return
        if self.now["exists"]:
            if not entry["existed"]:
                _delete(self.name, self.now["uid"] >= 1000)
            else:
                for group in entry["joined"]:
                    if group in self.now["groups"]:
                        run("gpasswd", "--delete", self.name, group)
        for group in entry["made"]:
            if group_exists(group) and not grp.getgrnam(group).gr_mem:
                run("groupdel", group)
        self._ledger.forget(self.name)


def _delete(name: str, with_home: bool) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            run("userdel", *(["--remove"] if with_home else []), name)
            return
        except AccountFailed:  # a process that was killed may take a moment to be gone
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def look(name: str) -> dict[str, Any]:
    """Return whether a user exists, its id and its groups."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return {"exists": False, "uid": None, "groups": []}
    return {"exists": True, "uid": found.pw_uid, "groups": sorted(group.gr_name for group in grp.getgrall() if name in group.gr_mem)}


def group_exists(name: str) -> bool:
    """Say whether a group is there."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def run(*words: str) -> None:
    """Run a command. Raises AccountFailed."""
    done = subprocess.run(list(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    # userdel and its like say 12 where there was no home or no mail to remove.
    if done.returncode not in ((0, 12) if words[0] == "userdel" else (0,)):
        raise AccountFailed(
            "{} refused: {}; mend that on the node and try again.".format(words[0], " ".join(done.stdout.split())[:300].rstrip("."))
        )
