"""What an engine is given to build from, and what never leaves this machine."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from fleet_api.errors import FleetError, InvalidValue, TooLarge, Unavailable
from fleet_api.services.builds.context import BuildStopped, Packed, Source, find, pack


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "roots" / "app"
    (folder / "src").mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / "src" / "main.py").write_text("print()\n")
    return tmp_path / "roots"


def packed(source: Source, limit: int = 10**6) -> dict[str, tarfile.TarInfo]:
    out = io.BytesIO()
    pack(source, out, limit, lambda: False)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        return {entry.name: entry for entry in tar}


def locate(root: Path, dockerfile: str, context: str | None = None, home: str = "/nowhere/home") -> Source:
    return find([str(root)], Path(home), dockerfile, context)


@pytest.mark.parametrize("given", ["app", "app/Dockerfile", "app/../app/Dockerfile", "ABSOLUTE"])
def test_found_in_a_root(root: Path, given: str) -> None:
    assert locate(root, given.replace("ABSOLUTE", str(root / "app"))) == Source(root / "app", "Dockerfile")


def test_a_dockerfile_beside_its_context(root: Path) -> None:
    (root / "app" / "docker").mkdir()
    (root / "app" / "docker" / "gpu.Dockerfile").write_text("FROM scratch\n")
    assert locate(root, "app/docker/gpu.Dockerfile", "app") == Source(root / "app", "docker/gpu.Dockerfile")


def test_nothing_outside_of_the_roots(root: Path, tmp_path: Path) -> None:
    (tmp_path / "roots-too").mkdir()
    (tmp_path / "roots-too" / "Dockerfile").write_text("FROM scratch\n")
    (root / "out").symlink_to(tmp_path / "roots-too")
    (root / "app" / "Linked").symlink_to("/etc/passwd")
    for given in ("/etc/passwd", "../roots-too/Dockerfile", "out", "out/Dockerfile", "app/Linked", str(tmp_path / "roots-too"), "/"):
        with pytest.raises(InvalidValue, match="must be in one of the build roots") as refused:
            locate(root, given)
        assert refused.value.detail.startswith("dockerfile_path: ")
    with pytest.raises(InvalidValue, match=r"^context_path: '/etc' is not allowed"):
        locate(root, "app", "/etc")


@pytest.mark.parametrize(
    ("dockerfile", "context", "sentence"),
    [
        ("gone", None, "dockerfile_path: there is no file 'gone' in the build roots"),
        ("app/src", None, "dockerfile_path: there is no file"),
        ("app", "app/gone", "context_path: there is no folder"),
        ("app", "app/src", "must be in the context's folder"),
        ("a" * 300, None, "cannot be looked at: File name too long"),
        ("app/Dockerfile/x", None, "there is no file"),
        ("app", "b" * 300, "cannot be looked at: File name too long"),
    ],
)
def test_what_is_not_there(root: Path, dockerfile: str, context: str | None, sentence: str) -> None:
    with pytest.raises(InvalidValue, match=sentence):
        locate(root, dockerfile, context)


def test_the_data_folder_is_no_part_of_it(root: Path) -> None:
    for home in (root / "app" / "home", root / "app", root):
        with pytest.raises(InvalidValue, match="the control plane's own data"):
            locate(root, "app", home=str(home))


def test_no_roots_no_builds() -> None:
    with pytest.raises(Unavailable, match="FLEET_BUILD_ROOTS"):
        find([], Path("/h"), "x", None)


def test_packed_as_it_is_with_links_as_links(root: Path) -> None:
    folder = root / "app"
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "folder").symlink_to("/etc")
    (folder / "run.sh").write_text("true\n")
    (folder / "run.sh").chmod(0o755)
    os.mkfifo(folder / "pipe")
    found = packed(Source(folder, "Dockerfile"))
    assert set(found) == {"Dockerfile", "src", "src/main.py", "link", "folder", "run.sh"}
    assert (found["link"].linkname, found["folder"].linkname, found["run.sh"].mode) == ("/etc/passwd", "/etc", 0o755)
    assert {(entry.uid, entry.uname) for entry in found.values()} == {(0, "root")}


def test_dockerignore(root: Path) -> None:
    folder = root / "app"
    for name in ("a.log", "keep.log", "src/b.log", "deep/x/y", "deep/x/z", "Other"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / ".dockerignore").write_text("# logs\n*.log\n!keep.log\nsrc/*.log\ndeep\n!deep/x/y\nDockerfile\nOther\n")
    assert set(packed(Source(folder, "Dockerfile"))) == {".dockerignore", "Dockerfile", "src", "src/main.py", "keep.log", "deep/x/y"}
    (folder / "Dockerfile.dockerignore").write_text("src\n")
    assert "src/main.py" not in packed(Source(folder, "Dockerfile"))


def test_bounds(root: Path) -> None:
    (root / "app" / "large").write_bytes(b"x" * 5_000)
    with pytest.raises(TooLarge, match="more than 4,999 bytes"):
        packed(Source(root / "app", "Dockerfile"), 4_999)
    with pytest.raises(BuildStopped):
        pack(Source(root / "app", "Dockerfile"), io.BytesIO(), 10**6, lambda: True)
    assert pack(Source(root / "app", "Dockerfile"), io.BytesIO(), 10**6, lambda: False) == Packed(4, 5_021)


def test_a_file_that_cannot_be_read_is_a_sentence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: str, *more: Any, **named: Any) -> int:
        if path == refused:
            raise PermissionError(13, "Permission denied", path)
        return real(path, *more, **named)

    refused = "Dockerfile"
    monkeypatch.setattr("fleet_api.services.builds.context.os.open", refuse)
    with pytest.raises(FleetError, match=r"context_path: Dockerfile cannot be read: Permission denied."):
        packed(Source(root / "app", "Dockerfile"))
    refused = "src"
    with pytest.raises(FleetError, match=r"context_path: the folder src cannot be read: Permission denied."):
        packed(Source(root / "app", "Dockerfile"))


def test_a_folder_that_is_replaced_after_it_was_found(root: Path, tmp_path: Path) -> None:
    source = locate(root, "app")
    (tmp_path / "secret" / "app").mkdir(parents=True)
    (tmp_path / "secret" / "app" / "key").write_text("x")
    root.rename(tmp_path / "away")
    root.symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidValue, match="was replaced by something else"):
        packed(source)
    root.unlink()
    root.mkdir()
    (root / "app").symlink_to(tmp_path / "secret" / "app")
    assert packed(source) == {}


def test_a_file_beyond_the_limit_is_not_copied_first(root: Path) -> None:
    with (root / "app" / "huge").open("wb") as file:
        file.truncate(50_000_000)
    out = io.BytesIO()
    with pytest.raises(TooLarge, match="more than 5,000 bytes"):
        pack(locate(root, "app"), out, 5_000, lambda: False)
    assert out.tell() < 20_000


def test_stopped_amid_a_large_file(root: Path) -> None:
    with (root / "app" / "huge").open("wb") as file:
        file.truncate(50_000_000)
    out, asked = io.BytesIO(), iter(range(10**9))
    with pytest.raises(BuildStopped):
        pack(locate(root, "app"), out, 10**9, lambda: next(asked) > 10)
    assert out.tell() < 5_000_000


def test_what_to_leave_out_that_cannot_be_read(root: Path) -> None:
    (root / "app" / ".dockerignore").write_text("[z-a]\n")
    with pytest.raises(InvalidValue, match=r"\.dockerignore has a pattern"):
        packed(locate(root, "app"))
    (root / "app" / ".dockerignore").write_text("x\n" * 600_000)
    with pytest.raises(InvalidValue, match="fewer patterns"):
        packed(locate(root, "app"))
