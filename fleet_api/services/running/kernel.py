"""What this machine's kernel has that Swarm's ingress network needs."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path


@lru_cache(1)
def has_ip_vs(root: Path = Path("/")) -> bool:
    """Say whether IP_VS is in the kernel, or can be loaded into it."""
    if (root / "proc/net/ip_vs").exists():
        return True
    modules = root / "lib/modules" / platform.release()
    if any((modules / "kernel/net/netfilter/ipvs").glob("ip_vs.ko*")):
        return True
    try:
        return "/ip_vs.ko" in (modules / "modules.builtin").read_text(errors="replace")
    except OSError:
        return False
