"""An opened credential: what must never be printed, logged or stored."""

from __future__ import annotations

from dataclasses import dataclass, field

FIELDS = ("password", "private_key", "passphrase", "become_password")
"""The secrets that a credential may hold, in the order in which people are asked for them."""


@dataclass(frozen=True, slots=True)
class Secret:
    """How to sign in to a machine, and to become root there. ``repr`` and ``str`` show the user name alone.

    ``credential_id`` and ``version`` name what it was opened from; both are empty for one that a caller brought along.
    """

    username: str
    password: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    become_password: str | None = field(default=None, repr=False)
    credential_id: str = ""
    name: str = ""
    version: int = 0

    def values(self) -> dict[str, str]:
        """Return the secrets that there are, by field."""
        return {name: value for name in FIELDS if (value := getattr(self, name))}
