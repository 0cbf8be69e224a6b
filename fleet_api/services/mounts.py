"""Which folders of a machine may be mounted into containers.

Listed folders and what is in them, never the data folder of the control plane, never the Docker socket or a folder that holds one. Where
this machine has the folder, its real path counts too; links on other machines are theirs to keep out of what is listed.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fleet_api.errors import InvalidValue

SOCKETS = ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/var/run/containerd/containerd.sock")
VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the machine, or a volume of its engine by name, and where the container sees it."""

    source: str
    target: str
    read_only: bool = False

    @property
    def type(self) -> str:
        """Docker's word for it."""
        return "bind" if self.source.startswith("/") else "volume"

    def as_spec(self) -> dict[str, Any]:
        """Return it as Docker's API has it."""
        return {"Type": self.type, "Source": self.source, "Target": self.target, "ReadOnly": self.read_only}


@dataclass(frozen=True, slots=True)
class MountRules:
    """The folders that may be mounted, and those that may not whatever is listed."""

    roots: tuple[str, ...]
    forbidden: tuple[str, ...]

    @classmethod
    def of(cls, roots: Sequence[str], home: str, docker_host: str = "") -> MountRules:
        """Return the rules for the listed folders, a data folder and the engine's own socket, each by its real path too."""
        own = [docker_host.removeprefix("unix://")] if docker_host else []
        never = [posixpath.normpath(each) for each in (home, *SOCKETS, *own)]
        real = [os.path.realpath(each) for each in never]
        return cls(tuple(posixpath.normpath(root) for root in roots), tuple(dict.fromkeys([*never, *real])))

    def checked(self, source: str, target: str, read_only: bool = False, field: str = "mounts") -> Mount:
        """Return a mount that is allowed. Raises InvalidValue."""
        self._check_target(target, field)
        if not source.startswith("/"):
            if not VOLUME.fullmatch(source):
                raise InvalidValue(f"{field}: {source[:60]!r} is not allowed; it must be an absolute folder, or a volume's name.")
            return Mount(source, posixpath.normpath(target), read_only)
        if ".." in source.split("/"):
            raise InvalidValue(f"{field}: {source[:60]!r} is not allowed; it must not go up by '..'.")
        path = posixpath.normpath(source)
        real = os.path.realpath(path)
        for never in self.forbidden:
            if any(_within(each, never) or _within(never, each) for each in (path, real)):
                what = "the Docker socket" if never.endswith(".sock") else "the control plane's data"
                raise InvalidValue(f"{field}: {source[:60]!r} is not allowed; it would give a container {what}.")
        within = [root for root in self.roots if _within(path, root)]
        if within and not any(_within(real, os.path.realpath(root)) for root in self.roots):
            raise InvalidValue(f"{field}: {source[:60]!r} is not allowed; it is a link on this machine that leads out of {within[0]}.")
        if not within:
            raise InvalidValue(
                f"{field}: {source[:60]!r} is not allowed; it must be in {', '.join(self.roots) or '(none)'}, as FLEET_MOUNT_ROOTS "
                "lists them, or a volume's name."
            )
        return Mount(path, posixpath.normpath(target), read_only)

    def parsed(self, text: str, field: str = "mounts") -> Mount:
        """Return the mount that ``source:target`` or ``source:target:ro`` means. Raises InvalidValue."""
        parts = text.split(":")
        if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
            raise InvalidValue(f"{field}: {text[:60]!r} is not allowed; it must be source:target, source:target:ro or source:target:rw.")
        return self.checked(parts[0], parts[1], len(parts) == 3 and parts[2] == "ro", field)

    def _check_target(self, target: str, field: str) -> None:
        if not target.startswith("/") or ".." in target.split("/") or posixpath.normpath(target) == "/":
            raise InvalidValue(f"{field}: {target[:60]!r} is not allowed as a target; it must be an absolute path in the container.")


def _within(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")
