"""Where a node is on its way through the fleet, and what is shown of it.

Kept in the row::

    discovered -> installing -> managed -> retired
                       \\-> discovered (it failed)      managed <-> host_key_changed

Shown as ``status``: a managed node is ``online``, ``degraded`` (there, with something wrong, which ``reason`` names) or ``offline``
(three beats missed); in every other state it is that state.
"""

from __future__ import annotations

from enum import StrEnum


class NodeState(StrEnum):
    """What is kept."""

    DISCOVERED = "discovered"
    INSTALLING = "installing"
    MANAGED = "managed"
    HOST_KEY_CHANGED = "host_key_changed"
    RETIRED = "retired"


STATUSES = ("discovered", "installing", "online", "degraded", "offline", "host_key_changed", "retired")


def shown(state: str, reason: str, online: bool) -> str:
    """Return a node's status."""
    if state != NodeState.MANAGED:
        return str(state)
    if not online:
        return "offline"
    return "degraded" if reason else "online"
