"""Two labs that start at once on a machine without the nodes' image."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path

import pytest
from docker.errors import ImageNotFound

from fleet_api.lab import images, recipe
from fleet_api.lab.errors import LabFailed


class Engine:
    """An engine that has a base and no more, and takes a moment to build."""

    def __init__(self) -> None:
        self.images = self
        self.names = {recipe.PUBLIC_BASE}

    def get(self, name: str) -> None:
        if name not in self.names:
            raise ImageNotFound(name)


def test_one_makes_it_and_the_other_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, built, said = Engine(), list[str](), list[str]()

    def build(client: Engine, dockerfile: str, name: str) -> None:
        time.sleep(0.2)
        built.append(name)
        client.names.add(name)

    monkeypatch.setattr(images, "_build", build)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found: list[str] = []
    labs = [threading.Thread(target=lambda: found.append(images.node_image(engine, False, said.append))) for _ in range(2)]  # type: ignore[arg-type]
    for each in labs:
        each.start()
    for each in labs:
        each.join()
    assert len(built) == 1
    assert found == built * 2
    assert "Waiting for another lab, which makes the image." in said


def test_somebody_elses_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    images_lock = tmp_path / f"fleet-lab-image-{os.getuid()}.lock"
    images_lock.symlink_to(tmp_path / "theirs")
    with pytest.raises(LabFailed, match="cannot be opened"):
        images.node_image(Engine(), False, lambda text: None)  # type: ignore[arg-type]
    assert not (tmp_path / "theirs").exists()
