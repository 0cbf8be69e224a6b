# Copyright: Fleet Commander contributors. Apache-2.0.
"""A command run as the agent runs, that has ended with all that it has started when its time is up."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from typing import Any, Callable, NamedTuple

from ansible_collections.fleet.commander.plugins.module_utils.agent_settings import call

GRACE = 5
"""Seconds that a command in a container has to end by itself."""

LATE = (124, 128 + signal.SIGKILL)
"""How ``timeout`` ends where it has ended the command."""


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    said: bytes
    wrong: str


class TookTooLong(Exception):
    """The command was ended."""


def run(
    given: dict[str, Any],
    words: list[str],
    seconds: int,
    tell: Callable[[str], None] | None = None,
    folder: str = "/",
    temporary: str = "",
) -> Done:
    """Run a command as :func:`call` does; each line of its stderr is told at once. Raises TookTooLong, KeyError and OSError.

    ``runuser`` starts a process of its own, which holds the pipes and outlives it, so the whole session is ended. A ``docker exec`` that
    is ended leaves what it has started in the container, so ``timeout`` ends that there.
    """
    seconds, inside = max(seconds, 1), bool(given["container"])
    begun = time.monotonic()
    until = begun + seconds + (3 * GRACE if inside else 0)
    words, environment = call(given, ["timeout", "-k", str(GRACE), str(seconds), *words] if inside else words)
    child = subprocess.Popen(
        words,
        cwd=folder,
        env={**environment, "TMPDIR": temporary} if temporary else environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    said: list[bytes] = []
    wrong: list[str] = []

    def read() -> None:
        with child.stdout as pipe:
            said.append(pipe.read())

    def listen() -> None:
        with child.stderr as pipe:
            for line in pipe:
                wrong.append(line.decode("utf-8", "replace"))
                if tell is not None:
                    tell(wrong[-1].strip())

    listeners = [threading.Thread(target=each, daemon=True) for each in (read, listen)]
    for each in listeners:
        each.start()
    for each in listeners:
        each.join(max(until - time.monotonic(), 0))
    try:
        if any(each.is_alive() for each in listeners):
            raise subprocess.TimeoutExpired(words, seconds)
        code = child.wait(max(until - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        _end(child, listeners)
        raise TookTooLong from None
    if inside and code in LATE and time.monotonic() - begun >= seconds:
        raise TookTooLong
    return Done(code, b"".join(said), "".join(wrong))


def _end(child: subprocess.Popen[bytes], listeners: list[threading.Thread]) -> None:
    """End a session; what even that does not end, as it waits in a driver, is not waited for."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE)
    for each in listeners:
        each.join(1)
