"""Addresses that callers want to be called at, as their text alone tells. Where they lead is looked at when they are called."""

from __future__ import annotations

from fleet_api.adapters.http_out.url import parts_of


def checked_url(value: str) -> str:
    """Return a callback address that may be stored. Raises ValueError with the rule that it breaks."""
    parts_of(value)
    return value
