"""The collection is one tree in three places: a checkout, the wheel, and the tarball of ansible-galaxy."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from fleet_api import collection
from tests.support.checkout import copied

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
INSIDE = "ansible_collections/fleet/commander/"
ONLY_TARBALL, ONLY_WHEEL = {"MANIFEST.json", "FILES.json", "CHANGELOG.md"}, {"galaxy.yml"}
NEEDED = {
    "ansible.cfg", "meta/runtime.yml", "playbooks/onboard.yml", "roles/node_agent/templates/fleet-agent.service.j2", "inventory/fleet.yml",
    "plugins/inventory/fleet.py", "plugins/action/fleet_node_lock.py", "plugins/module_utils/ledger.py", "requirements/runtime.lock",
    "gpu_inference/requirements-agent-py38.lock",
}  # fmt: skip


def run(*words: str, **environment: str) -> str:
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1", **environment}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(copied(folder / "source")),
    ]
    run(*words)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tarball")
    run(str(BIN / "ansible-galaxy"), "collection", "build", "--output-path", str(folder), str(copied(folder / "source")))
    return next(folder.glob("*.tar.gz"))


def names_in(path: Path) -> set[str]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return {name.removeprefix(INSIDE) for name in archive.namelist() if name.startswith(INSIDE)}
    with tarfile.open(path) as tar:
        return {entry.name for entry in tar if entry.isfile()}


def test_wheel_and_tarball_hold_the_same(wheel: Path, tarball: Path) -> None:
    in_wheel, in_tarball = names_in(wheel) - ONLY_WHEEL, names_in(tarball) - ONLY_TARBALL
    assert in_wheel == in_tarball
    assert in_wheel >= NEEDED
    assert not any(name.startswith(("tests/", "fleet_api/", ".")) or name.endswith(".pyc") for name in in_wheel)


def test_onboard_is_found_in_a_checkout() -> None:
    assert "Docker Engine" in listed(ROOT)


def test_onboard_is_found_in_a_wheel_and_in_a_tarball(wheel: Path, tarball: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "wheel")
    with tarfile.open(tarball) as tar:
        tar.extractall(tmp_path / "tarball" / INSIDE, filter="data")
    said = [listed(tmp_path / name / INSIDE, ANSIBLE_COLLECTIONS_PATH=str(tmp_path / name)) for name in ("wheel", "tarball")]
    assert said[0].replace("wheel", "tarball") == said[1]
    assert "fleet.commander.node_agent : Enrol it" in said[0]


def listed(root: Path, **environment: str) -> str:
    words = [str(BIN / "ansible-playbook"), "-i", "agx0,", str(root / "playbooks" / "onboard.yml"), "--list-tasks"]
    run(*words[:-1], "--syntax-check", ANSIBLE_CONFIG=str(root / "ansible.cfg"), **environment)
    return run(*words, ANSIBLE_CONFIG=str(root / "ansible.cfg"), **environment)


def test_a_link_leads_to_the_checkout_and_never_over_real_files(tmp_path: Path) -> None:
    place = collection.link(ROOT, tmp_path)
    assert (place / "galaxy.yml").is_file()
    assert collection.link(ROOT, tmp_path) == place, "again"
    place.unlink()
    place.mkdir()
    with pytest.raises(collection.LinkTaken, match="pip uninstall fleet-commander"):
        collection.link(ROOT, tmp_path)


def test_the_command_links_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert collection.main(["unlink"]) == 2
    assert "Usage: python -m fleet_api.collection link" in capsys.readouterr().err
    assert collection.root() == ROOT
