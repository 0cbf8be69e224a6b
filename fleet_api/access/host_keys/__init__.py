"""Pinned SSH host keys."""

from fleet_api.access.host_keys.service import HostKeys

__all__ = ["HostKeys"]
