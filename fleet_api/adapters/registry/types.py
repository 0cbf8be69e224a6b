"""What is asked of an image registry."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fleet_api.errors import Unavailable


class RegistryAway(Unavailable):
    """No registry answers there, or not as one should."""


class RegistryRefuses(Unavailable):
    """The registry does not let this control plane in."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where a registry is, how one signs in, and whom to trust beside the system's authorities."""

    address: str
    username: str = ""
    password: str = field(default="", repr=False)
    authority: Path | None = None


class Registry(Protocol):
    """One registry. Raises RegistryAway, RegistryRefuses, and what :class:`AllowedNetworks` raises for its address."""

    async def names(self) -> list[str]:
        """Return the names of all repositories."""
        ...

    async def tags(self, names: list[str]) -> dict[str, list[str]]:
        """Return the tags of these repositories; one that is gone has none."""
        ...
