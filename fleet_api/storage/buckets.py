"""The buckets of a fleet."""

from __future__ import annotations

MODELS, OUTPUTS, LORAS, VOICES, WORKSPACE = "fleet-models", "fleet-outputs", "fleet-loras", "fleet-voices", "fleet-workspace"
BUCKETS = (MODELS, OUTPUTS, LORAS, VOICES, WORKSPACE)
PUBLIC = (OUTPUTS,)
"""Buckets that everybody may read by URL."""
