"""What goes wrong between here and a command's end. Each says what to do."""

from __future__ import annotations

from fleet_api.adapters.ssh.types import Result
from fleet_api.errors import Conflict, Timeout, Unavailable


class Unreachable(Timeout):
    """No connection to the machine."""


class ConnectionBroke(Timeout):
    """The connection ended while the command ran."""


class CommandTimeout(Timeout):
    """The command took longer than it may; it was ended. ``so_far`` is what it had printed."""

    def __init__(self, detail: str, so_far: Result) -> None:
        super().__init__(detail)
        self.so_far = so_far


class CommandFailed(Conflict):
    """A command whose lines were followed ended with an error."""


class NoSshServer(Unavailable):
    """What answers there is no SSH server, or one that this version cannot talk to."""


class TooManyConnections(Unavailable):
    """Every connection that may be open is in use."""


class LoginRefused(Conflict):
    """The machine refuses the credential."""


class BecomeRefused(Conflict):
    """The user may not run commands as root."""


class HostKeyChanged(Conflict):
    """The machine shows another host key than the one that was pinned; nothing was sent to it."""

    def __init__(self, detail: str, pinned: str, shown: str) -> None:
        super().__init__(detail)
        self.pinned = pinned
        self.shown = shown
