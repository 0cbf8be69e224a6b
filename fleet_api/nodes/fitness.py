"""May a node be given work now, and if not, why: maintenance, faults in a row, no disk, too hot. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_inference.protocol import Metrics

MAINTENANCE_LABEL = "maintenance"
"""A node with this label gets no new jobs: ``fleet nodes --maintenance NODE``."""

FAULTS_IN_A_ROW = 3
FIRST_QUARANTINE_SECONDS = 60.0
LONGEST_QUARANTINE_SECONDS = 900.0

LEAST_DISK_MIB = 512.0
HOTTEST = 97.0
"""Degrees Celsius at which a Jetson is throttled (``docs/hardware.md``)."""


def quarantine_seconds(times: int) -> float:
    """Return for how long a node gets nothing, then one job as a trial: a minute the first time, doubled at each further fault."""
    return float(min(LONGEST_QUARANTINE_SECONDS, FIRST_QUARANTINE_SECONDS * 2 ** min(times - 1, 10)))


def why_not(labels: Mapping[str, Any], metrics: Metrics, faults: int, quarantined_for: float) -> str | None:
    """Return the reason, as the end of a sentence, or None. ``quarantined_for`` is the seconds that a quarantine still lasts."""
    wanted = str(labels.get(MAINTENANCE_LABEL, "")).strip().lower()
    if wanted not in ("", "no", "false", "off", "0"):
        return f"it is in maintenance (its label {MAINTENANCE_LABEL}={wanted})"
    if quarantined_for > 0:
        return f"{faults} jobs or loads in a row went wrong on it; it is tried again in {quarantined_for:.0f} s"
    if 0 < metrics.disk_free_mib < LEAST_DISK_MIB:
        return f"only {metrics.disk_free_mib:.0f} MiB of its disk are free, and {LEAST_DISK_MIB:.0f} are needed"
    if metrics.temperature is not None and metrics.temperature >= HOTTEST:
        return f"it is at {metrics.temperature:.0f} degrees and throttled"
    return None
