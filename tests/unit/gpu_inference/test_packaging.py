from __future__ import annotations

import re
from pathlib import Path

import pytest

import gpu_inference

FOLDER = Path(gpu_inference.__file__).resolve().parent
PROJECT = FOLDER / "pyproject.toml"


@pytest.mark.skipif(not PROJECT.exists(), reason="only in a checkout")
def test_every_package_is_shipped_and_training_is_not() -> None:
    listed = re.search(r"^packages = \[(.*?)\]", PROJECT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert listed is not None
    names = set(re.findall(r'"([^"]+)"', listed.group(1)))
    found = {
        ".".join(["gpu_inference", *path.parent.relative_to(FOLDER).parts])
        for path in FOLDER.rglob("__init__.py")
        if "build" not in path.relative_to(FOLDER).parts
    }
    assert names == {name for name in found if not name.startswith("gpu_inference.builtin.training")}


@pytest.mark.skipif(not PROJECT.exists(), reason="only in a checkout")
def test_every_model_and_lora_is_shipped() -> None:
    listed = re.search(r"^gpu_inference = \[(.*?)\]", PROJECT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert listed is not None
    shipped = {path for pattern in re.findall(r'"([^"]+)"', listed.group(1)) for path in FOLDER.glob(pattern)}
    needed = {path for folder in FOLDER.glob("builtin/*/manifest.json") for path in folder.parent.iterdir()}
    assert needed | set(FOLDER.glob("builtin/loras/*.safetensors")) <= shipped
    assert len(needed) == 14


@pytest.mark.skipif(not PROJECT.exists(), reason="only in a checkout")
@pytest.mark.parametrize("name", ["requirements.lock", "requirements-py38.lock", "requirements-cuda.lock"])
def test_locks_carry_hashes_and_no_addresses(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert "://" not in text
    pins = re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE)
    assert {"numpy", "onnxruntime", "tokenizers", "pillow", "httpx", "pydantic", "psutil"} <= set(pins)
    assert text.count("--hash=sha256:") >= len(pins)


@pytest.mark.skipif(not PROJECT.exists(), reason="only in a checkout")
def test_the_agent_alone_needs_what_the_whole_needs_of_it() -> None:
    needed = {line for line in (FOLDER / "requirements-agent.in").read_text(encoding="utf-8").splitlines() if not line.startswith("#")}
    listed = re.search(r"^dependencies = \[(.*?)\]", PROJECT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert listed is not None
    assert needed <= set(re.findall(r'"([^"]+)"', listed.group(1)))


@pytest.mark.skipif(not PROJECT.exists(), reason="only in a checkout")
@pytest.mark.parametrize("suffix", ["", "-py38"])
def test_the_agent_alone_has_the_versions_of_the_whole(suffix: str) -> None:
    agent, whole = (
        set(re.findall(r"^([a-z0-9._-]+==\S+)", (FOLDER / name).read_text(encoding="utf-8"), re.MULTILINE))
        for name in (f"requirements-agent{suffix}.lock", f"requirements{suffix}.lock")
    )
    assert agent <= whole
    assert not {"numpy", "onnxruntime"} & {pin.split("==")[0] for pin in agent}
