# Copyright: Fleet Commander contributors. Apache-2.0.
"""A swap file with a way back."""

from __future__ import annotations

import os
import subprocess

from ansible_collections.fleet.commander.plugins.module_utils.file_plans import lines
from ansible_collections.fleet.commander.plugins.module_utils.files import Place
from ansible_collections.fleet.commander.plugins.module_utils.ledger import Ledger

FSTAB = "/etc/fstab"
SPARE_MIB = 1024


class SwapFailed(Exception):
    """No swap file could be made; the text is a sentence."""


def size_mib(path: str) -> int:
    """Return a file's size in MiB, 0 where there is none."""
    try:
        return os.stat(path).st_size // (1024 * 1024)
    except FileNotFoundError:
        return 0


def in_use(path: str, swaps: str) -> bool:
    """Say whether ``/proc/swaps`` names a file. Pure."""
    return any(line.split()[0] == path for line in swaps.splitlines()[1:] if line.strip())


def fstab_line(path: str) -> str:
    """Return the line that turns the file on at each boot. Pure."""
    return f"{path} none swap sw,nofail 0 0"


def make(path: str, wanted_mib: int) -> None:
    """Make a swap file of a size, in place of one of ours, and turn it on. Raises SwapFailed and OSError."""
    ledger = Ledger("swap")
    if os.path.exists(path) and ledger.get(path) is None:
        raise SwapFailed(f"{path} is there and is not Fleet Commander's; name another place in node_baseline_swap_file.")
    space = os.statvfs(os.path.dirname(path))
    free = space.f_bavail * space.f_frsize // (1024 * 1024) + size_mib(path)
    if free < wanted_mib + SPARE_MIB:
        raise SwapFailed(f"A swap file of {wanted_mib} MiB does not fit beside {path}, where {free} MiB are free; choose a smaller one.")
    ledger.note(path, {"kind": "absent"})
    off(path)
    run("fallocate", "-l", f"{wanted_mib}M", path)
    os.chmod(path, 0o600)
    run("mkswap", path)
    run("swapon", path)
    place = Place(FSTAB)
    wanted, note = lines(place.now, place.entry, [fstab_line(path)], place.now.mode or 0o644, place.now.uid, place.now.gid)
    place.put(wanted, note)


def off(path: str) -> None:
    """Turn a swap file off and remove it. Raises SwapFailed and OSError."""
    with open("/proc/swaps", encoding="utf-8") as file:
        if in_use(path, file.read()):
            run("swapoff", path)
    if os.path.exists(path):
        os.unlink(path)


def run(*words: str) -> None:
    """Run a command. Raises SwapFailed."""
    done = subprocess.run(list(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stdout.split())[:300].rstrip(".")
        raise SwapFailed(f"{words[0]} refused: {said}; choose a place on a disk that can hold swap, or set node_baseline_swap_mib to 0.")
