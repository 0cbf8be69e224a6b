"""A bundle in two parts is installed in two environments, and a release with the same libraries leaves theirs alone."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from ansible_collections.fleet.commander.plugins.module_utils import bundle, node_disk
from ansible_collections.fleet.commander.plugins.modules import fleet_venv

WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def wheel(name: str, version: str, **files: str) -> bytes:
    out, info = io.BytesIO(), f"{name}-{version}.dist-info"
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(f"{name}/__init__.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", WHEEL)
        for file, content in files.items():
            archive.writestr(f"{info}/{file}.txt", content)
        archive.writestr(f"{info}/RECORD", "")
    return out.getvalue()


def packed(path: Path, files: dict[str, bytes]) -> str:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return str(path)


def libraries(folder: Path, digest: str, version: str, hashed: str | None = None) -> dict[str, str]:
    """A file with one library, brought to the node."""
    content = wheel("library", version)
    needed = f"library=={version} --hash=sha256:{hashed or hashlib.sha256(content).hexdigest()}\n"
    files = {"requirements.txt": needed.encode(), f"wheels/library-{version}-py3-none-any.whl": content}
    return {"digest": digest, "bundle": packed(folder / f"agent-libraries-{digest}.tar", files)}


def own(folder: Path, digest: str, version: str) -> str:
    """A file with a wheel of our own, brought to the node."""
    content = wheel("worker", version, entry_points="[console_scripts]\nworker = worker:main\n")
    return packed(folder / f"agent-{digest}.tar", {f"own/worker-{version}-py3-none-any.whl": content})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fleet_venv, "PYTHON", sys.executable)
    return tmp_path


def versions(folder: Path) -> list[str]:
    """What the environment in use finds, by import and by what is told of packages."""
    told = "import library, worker, importlib.metadata as told; print(library.version, worker.version, told.version('library'))"
    python = folder / "current" / "bin" / "python"
    return subprocess.run([python, "-c", told], check=True, capture_output=True, text=True).stdout.split()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_release_with_the_same_libraries_brings_only_our_own_part(folder: Path) -> None:
    first = libraries(folder, "a0", "1.0")
    fleet_venv.install(str(folder), "1f", own(folder, "1f", "1"), first, [])
    assert versions(folder) == ["1.0", "1", "1.0"]
    assert names(folder) == ["1f", "current", "libraries-a0"], "the files are gone"
    assert node_disk.in_use(str(folder)) == ("1f", "a0")
    assert (folder / "current" / "bin" / "worker").exists()

    there = (folder / "libraries-a0" / "pyvenv.cfg").stat()
    fleet_venv.install(str(folder), "2e", own(folder, "2e", "2"), first, [])
    assert versions(folder) == ["1.0", "2", "1.0"]
    assert names(folder) == ["2e", "current", "libraries-a0"]
    assert (folder / "libraries-a0" / "pyvenv.cfg").stat() == there, "untouched"

    fleet_venv.install(str(folder), "3d", own(folder, "3d", "2"), libraries(folder, "b1", "1.1"), [])
    assert versions(folder) == ["1.1", "2", "1.1"]
    assert names(folder) == ["3d", "current", "libraries-b1"], "the others are in nobody's use"


def test_a_process_of_the_version_that_was_replaced_still_finds_its_libraries(folder: Path) -> None:
    first = libraries(folder, "a0", "1.0")
    fleet_venv.install(str(folder), "1f", own(folder, "1f", "1"), first, [])
    told = "import sys; print('up', flush=True); sys.stdin.readline(); import library; print(library.version)"
    with subprocess.Popen([folder / "current" / "bin" / "python", "-c", told], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        fleet_venv.install(str(folder), "2e", own(folder, "2e", "2"), first, [])
        assert process.communicate("\n", timeout=20)[0] == "1.0\n"


def test_an_installation_that_fails_leaves_the_one_in_use(folder: Path) -> None:
    fleet_venv.install(str(folder), "1f", own(folder, "1f", "1"), libraries(folder, "a0", "1.0"), [])
    with pytest.raises(fleet_venv.InstallFailed, match="The wheels do not fit this machine: "):
        fleet_venv.install(str(folder), "2e", own(folder, "2e", "2"), libraries(folder, "b1", "1.1", hashed="0" * 64), [])
    assert versions(folder) == ["1.0", "1", "1.0"]
    with pytest.raises(FileNotFoundError):
        fleet_venv.install(str(folder), "2e", str(folder / "agent-2e.tar.gone"), libraries(folder, "b1", "1.1"), [])
    assert versions(folder) == ["1.0", "1", "1.0"]
    fleet_venv.install(str(folder), "2e", own(folder, "2e", "2"), libraries(folder, "b1", "1.1"), [])
    assert versions(folder) == ["1.1", "2", "1.1"]
    assert names(folder) == ["2e", "current", "libraries-b1"]


def test_an_environment_without_its_libraries_is_made_anew(folder: Path) -> None:
    fleet_venv.install(str(folder), "1f", own(folder, "1f", "1"), libraries(folder, "a0", "1.0"), [])
    shutil.rmtree(folder / "libraries-a0")
    assert node_disk.in_use(str(folder)) == (None, None)
    with pytest.raises(fleet_venv.InstallFailed):  # and is not told to be there while it is half made
        fleet_venv.install(str(folder), "1f", own(folder, "1f", "1"), libraries(folder, "a0", "1.0", hashed="0" * 64), [])
    assert node_disk.in_use(str(folder)) == (None, None)
    (folder / "1f").mkdir(exist_ok=True)
    assert node_disk.in_use(str(folder)) == (None, None)
    fleet_venv.install(str(folder), "1f", own(folder, "1f", "1"), libraries(folder, "a0", "1.0"), [])
    assert versions(folder) == ["1.0", "1", "1.0"]
    assert names(folder) == ["1f", "current", "libraries-a0"]


def test_an_environment_of_one_part_is_followed_by_one_of_two(folder: Path) -> None:
    whole = packed(folder / "agent-1f.tar", {"own/worker-1-py3-none-any.whl": wheel("worker", "1")})
    fleet_venv.install(str(folder), "1f", whole, None, [])
    assert node_disk.in_use(str(folder)) == ("1f", None)
    assert names(folder) == ["1f", "current"]
    fleet_venv.install(str(folder), "2e", own(folder, "2e", "2"), libraries(folder, "a0", "1.0"), [])
    assert versions(folder) == ["1.0", "2", "1.0"]
    assert names(folder) == ["2e", "current", "libraries-a0"]


def test_libraries_are_told_by_their_wheels_and_the_kind_of_machine_alone(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text("one")
    before = bundle.digest_of("a==1", [str(tmp_path)], "3.11.2", "x86_64"), bundle.digest_of("a==1", [], "3.11.2", "x86_64")
    (tmp_path / "worker.py").write_text("two")
    after = bundle.digest_of("a==1", [str(tmp_path)], "3.11.2", "x86_64"), bundle.digest_of("a==1", [], "3.11.9", "x86_64")
    assert before[0] != after[0]
    assert before[1] == after[1]
    assert bundle.digest_of("a==2", [], "3.11.2", "x86_64") != after[1]
    assert bundle.digest_of("a==1", [], "3.11.2", "aarch64") != after[1]


def test_a_file_is_made_once_and_nothing_is_left_of_one_that_failed(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    filled: list[str] = []

    def fill(folder: str) -> None:
        filled.append(folder)
        (Path(folder) / "own").mkdir()
        (Path(folder) / "own" / "worker.whl").write_bytes(b"wheel")

    def fail(folder: str) -> None:
        raise bundle.BundleFailed("It cannot be fetched.")

    with pytest.raises(bundle.BundleFailed):
        bundle.make(cache, "agent-1f.tar", fail)
    path = bundle.make(cache, "agent-1f.tar", fill)
    assert bundle.make(cache, "agent-1f.tar", fill) == path
    assert len(filled) == 1
    assert sorted(each.name for each in Path(cache).iterdir()) == [".lock", "agent-1f.tar"]
    with tarfile.open(path) as tar:
        assert tar.getnames() == ["own", "own/worker.whl"]
