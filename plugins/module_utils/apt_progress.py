# Copyright: Fleet Commander contributors. Apache-2.0.
"""Runs apt-get and tells how far it is, from the status lines that it writes for programs (APT::Status-Fd)."""

from __future__ import annotations

import os
import subprocess
import threading

from ansible_collections.fleet.commander.plugins.module_utils.progress import Progress

DOWNLOADING = 0.3
"""Downloading counts for this part of the whole, as package managers with one bar do."""


def status(line: str) -> tuple[str, float] | None:
    """Return what a status line says, and how far the whole is in percent; None for another line. Pure.

    ``dlstatus:1:23.5:Retrieving file`` and ``pmstatus:PACKAGE:45.0:Installing PACKAGE``.
    """
    parts = line.strip().split(":", 3)
    if len(parts) < 4 or parts[0] not in ("dlstatus", "pmstatus"):
        return None
    try:
        part = min(100.0, max(0.0, float(parts[2])))
    except ValueError:
        return None
    percent = part * DOWNLOADING if parts[0] == "dlstatus" else 100 * DOWNLOADING + part * (1 - DOWNLOADING)
    return parts[3].strip(), percent


def run(words: list[str], environment: dict[str, str], progress: Progress) -> subprocess.CompletedProcess[str]:
    """Run apt-get with both outputs in one, without a terminal, telling of its progress."""
    reading, writing = os.pipe()
    reader = threading.Thread(target=_follow, args=(reading, progress), daemon=True)
    reader.start()
    try:
        done = subprocess.run(
            [words[0], "-o", f"APT::Status-Fd={writing}", *words[1:]],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            pass_fds=(writing,),
        )
    finally:
        os.close(writing)
    reader.join(5)
    return done


def _follow(reading: int, progress: Progress) -> None:
    with os.fdopen(reading, encoding="utf-8", errors="replace") as file:
        for line in file:
            found = status(line)
            if found is not None:
                progress.tell(*found)
