"""``fleet models import``, as a process, against a running API."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.live import Live
from tests.support.sdxl_numpy import use_tiny_vocabulary, write_tiny


@pytest.fixture(autouse=True)
def vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_vocabulary(tmp_path, monkeypatch)


def test_a_file_becomes_a_model(fleet: Command, served: Live, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.safetensors")
    said = fleet("models", "import", str(path), "--native-size", "128", "--url", served.url).stdout
    assert "Import tiny.checkpoint as tiny: succeeded" in said
    [found] = [each for each in fleet.json("models", "list", "--json", "--url", served.url) if each["stored"]]
    assert (found["name"], found["note"]) == ("tiny", "")
    assert "a model 'tiny' already" in fleet("models", "import", str(path), "--url", served.url, code=4).stderr
    assert "tiny.checkpoint" not in fleet("models", "list", "--url", served.url).stdout


def test_the_same_command_goes_on_after_a_failure(fleet: Command, served: Live, tmp_path: Path) -> None:
    """What was uploaded is not uploaded again."""
    path = write_tiny(tmp_path / "tiny.safetensors")
    words = ("models", "import", str(path), "--url", served.url)
    for _ in range(2):
        said = fleet(*words, "--name", "two", "--steps", "0", code=4).stderr
        assert "steps" in said
    assert "succeeded" in fleet(*words, "--name", "two", "--native-size", "128").stdout


def test_what_is_no_file_or_a_folder(fleet: Command, served: Live, tmp_path: Path) -> None:
    assert "there is no such file" in fleet("models", "import", str(tmp_path / "x.safetensors"), "--url", served.url, code=2).stderr
    assert "fleet-worker import" in fleet("models", "import", str(tmp_path), "--url", served.url, code=2).stderr
    assert "Say with --name" in fleet("models", "import", "stored", "--url", served.url, code=2).stderr
