"""Previews from a real engine through a real agent."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.fake_control_plane import FakeControlPlane

Make = Callable[..., Any]


def test_they_come_where_they_are_asked_for(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    agent_of(slow_model)
    plane.finished(plane.submit("without", model="slow", steps=40))
    assert plane.previews == []
    begun = time.monotonic()
    job = plane.finished(plane.submit("with", model="slow", steps=80, preview_every=1))
    seconds = time.monotonic() - begun
    assert job.completions == 1
    assert 1 <= len(plane.previews) <= 2 * seconds + 1
    for path, body in plane.previews:
        assert path.startswith("previews/with/1?step=")
        assert Image.open(io.BytesIO(body)).format == "JPEG"


def test_a_control_plane_that_refuses_them_or_hangs_costs_the_job_nothing(
    plane: FakeControlPlane, agent_of: Make, slow_model: Path
) -> None:
    agent_of(slow_model)

    def interfere(_method: str, path: str) -> int | None:
        return {0: 500, 1: 404, 2: 410}[len(plane.calls) % 3] if path.startswith("previews/") else None

    plane.interfere = interfere
    job = plane.finished(plane.submit("j1", model="slow", steps=60, preview_every=1))
    assert (job.attempt, job.completions, job.failures) == (1, 1, [])
    gaps = [later - earlier for earlier, later in zip(job.beats, job.beats[1:], strict=False)]
    assert max(gaps) < 2, "the beats went on"
