"""A machine with a GPU that is no Jetson gets PyTorch for CUDA, and keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fleet.commander.plugins.module_utils import bundle, node

from tests.support.role import NODE, UP, Role

ROOT = Path(__file__).parents[3]
GPU = [{"name": "NVIDIA L4", "uuid": "GPU-1", "memory_mib": 23034}]
WITH_GPU = {**NODE, "gpus": GPU, "nvidia_driver": "550.54.15"}
ORIN = {**NODE, "gpus": [{"name": "Orin", "uuid": None, "memory_mib": None}], "is_jetson": True, "machine": "aarch64"}


@pytest.fixture
def role(tmp_path: Path) -> Role:
    return Role(tmp_path)


def pins(product: str, python: str) -> dict[str, str]:
    lines = bundle.requirements(bundle.lock_of(product, str(ROOT), python), python, "x86_64").splitlines()
    return dict(line.rstrip(" \\").split("==") for line in lines if "==" in line)


@pytest.mark.parametrize("python", ["3.10.12", "3.11.2", "3.12.3"])
def test_its_lock_is_the_engine_s_and_pytorch_for_cuda_12(python: str) -> None:
    engine, cuda = pins("engine", python), pins("engine_cuda", python)
    assert engine.items() <= cuda.items()
    assert cuda["torch"].startswith("2.10.")
    libraries = {name: version for name, version in cuda.items() if name.startswith("nvidia-") and name != "nvidia-ml-py"}
    assert {"nvidia-cublas-cu12", "nvidia-cudnn-cu12", "nvidia-cuda-runtime-cu12"} <= set(libraries)
    assert all(name.endswith("-cu12") for name in libraries), "one CUDA, which drivers from 525 on have"


def test_a_python_that_pytorch_is_not_made_for_is_one_sentence() -> None:
    with pytest.raises(bundle.BundleFailed, match=r"This machine has Python 3\.8\.10, and 3\.10 or later is needed"):
        bundle.lock_of("engine_cuda", str(ROOT), "3.8.10")


def environment(folder: Path, *files: str) -> Path:
    packages = folder / "1f" / "lib" / "python3.11" / "site-packages"
    for file in files:
        (packages / file).mkdir(parents=True)
    (folder / "current").symlink_to("1f")
    return folder


@pytest.mark.parametrize(
    ("files", "machine", "product"),
    [
        (["httpx"], "x86_64", "agent"),
        (["numpy"], "x86_64", "engine"),
        (["numpy", "torch/lib/libtorch_cpu.so"], "x86_64", "engine"),
        (["numpy", "torch/lib/libtorch_cuda.so"], "x86_64", "engine_cuda"),
        (["numpy", "torch/lib/libtorch_cuda.so"], "aarch64", "engine"),
        (None, "x86_64", None),
    ],
)
def test_what_is_installed_is_read_off_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str] | None, machine: str, product: str | None
) -> None:
    monkeypatch.setattr(node.platform, "machine", lambda: machine)
    monkeypatch.setattr(node, "output", lambda *_words: "")
    folder = tmp_path if files is None else environment(tmp_path, *files)
    assert node.agent(str(folder), str(tmp_path), str(tmp_path / "none"))["product"] == product


@pytest.mark.parametrize(
    ("said", "version"), [("550.54.15\n", "550.54.15"), ("", None), ("No devices were found\n", None), ("535.1\n535.1\n", "535.1")]
)
def test_the_driver_s_version_is_what_nvidia_smi_says(said: str, version: str | None) -> None:
    assert node.nvidia_driver(said) == version


def look(of: dict[str, Any], product: str = "agent", free: int = 400_000) -> dict[str, Any]:
    disks = [{"mount": "/opt", "free_mib": free}, {"mount": "/", "free_mib": 5}, {"mount": "/srv", "free_mib": 9}]
    agent = {"bundle": "1f", "product": product, "engine": product != "agent", "enrolled": True, "container": None}
    return {**of, "l4t_version": None, "jetpack_version": None, "soc": None, "disks": disks, "agent": agent}


def bundled(digest: str = "1f") -> dict[str, Any]:
    made = {"changed": False, "digest": digest, "path": f"/x/{digest}.tar", "needs_mib": 16000}
    return {f"fleet_bundle {product}": made for product in ("agent", "engine", "engine_cuda")}


@pytest.mark.parametrize(
    ("of", "wanted", "product"),
    [
        (WITH_GPU, "auto", "engine_cuda"),
        (WITH_GPU, "never", "engine"),
        (NODE, "auto", "engine"),
        (NODE, "always", "engine_cuda"),
        (ORIN, "auto", "engine"),
        ({**WITH_GPU, "machine": "aarch64"}, "auto", "engine"),
        ({**WITH_GPU, "python_version": "3.8.10"}, "auto", "engine"),
    ],
)
def test_which_engine_a_machine_gets(role: Role, of: dict[str, Any], wanted: str, product: str) -> None:
    answers = {**bundled(), "fleet_node_info": {"changed": False, "node": look(of)}}
    known = {"__gpu_inference_look": {"node": look(of)}, "gpu_inference_drain": "never"}
    code, said, asked = role.play("native_install", answers, gpu_inference_cuda=wanted, **known)
    assert (code, asked[0]) == (0, f"fleet_bundle {product}"), said
    assert asked[-1] == "fleet_venv", said


@pytest.mark.parametrize("product", ["agent", "engine", "engine_cuda", None])
def test_onboarded_again_a_node_keeps_what_it_has(role: Role, product: str | None) -> None:
    code, said, asked = role.play("bring", bundled(), of="node_agent", __node_agent_look={"node": look(NODE, product or "")})
    assert (code, asked) == (0, [f"fleet_bundle {product or 'agent'}"]), said


def test_a_disk_that_is_too_small_is_told_before_anything_is_copied(role: Role) -> None:
    code, said, asked = role.play("bring", bundled("2e"), of="node_agent", __node_agent_look={"node": look(NODE, free=15999)})
    assert (code, asked) == (2, ["fleet_bundle agent"]), said
    assert "/opt has 15999 MiB free on this node, and installing this takes 16000 MiB for a moment; free some, or mount more" in said


@pytest.mark.parametrize(
    ("of", "wanted", "words"),
    [
        ({**WITH_GPU, "nvidia_driver": "470.256.02"}, "auto", "is x86_64 with Python 3.11.2 and driver 470.256.02; change that, or set"),
        ({**WITH_GPU, "machine": "aarch64"}, "always", "is aarch64 with Python 3.11.2 and driver 550.54.15;"),
        ({**NODE, "python_version": "3.8.10"}, "always", "with Python 3.8.10 and no driver that nvidia-smi tells of;"),
        (WITH_GPU, "auto", None),
        ({**WITH_GPU, "nvidia_driver": "470.256.02"}, "never", None),
    ],
)
def test_a_machine_that_it_is_not_made_for_is_refused(role: Role, of: dict[str, Any], wanted: str, words: str | None) -> None:
    answers = {"fleet_node_info": {"changed": False, "node": look(of)}}
    code, said, asked = role.play("preflight", answers, gpu_inference_cuda=wanted)
    assert (code, asked) == (2 if words else 0, ["fleet_node_info"]), said
    assert words is None or words in said


@pytest.mark.parametrize(("devices", "works"), [(["cuda", "cpu"], True), (["cpu"], False), (None, True)])
def test_an_engine_that_does_not_find_the_gpu_is_no_success(role: Role, devices: list[str] | None, works: bool) -> None:
    engine = {**UP, "devices": devices}
    answers = {"fleet_engine_info": {"changed": False, "engine": engine}, "fleet_engine_build check": {"changed": False, "built": {}}}
    code, said, asked = role.play("verify", answers, __gpu_inference_look={"node": WITH_GPU})
    assert (code, asked[-1]) == ((0, "fleet_render_check") if works else (2, "fleet_engine_info")), said
    assert works or "this node has a GPU (NVIDIA L4, driver 550.54.15), and PyTorch does not find it" in said
