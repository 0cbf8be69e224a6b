"""Sentences for the ways in which a play fails: what is wrong, and what to do. A pure function of what Ansible said."""

from __future__ import annotations

import re

_KNOWN: tuple[tuple[str, str], ...] = (
    (r"host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED",
     "The node shows another SSH host key than the one pinned: check that it is the machine you mean, then accept the new key."),
    (r"permission denied \(|invalid/incorrect password|authentication failed|incorrect username or password",
     "The node refused the user name, password or key; put the right ones into the vault and retry."),
    (r"missing sudo password|a password is required|sudo: a terminal is required",
     "sudo wants a password on this node; add become_password to the credential and retry."),
    (r"incorrect sudo password|incorrect become password|sorry, try again",
     "sudo refused the password; put the right become_password into the credential and retry."),
    (r"is not in the sudoers file|may not run sudo|not allowed to execute",
     "This user may not use sudo on the node; allow it there, or use another user, and retry."),
    (r"no space left on device|disk full|not enough free space|ENOSPC|you don't have enough free space",
     "The node's disk is full; free some space on it and retry."),
    (r"could not get lock|lock-frontend|unable to acquire the dpkg|apt lock|is another process using it",
     "Another program is installing packages on the node; wait for its end and retry."),
    (r"dpkg was interrupted",
     "An installation of packages was cut off on the node; a retry repairs it."),
    (r"connection timed out|operation timed out|timed out waiting|no route to host|host is down|network is unreachable",
     "The node does not answer: check its power, cable and address, then retry."),
    (r"connection refused",
     "Nothing listens for SSH at the node's address; start sshd there, or correct the port, and retry."),
    (r"connection (?:reset|closed)|broken pipe|closed by remote host|shared connection to .* closed|kex_exchange_identification",
     "The connection to the node broke, as when it restarts; wait until it is back and retry."),
    (r"module result deserialization failed|no start of json char|module failure",
     "The task was cut off on the node, as when it restarts; wait until it is back and retry."),
    (r"could not resolve|name or service not known|temporary failure in name resolution",
     "A name could not be resolved; check the name servers of the node and of this machine, then retry."),
    (r"python.{0,40}(?:not found|no such file)|interpreter.{0,60}not found",
     "The node has no Python 3; install python3 on it and retry."),
)  # fmt: skip
_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE | re.DOTALL), text) for pattern, text in _KNOWN)


def sentence(kind: str, text: str, task: str) -> str:
    """Return one sentence on a failure; ``kind`` is ``failed`` or ``unreachable``."""
    for pattern, known in _PATTERNS:
        if pattern.search(text):
            return f"{known} (At: {task}.)" if task else known
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")[:400]
    if kind == "unreachable":
        return f"The node could not be reached: {_ended(first)} Check it, then retry."
    return f"{task or 'A task'} failed: {_ended(first)} Mend that, then retry."


def _ended(text: str) -> str:
    text = text or "no reason was given"
    return text if text.endswith((".", "!", "?")) else text + "."
