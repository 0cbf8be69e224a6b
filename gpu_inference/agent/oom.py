"""The kernel's OOM killer: the engine is offered to it before the agent, and whether it has struck can be seen."""

from __future__ import annotations

from pathlib import Path

ABOVE = 500
"""So much more likely than its agent is an engine to be chosen, on the kernel's scale of 1000."""

PROC = Path("/proc")


def offer(pid: int, proc: Path = PROC) -> None:
    """Has the kernel end this process before its agent; a system that does not know of that is left as it is."""
    try:
        own = int((proc / "self" / "oom_score_adj").read_text())
        (proc / str(pid) / "oom_score_adj").write_text(str(min(1000, own + ABOVE)))
    except (OSError, ValueError):
        return


def kills(proc: Path = PROC) -> int:
    """How many processes the kernel has ended since it started, as memory ran out; 0 where it does not say."""
    try:
        for line in (proc / "vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        return 0
    return 0
