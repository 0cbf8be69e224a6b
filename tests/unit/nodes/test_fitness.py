"""What keeps a node from being given work."""

from __future__ import annotations

import pytest

from fleet_api.jobs.backoff import retry_after
from fleet_api.nodes.fitness import why_not
from gpu_inference.protocol import Metrics

WELL = Metrics(disk_free_mib=10_000, temperature=50)


@pytest.mark.parametrize("value", ["", "no", "false", "off", "0", None, " No "])
def test_a_label_that_says_no_is_no_maintenance(value: str | None) -> None:
    assert why_not({"maintenance": value} if value is not None else {}, WELL, 0, 0.0) is None


@pytest.mark.parametrize(
    ("labels", "metrics", "quarantined", "words"),
    [
        ({"maintenance": "Yes"}, WELL, 0.0, "it is in maintenance (its label maintenance=yes)"),
        ({}, WELL, 42.4, "3 jobs or loads in a row went wrong on it; it is tried again in 42 s"),
        ({}, Metrics(disk_free_mib=511), 0.0, "only 511 MiB of its disk are free, and 512 are needed"),
        ({}, Metrics(temperature=97), 0.0, "it is at 97 degrees and throttled"),
    ],
)
def test_each_reason_is_said(labels: dict[str, str], metrics: Metrics, quarantined: float, words: str) -> None:
    assert why_not(labels, metrics, 3, quarantined) == words


def test_what_a_node_does_not_say_is_not_held_against_it() -> None:
    assert why_not({}, Metrics(), 0, 0.0) is None


def test_failed_jobs_come_back_with_growing_pauses() -> None:
    assert [retry_after(failures) for failures in (1, 2, 3, 4, 5, 6, 7, 8, 1_000)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
