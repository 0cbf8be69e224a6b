"""The buckets of a fleet."""

from __future__ import annotations

MODELS, OUTPUTS, LORAS, VOICES, WORKSPACE = "fleet-models", "fleet-outputs", "fleet-loras", "fleet-voices", "fleet-workspace"
BUCKETS = (MODELS, OUTPUTS, LORAS, VOICES, WORKSPACE)
PUBLIC = (OUTPUTS,)
"""Buckets that everybody may read by URL."""


def is_fleets(url: str) -> bool:
    """Whether ``s3://bucket/prefix`` is in one of the fleet's own buckets, of which one is public, and one empties itself."""
    return url.removeprefix("s3://").partition("/")[0] in BUCKETS
