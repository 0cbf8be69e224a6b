# Copyright: Fleet Commander contributors. Apache-2.0.
"""Debian packages with a way back: what an installation will bring is noted before it runs."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import time
from typing import Any, Callable

from ansible_collections.fleet.commander.plugins.module_utils import apt_progress, leftovers
from ansible_collections.fleet.commander.plugins.module_utils.ledger import ROOT, Ledger
from ansible_collections.fleet.commander.plugins.module_utils.progress import Progress

ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l", "LC_ALL": "C.UTF-8"}
OPTIONS = [
    "-qy",
    "--no-install-recommends",
    "-o",
    "DPkg::Lock::Timeout=60",
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    "Dpkg::Options::=--force-confold",
]
LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock")


class PackagesFailed(Exception):
    """It could not be done; the text is a sentence."""


class Packages:
    """The packages that one owner, such as a role, needs. ``say`` is told of waiting."""

    def __init__(
        self, owner: str, lock_timeout: int, say: Callable[[str], None], paths: list[str], groups: list[str], root: str = ROOT
    ) -> None:
        self._owner = owner
        self._paths = paths
        self._groups = groups
        self._lock_timeout = lock_timeout
        self._say = say
        self._ledger = Ledger("package", root)

    def missing(self, names: list[str]) -> list[str]:
        """Return those that are not installed."""
        there = installed()
        return sorted(name for name in names if name not in there)

    def install(self, names: list[str], checking: bool) -> list[str]:
        """Install what is missing of ``names`` and return all that this brings, dependencies included. Raises PackagesFailed."""
        missing = self.missing(names)
        if not missing:
            return []
        if checking:
            return self._planned(missing, "install", refresh=False)[0] or missing
        self._wait()
        repair()
        brought, removed = self._planned(missing, "install", refresh=True)
        if removed:
            raise PackagesFailed(
                "Installing {} would remove {}; remove or replace that by hand first.".format(", ".join(missing), ", ".join(removed))
            )
        entry = self._ledger.get(self._owner) or {"brought": [], "leftovers": leftovers.look(self._paths, self._groups)}
        self._ledger.put(self._owner, {**entry, "brought": sorted({*entry["brought"], *brought})})
        apt("install", *missing)
        return brought

    def restore(self, checking: bool) -> tuple[list[str], list[str]]:
        """Purge what :meth:`install` brought; return that, and what had to stay as others have come to need it. Raises PackagesFailed."""
        entry = self._ledger.get(self._owner)
        if entry is None:
            return [], []
        there = installed()
        mine = [name for name in entry["brought"] if name in there or has_remains(name)]
        going, staying = self._separable(mine)
        if not checking:
            if going:
                self._wait()
                repair()
                apt("purge", *going)
            if not staying:
                leftovers.remove(entry["leftovers"])
            self._ledger.forget(self._owner)
        return going, staying

    def _separable(self, mine: list[str]) -> tuple[list[str], list[str]]:
        if not mine or not set(self._planned(mine, "purge", refresh=False)[1]) - set(mine):
            return mine, []
        staying = {name for name in mine if set(self._planned([name], "purge", refresh=False)[1]) - set(mine)}
        return [name for name in mine if name not in staying], sorted(staying)

    def _planned(self, names: list[str], verb: str, refresh: bool) -> tuple[list[str], list[str]]:
        done = run("apt-get", "-s", *OPTIONS, verb, *names)
        if done.returncode and refresh:
            apt("update")
            done = run("apt-get", "-s", *OPTIONS, verb, *names)
        if done.returncode:
            if not refresh:
                return [], []
            raise PackagesFailed(sentence(done.stdout, "The packages {} cannot be installed".format(", ".join(names))))
        return planned(done.stdout)

    def _wait(self) -> None:
        deadline = time.monotonic() + self._lock_timeout
        told = False
        while True:
            busy = [path for path in LOCKS if _is_locked(path)]
            if not busy:
                return
            holder = _holder(busy[0])
            if time.monotonic() > deadline:
                raise PackagesFailed(
                    f"The package manager is in use by {holder} for more than {self._lock_timeout} s; wait for its end and try again."
                )
            if not told:
                self._say(f"The package manager is in use by {holder}; waited for up to {self._lock_timeout} s.")
                told = True
            time.sleep(1)


def planned(simulation: str) -> tuple[list[str], list[str]]:
    """Return which packages are new and which go, of what ``apt-get --simulate`` printed. Pure."""
    new = re.findall(r"^Inst (\S+) \(", simulation, re.M)
    gone = re.findall(r"^(?:Remv|Purg) (\S+)", simulation, re.M)
    return sorted(set(new)), sorted(set(gone))


def sentence(output: str, what: str) -> str:
    """Return what went wrong as one sentence, given the output of apt or dpkg. Pure."""
    if re.search(r"No space left on device|enough free space", output):
        return f"{what}: the disk is full; free some space (df -h and du show where it went) and try again."
    if re.search(r"Temporary failure resolving|Could not resolve|Failed to fetch|Unable to fetch|Could not connect", output):
        return f"{what}: its package sources cannot be reached; check the node's network and /etc/apt/sources.list."
    found = re.search(r"Unable to locate package (\S+)", output)
    if found:
        return f"{what}: its sources have no package {found.group(1)}; check /etc/apt/sources.list."
    errors = re.findall(r"^(?:E: |dpkg: error[^:]*: )(.+)$", output, re.M)
    reason = errors[0] if errors else (output.strip().splitlines() or ["no reason was given"])[-1]
    return "{}: {}; see /var/log/apt/term.log on the node.".format(what, reason.rstrip(".")[:300])


def installed() -> set[str]:
    """Return the names of all installed packages."""
    done = run("dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n")
    return {line.split(" ")[1] for line in done.stdout.splitlines() if line.startswith("installed ")}


def has_remains(name: str) -> bool:
    """Say whether a package was removed but its configuration is still there."""
    return run("dpkg-query", "-W", "-f", "${db:Status-Status}", name).stdout == "config-files"


def repair() -> None:
    """Finish an installation that was cut off. Raises PackagesFailed."""
    cut_off = bool(os.listdir("/var/lib/dpkg/updates")) or bool(run("dpkg", "--audit").stdout.strip())
    if not cut_off:
        return
    done = run("dpkg", "--force-confdef", "--force-confold", "--configure", "-a")
    if done.returncode:
        apt("install", "-f")


def apt(verb: str, *names: str) -> None:
    """Run ``apt-get``. Raises PackagesFailed with one sentence."""
    environment: dict[str, str] = dict(os.environ, **ENVIRONMENT)
    done = apt_progress.run(["apt-get", *OPTIONS, verb, *names], environment, Progress("packages"))
    if done.returncode:
        raise PackagesFailed(sentence(done.stdout, "apt-get {} failed".format(" ".join([verb, *names])[:200])))


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command, its two outputs in one, without a terminal."""
    environment: dict[str, Any] = dict(os.environ, **ENVIRONMENT)
    return subprocess.run(
        list(words),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _is_locked(path: str) -> bool:
    try:
        with open(path, "r+", encoding="utf-8") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _holder(path: str) -> str:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        folder = f"/proc/{pid}/fd"
        try:
            if any(os.path.realpath(os.path.join(folder, number)) == path for number in os.listdir(folder)):
                with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                    return f"{file.read().strip()} (process {pid})"
        except OSError:
            continue
    return "another process"
