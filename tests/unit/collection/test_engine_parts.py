"""What is told of a node's engine, of its picture, and of wheels that are missing."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest
from ansible_collections.fleet.commander.plugins.module_utils import bundle, engine, png
from ansible_collections.fleet.commander.plugins.modules import fleet_venv
from PIL import Image

UP = {"event": "The engine is up.", "pid": 7, "backend": "onnx", "devices": ["cuda", "cpu"], "models": ["a", "b"]}


def said(*entries: dict[str, object]) -> str:
    return "\n".join(["no json", "[]", *map(json.dumps, entries)])


@pytest.mark.parametrize(
    ("entries", "children", "up", "reason"),
    [
        ([UP], {7: 5.0}, True, ""),
        ([UP], {}, False, "it was not started yet"),
        ([], {8: 5.0}, False, "it is starting"),
        ([], {8: 500.0}, True, ""),  # the journal has lost its word
        ([UP, {"event": "The engine has ended."}], {}, False, "it ended"),
        ([{"event": "The engine does not start.", "reason": "No memory."}], {}, False, "No memory."),
        ([{"event": "The engine does not start.", "reason": "No memory."}, UP], {7: 1.0}, True, ""),
        ([{"event": engine.NONE}], {}, False, "the agent was started without an engine"),
    ],
)
def test_an_engine_is_judged_by_its_process_and_its_words(
    entries: list[dict[str, object]], children: dict[int, float], up: bool, reason: str
) -> None:
    found = engine.judged(children, said(*entries), True)
    assert (found["up"], found["reason"]) == (up, reason)


def test_an_agent_that_does_not_run_has_none_up() -> None:
    assert engine.judged({7: 900.0}, said(UP), False)["reason"] == "the agent does not run"


def test_models_and_what_was_left_out_are_told() -> None:
    found = engine.judged({7: 1.0}, said({"event": engine.LEFT_OUT, "reason": "/srv/x has no manifest."}, UP), True)
    assert (found["backend"], found["models"], found["problems"]) == ("onnx", ["a", "b"], ["/srv/x has no manifest."])
    assert found["devices"] == ["cuda", "cpu"]
    assert engine.judged({8: 500.0}, "", True)["devices"] is None, "the journal has lost its word"


def picture(mode: str, size: tuple[int, int], plain: bool = False) -> bytes:
    image = Image.new(mode, size, 0)
    if not plain:
        image.frombytes(hashlib.shake_128(b"noise").digest(3 * size[0] * size[1]))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def test_a_picture_is_told_from_what_is_none() -> None:
    good = picture("RGB", (64, 40))
    assert png.size_of(good) == (64, 40)
    damaged = good[:60] + bytes([good[60] ^ 1]) + good[61:]
    for content, words in (
        (b"JFIF", "no PNG"),
        (good[:-30], "cut off"),
        (damaged, "damaged"),
        (picture("RGB", (64, 40), plain=True), "one colour"),
        (b"", "no PNG"),
    ):
        with pytest.raises(png.NoPicture, match=words):
            png.size_of(content)


def wheel(folder: Path, name: str, version: str, tag: str = "py3-none-any") -> str:
    path, info = folder / f"{name}-{version}-{tag}.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetched(tmp_path: Path, needed: str) -> list[str]:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "requirements.txt").write_text(needed)
    bundle._download(str(folder), str(tmp_path / "kept"), bundle.GLIBC["engine"], "3.10.12", "aarch64", str(tmp_path / "house"))
    return sorted(path.name for path in (folder / "wheels").iterdir())


def test_a_wheelhouse_serves_without_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    (tmp_path / "house").mkdir()
    one = wheel(tmp_path / "house", "some_thing", "1.0")
    two = wheel(tmp_path / "house", "other", "2", "cp310-cp310-manylinux_2_28_aarch64")
    (tmp_path / "house" / "notes.txt").touch()
    needed = f"some-thing==1.0 \\\n    --hash=sha256:{one}\nother==2 \\\n    --hash=sha256:{two}\n"
    assert fetched(tmp_path, needed) == ["other-2-cp310-cp310-manylinux_2_28_aarch64.whl", "some_thing-1.0-py3-none-any.whl"]


def test_a_kept_wheel_that_is_damaged_is_replaced(tmp_path: Path) -> None:
    for folder in ("house", "kept"):
        (tmp_path / folder).mkdir()
    digest = wheel(tmp_path / "house", "there", "1.0")
    kept = tmp_path / "kept" / "there-1.0-py3-none-any.whl"
    kept.write_bytes(b"half")
    assert fetched(tmp_path, f"there==1.0 \\\n    --hash=sha256:{digest}\n") == [kept.name]
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == digest


def test_each_wheel_that_a_wheelhouse_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    wheel(tmp_path / "house", "there", "1.0")
    needed = "".join(f"{name} \\\n    --hash=sha256:{'0' * 64}\n" for name in ("there==1.0", "there-too==1.0", "numpy==2.4.6"))
    with pytest.raises(bundle.BundleFailed, match=r"lacks there-too==1\.0, numpy==2\.4\.6 for Python 3\.10\.12 on aarch64"):
        fetched(tmp_path, needed)


@pytest.mark.parametrize("wrong", ["hash", "machine"])
def test_a_wheel_that_does_not_fit_is_one_sentence(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "house").mkdir()
    right = wheel(tmp_path / "house", "there", "1.0", "py3-none-any" if wrong == "hash" else "cp310-cp310-manylinux_2_28_x86_64")
    with pytest.raises(bundle.BundleFailed, match="does not serve: ") as failed:
        fetched(tmp_path, f"there==1.0 \\\n    --hash=sha256:{'0' * 64 if wrong == 'hash' else right}\n")
    assert "\n" not in str(failed.value)
    assert "wants wheels for Python 3.10.12 on aarch64" in str(failed.value)


def test_the_engine_s_lock_holds_what_the_agent_s_does(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[3])
    for python in ("3.8.10", "3.10.12", "3.12.3"):
        agent, whole = (bundle.requirements(bundle.lock_of(product, root, python), python, "aarch64") for product in ("agent", "engine"))
        pins = [{line for line in text.splitlines() if "==" in line} for text in (agent, whole)]
        assert pins[0] < pins[1]
        assert any(line.startswith("onnxruntime==") for line in pins[1])


def test_modules_of_the_system_are_linked_where_they_are(tmp_path: Path) -> None:
    packages = tmp_path / "venv" / "lib" / "python3.10" / "site-packages"
    packages.mkdir(parents=True)
    system = tmp_path / "system"
    for path in ("python3.10/dist-packages/tensorrt", "python3/dist-packages/tensorrt", "python3/dist-packages/tensorrt_lean"):
        (system / path).mkdir(parents=True)
    names = ["tensorrt", "tensorrt_dispatch", "tensorrt_lean"]
    found = fleet_venv.links(str(tmp_path / "venv"), names, str(system))
    assert {Path(path).name: target.removeprefix(f"{system}/") for path, target in found.items()} == {
        "tensorrt": "python3.10/dist-packages/tensorrt", "tensorrt_lean": "python3/dist-packages/tensorrt_lean",
    }  # fmt: skip
    for path, target in found.items():
        Path(path).symlink_to(target)
    assert fleet_venv.links(str(tmp_path / "venv"), names, str(system)) == {}
