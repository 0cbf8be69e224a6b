"""Mounts by their real paths, on the machine of the control plane."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_api.errors import InvalidValue
from fleet_api.services.mounts import MountRules


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    folder = tmp_path / "mnt"
    (folder / "models").mkdir(parents=True)
    return folder


def refused(rules: MountRules, source: Path, word: str) -> None:
    with pytest.raises(InvalidValue, match=word):
        rules.checked(str(source), "/x")


def test_links_lead_nowhere_else(listed: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    rules = MountRules.of([str(listed)], str(tmp_path / "home"))
    (listed / "inside").symlink_to(listed / "models")
    assert rules.checked(str(listed / "inside"), "/x").source == str(listed / "inside")
    for name, target, word in (
        ("home", tmp_path / "home", "the control plane's data"),
        ("all", Path("/"), "the control plane's data"),
        ("run", Path("/var/run"), "the Docker socket"),
        ("other", tmp_path / "other", "leads out of"),
    ):
        (listed / name).symlink_to(target)
        refused(rules, listed / name, word)
        refused(rules, listed / name / "below", word if word == "leads out of" else "not allowed")


def test_a_data_folder_behind_a_link(listed: Path, tmp_path: Path) -> None:
    (listed / "fleet").mkdir()
    (tmp_path / "home").symlink_to(listed / "fleet")
    rules = MountRules.of([str(listed)], str(tmp_path / "home"))
    refused(rules, listed / "fleet" / "vault", "the control plane's data")
    refused(rules, listed, "the control plane's data")


def test_the_engines_own_socket(listed: Path, tmp_path: Path) -> None:
    rules = MountRules.of([str(listed)], str(tmp_path / "home"), f"unix://{listed}/engine/docker.sock")
    refused(rules, listed / "engine", "the Docker socket")
    refused(rules, listed / "engine" / "docker.sock", "the Docker socket")


def test_a_listed_folder_that_is_a_link_itself(listed: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(listed)
    rules = MountRules.of([str(tmp_path / "data")], str(tmp_path / "home"))
    assert rules.checked(str(tmp_path / "data" / "models"), "/x").source == str(tmp_path / "data" / "models")
