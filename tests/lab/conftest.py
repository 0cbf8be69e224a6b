"""Real nodes for tests marked ``lab``."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.lab import Node, NoLabHere, fleet, lab_name, lab_up

MakeLab = Callable[..., list[Node]]


@pytest.fixture(scope="module")
def make_lab() -> Iterator[MakeLab]:
    """``make_lab(of, nodes, *options)``: a lab of one's own; the same words give the same lab again.

    It is gone with the file's last test: some sixteen nodes at once exhaust the kernel's usual 128 inotify instances of a user, and then
    no further one starts.
    """
    made: set[str] = set()

    def make(of: str, nodes: int = 1, *options: str) -> list[Node]:
        name = lab_name(of)
        made.add(name)
        try:
            return lab_up(name, nodes, *options)
        except NoLabHere as error:
            if os.environ.get("FLEET_REQUIRE_LAB"):
                raise
            pytest.skip(f"the lab wants a Docker Engine: {error}")

    yield make
    for name in made:
        fleet("lab", "down", "--name", name)


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> list[Node]:
    """Two fresh nodes without an engine, shared by the tests of a file."""
    return make_lab("nodes", 2)


@pytest.fixture(scope="session")
def programs_of_node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the documents' JavaScript needs, as ``NODE_PATH``."""
    folder = tmp_path_factory.mktemp("node")
    for path in (Path(__file__).parents[1] / "support" / "node").glob("*.json"):
        shutil.copy(path, folder)
    try:
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("FLEET_REQUIRE_LAB"):
            raise
        pytest.skip(f"the documents' JavaScript wants Node, and axios from its registry: {error}")
    return folder / "node_modules"
