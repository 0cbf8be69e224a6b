"""The parity group: our pipeline beside torch and diffusers, which a newcomer's machine need not have.

Where they are missing the group is skipped with the way to add them; with FLEET_REQUIRE_PARITY=1 that is a failure.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

HOW = "The parity group needs torch and diffusers; add them with: pip install --group parity (make test-parity does it)"


@pytest.fixture(scope="session")
def libraries() -> tuple[Any, Any]:
    """(torch, diffusers)."""
    try:
        return importlib.import_module("torch"), importlib.import_module("diffusers")
    except ImportError as error:
        message = f"{HOW} ({error})"
        if os.environ.get("FLEET_REQUIRE_PARITY") == "1":
            pytest.fail(message)
        pytest.skip(message)
