"""Commands as root by sudo: the password goes through its standard input when sudo asks, and never anywhere else.

The command prints a random word first, so that what sudo says is told from what the command says, and so that a command never gets the
password where sudo did not ask for it. It and its children carry a mark in their environment, by which they are found to be ended.
"""

from __future__ import annotations

import secrets
import shlex

MARK = "FLEET_RUN"


class Sudo:
    """The talk with one sudo. Feed it stderr; ``answer`` is what to write when it asks."""

    def __init__(self, password: str | None) -> None:
        self.mark = secrets.token_hex(12)
        self.started = False
        self.refusal: str | None = None
        self.said = ""
        self._prompt = f"fleet-password-{self.mark}:"
        self._begin = f"fleet-begin-{self.mark}\n"
        self._password = password
        self._asked = 0
        self._buffer = b""

    def command(self, command: str) -> str:
        """Return the command line that runs ``command`` as root."""
        script = f"echo {self._begin.strip()} >&2\n{command}"
        return (
            f"env LC_ALL=C sudo -S -p {shlex.quote(self._prompt)} -- env {MARK}={self.mark} /bin/sh -c {shlex.quote(script)}"
        )  # fmt: skip

    def feed(self, data: bytes) -> tuple[bytes, str | None]:
        """Take a piece of stderr. Return the command's part of it, and the line to write to standard input, if any."""
        if self.started:
            return data, None
        self._buffer += data
        before, found, after = self._buffer.partition(self._begin.encode())
        if found:
            self.started, self._buffer = True, b""
            return after, None
        text = before.decode(errors="replace")
        answer = None
        if text.count(self._prompt) > self._asked:
            self._asked += 1
            if self._asked > 1:
                self.refusal = "its password is wrong"
            elif not self._password:
                self.refusal = "sudo wants a password, and the credential has none"
            else:
                answer = self._password
        self.said = text.replace(self._prompt, "").strip()
        return b"", answer

    def why(self) -> str:
        """Return why there was no command: what sudo said, in our words where they are known."""
        if self.refusal:
            return self.refusal
        said = self.said.lower()
        if "not in the sudoers" in said or "may not run sudo" in said or "not allowed to execute" in said:
            return "sudo does not allow it"
        if "incorrect password" in said or "try again" in said:
            return "its password is wrong"
        if "not found" in said or "no such file" in said:
            return "sudo is not installed there"
        if "tty" in said or "terminal" in said:
            return "sudo wants a terminal there (requiretty)"
        last = self.said.splitlines()[-1][:200] if self.said else "sudo ended without a word"
        return f"sudo says: {last}"


def ending(mark: str) -> str:
    """Return a command that ends every process with a mark."""
    return (
        f"grep -lszxF -- {MARK}={mark} /proc/[0-9]*/environ | while IFS=/ read -r _ _ pid _; do kill -KILL \"$pid\" 2>/dev/null; done; true"
    )  # fmt: skip
