"""The agent's Dockerfiles: read as an engine reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "gpu_inference"
FILES = sorted((FOLDER / "images").glob("*.Dockerfile"))
KNOWN = {"ARG", "FROM", "RUN", "COPY", "ENV", "VOLUME", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return (instruction, its text), lines that go on joined."""
    text = re.sub(r"\\\n\s*", " ", "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#")))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def test_one_for_each_kind_of_machine() -> None:
    assert [path.stem.partition(".")[0] for path in FILES] == ["cuda", "jetpack5", "jetpack6", "jetpack7"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_can_be_read(path: Path) -> None:
    found = instructions(path)
    assert {word for word, _ in found} <= KNOWN
    assert [word for word, _ in found[:2]] == ["ARG", "FROM"]
    assert found[1][1] == "${BASE_IMAGE}"
    assert found[-2:] == [("ENTRYPOINT", '["/opt/fleet/agent/bin/fleet-worker"]'), ("CMD", '["run"]')]
    assert all(isinstance(json.loads(text), list) for word, text in found if word in ("ENTRYPOINT", "CMD"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_built_from_what_is_there(path: Path) -> None:
    found = instructions(path)
    for text in (text for word, text in found if word == "COPY"):
        assert all((FOLDER / source).exists() for source in text.split()[:-1]), text
    declared = {text.partition("=")[0]: text.partition("=")[2] for word, text in found if word == "ARG"}
    used = set(re.findall(r"\$\{(\w+)\}", path.read_text()))
    assert used <= set(declared)
    assert (FOLDER / declared["REQUIREMENTS"]).is_file()
    assert f"image_build_dockerfile=images/{path.name}" in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_base_has_a_tag_that_stays_and_says_that_nobody_pulled_it(path: Path) -> None:
    base = instructions(path)[0][1].partition("=")[2]
    name, _, tag = base.rpartition(":")
    assert name.startswith("nvcr.io/nvidia/")
    assert tag not in ("", "latest")
    assert "@sha256" not in base
    assert "Unverified" in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_runs_as_nobody_special_and_installs_by_hash(path: Path) -> None:
    found = instructions(path)
    assert [text for word, text in found if word == "USER"] == ["fleet-agent"]
    runs = [text for word, text in found if word == "RUN"]
    assert all("rm -rf /var/lib/apt/lists/*" in text for text in runs if "apt-get update" in text)
    assert all("--require-hashes" in text or "--no-deps" in text for text in runs if "pip install" in text)
