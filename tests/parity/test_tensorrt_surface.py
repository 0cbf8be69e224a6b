"""The surfaces that the stand-in of TensorRT is held against are those of the wheels that NVIDIA publishes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.tensorrt_surface import PLACE, RELEASES, read

pytestmark = [pytest.mark.parity, pytest.mark.timeout(600)]


@pytest.mark.parametrize("release", RELEASES)
def test_the_surface_is_that_of_the_wheels(libraries: Any, release: str) -> None:
    assert read(release) == json.loads(PLACE.read_text(encoding="utf-8"))[release]
