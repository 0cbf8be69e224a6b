"""A machine with a GPU that is no Jetson gets PyTorch for CUDA, and keeps it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fleet.commander.plugins.module_utils import bundle, node, node_disk
from ansible_collections.fleet.commander.plugins.modules import fleet_venv

from tests.support.role import NODE, UP, Role

ROOT = Path(__file__).parents[3]
GPU = {"name": "NVIDIA L4", "uuid": "GPU-1", "memory_mib": 23034, "compute_capability": "8.9"}
WITH_GPU = {**NODE, "gpus": [GPU], "nvidia_driver": "550.54.15", "nvidia_cards": 1}
ORIN = {**NODE, "gpus": [{**GPU, "name": "Orin", "uuid": None, "compute_capability": "8.7"}], "is_jetson": True, "machine": "aarch64"}


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


def environment(folder: Path, *files: str, apart: bool = False) -> Path:
    packages = folder / ("libraries-a0" if apart else "1f") / "lib" / "python3.11" / "site-packages"
    if apart:
        (folder / "1f").mkdir(parents=True)
        (folder / "1f" / "libraries").symlink_to("../libraries-a0")
    for file in files:
        (packages / file).mkdir(parents=True)
    (folder / "current").symlink_to("1f")
    return folder


@pytest.mark.parametrize("apart", [False, True])
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str] | None, machine: str, product: str | None, apart: bool
) -> None:
    monkeypatch.setattr(node.platform, "machine", lambda: machine)
    monkeypatch.setattr(node, "output", lambda *_words: "")
    folder = tmp_path if files is None else environment(tmp_path, *files, apart=apart)
    told = node.agent(str(folder), str(tmp_path), str(tmp_path / "none"))
    assert told["product"] == product
    assert (told["bundle"], told["libraries"]) == ((None, None) if files is None else ("1f", "a0" if apart else None))


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("L4, GPU-1, 23034, 550.54.15\n", "550.54.15"),
        ("", None),
        ("No devices were found\n", None),
        ("a, b, 1, 535.1\na, c, 1, 535.1\n", "535.1"),
    ],
)
def test_the_driver_s_version_is_what_nvidia_smi_says(said: str, version: str | None) -> None:
    assert node.nvidia_driver(said) == version


@pytest.mark.parametrize(
    ("capabilities", "expected"), [("8.9\n6.1\n", ["8.9", "6.1"]), ("", [None, None]), ("Field is not a valid field\n", [None, None])]
)
def test_what_each_card_can_compute_is_told_where_the_driver_knows_the_question(capabilities: str, expected: list[str | None]) -> None:
    found = node.gpus_of("NVIDIA L4, GPU-1, 23034, 550.54.15\nQuadro P400, GPU-2, [N/A], 550.54.15\n", capabilities)
    assert [each["compute_capability"] for each in found] == expected
    assert found[0] == {**GPU, "compute_capability": expected[0]}
    assert found[1]["memory_mib"] is None


def test_cards_are_seen_without_a_driver(tmp_path: Path) -> None:
    for number, (vendor, kind) in enumerate(
        [("0x10de", "0x030000"), ("0x10de", "0x030200"), ("0x10de", "0x040300"), ("0x8086", "0x030000")]
    ):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "vendor").write_text(f"{vendor}\n")
        (tmp_path / str(number) / "class").write_text(f"{kind}\n")
    (tmp_path / "odd").mkdir()
    assert node.nvidia_cards(str(tmp_path)) == 2, "its sound device is none"


def test_what_a_cut_off_installation_left_counts_as_room_and_goes(tmp_path: Path) -> None:
    folder = environment(tmp_path / "agent", "numpy")
    assert node_disk.leftovers(str(folder)) == []
    (folder / "agent-2e.tar").write_bytes(b"\0" * (5 << 20))
    (folder / "2e").mkdir()
    (folder / "2e" / "half").write_bytes(b"\0" * (3 << 20))
    assert node_disk.size_mib(node_disk.leftovers(str(folder))) == 8
    assert (node_disk.room_mib(str(folder)) or 0) >= (node_disk.free_mib(str(tmp_path / "no" / "such")) or 0) + 7
    fleet_venv.tidy(str(folder), keep=[str(folder / "agent-2e.tar")])
    assert sorted(path.name for path in folder.iterdir()) == ["1f", "agent-2e.tar", "current"]
    fleet_venv.tidy(str(folder))
    assert (folder / "current" / "lib").is_dir()
    assert not (folder / "agent-2e.tar").exists()


def test_libraries_that_a_run_may_still_bring_are_kept(tmp_path: Path) -> None:
    day, kind = bundle.IN_USE_SECONDS, "engine_cuda-libraries"
    others = [("engine_cuda-9.tar", 9 * day), ("engine-libraries-9.tar", 9 * day)]
    for name, age in ((f"{kind}-1.tar", 2 * day), (f"{kind}-2.tar", day / 2), (f"{kind}-3.tar", 0), *others):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    bundle._prune(str(tmp_path), kind)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"{kind}-2.tar", f"{kind}-3.tar", *(name for name, _ in others)])


def look(of: dict[str, Any], product: str = "agent", free: int = 400_000, temporary: int = 400_000) -> dict[str, Any]:
    agent = {"bundle": "1f", "libraries": "a0", "product": product, "engine": product != "agent", "enrolled": True, "container": None}
    return {
        **of,
        "l4t_version": None,
        "jetpack_version": None,
        "soc": None,
        "room_mib": {"agent": free, "temporary": temporary},
        "agent": agent,
    }


def bundled(digest: str = "1f", libraries: str = "a0") -> dict[str, Any]:
    files = [
        {"digest": libraries, "path": f"/x/libraries-{libraries}.tar", "needs_mib": 16000, "size_mib": 4021},
        {"digest": digest, "path": f"/x/{digest}.tar", "needs_mib": 100, "size_mib": 0},
    ]
    made = {"changed": False, "digest": digest, "files": files}
    return {f"fleet_bundle {product}": made for product in ("agent", "engine", "engine_cuda")}


@pytest.mark.parametrize(
    ("of", "wanted", "product"),
    [
        (WITH_GPU, "auto", "engine_cuda"),
        ({**NODE, "nvidia_cards": 1}, "auto", "engine_cuda"),
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


@pytest.mark.parametrize(("free", "temporary"), [(16099, 400_000), (16100, 4020)])
def test_a_disk_that_is_too_small_is_told_before_anything_is_copied(role: Role, free: int, temporary: int) -> None:
    node_look = {"node": look(NODE, free=free, temporary=temporary)}
    code, said, asked = role.play("bring", bundled("2e", "b1"), of="node_agent", __node_agent_look=node_look)
    assert (code, asked) == (2, ["fleet_bundle agent"]), said
    assert (
        f"/opt/fleet/agent has {free} MiB free on this node and /var/tmp {temporary} MiB; installing this takes 16100 and 4021 MiB" in said
    )


def test_of_a_release_with_the_same_libraries_only_our_own_part_needs_room(role: Role) -> None:
    code, said, asked = role.play("bring", bundled("2e"), of="node_agent", __node_agent_look={"node": look(NODE, free=99)})
    assert (code, asked) == (2, ["fleet_bundle agent"]), said
    assert "has 99 MiB free on this node and /var/tmp 400000 MiB; installing this takes 100 and 0 MiB" in said


@pytest.mark.parametrize(
    ("of", "wanted", "words"),
    [
        (
            {**WITH_GPU, "nvidia_driver": "470.256.02"},
            "auto",
            "is x86_64 with Python 3.11.2, driver 470.256.02 and NVIDIA L4 (8.9). Change",
        ),
        ({**WITH_GPU, "machine": "aarch64"}, "always", "is aarch64 with Python 3.11.2, driver 550.54.15 and"),
        ({**NODE, "python_version": "3.8.10"}, "always", "with Python 3.8.10, no driver that nvidia-smi tells of and no GPU (of unknown"),
        (
            {**WITH_GPU, "gpus": [{**GPU, "compute_capability": "6.1"}]},
            "auto",
            "and NVIDIA L4 (6.1). Change that, or set gpu_inference_cuda to never",
        ),
        ({**NODE, "nvidia_cards": 2}, "auto", "has 2 cards of NVIDIA's, and nvidia-smi tells of none; install the driver, or restart"),
        ({**NODE, "nvidia_cards": 2}, "never", None),
        ({**WITH_GPU, "gpus": [{**GPU, "compute_capability": None}]}, "auto", None),
        (WITH_GPU, "auto", None),
        ({**WITH_GPU, "nvidia_driver": "470.256.02"}, "never", None),
    ],
)
def test_a_machine_that_it_is_not_made_for_is_refused(role: Role, of: dict[str, Any], wanted: str, words: str | None) -> None:
    answers = {"fleet_node_info": {"changed": False, "node": look(of)}}
    code, said, asked = role.play("preflight", answers, gpu_inference_cuda=wanted)
    assert (code, asked) == (2 if words else 0, ["fleet_node_info"]), said
    assert words is None or words in said


@pytest.mark.parametrize(
    ("visible", "fits"), [(None, False), ("0", False), ("1", True), (1, True), ("GPU-2,GPU-1", True), ("GPU-1", False), ("7", True)]
)
def test_of_several_gpus_the_one_that_is_used_counts(role: Role, visible: str | int | None, fits: bool) -> None:
    old = {**GPU, "name": "Quadro P400", "uuid": "GPU-1", "compute_capability": "6.1"}
    node_look = look({**WITH_GPU, "gpus": [old, {**GPU, "uuid": "GPU-2f"}], "nvidia_cards": 2})
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    answers = {"fleet_node_info": {"changed": False, "node": node_look}}
    code, said, _ = role.play("preflight", answers, gpu_inference_environment=environment)
    assert code == (0 if fits else 2), said
    assert fits or "driver 550.54.15 and Quadro P400 (6.1)" in said


@pytest.mark.parametrize(("devices", "works"), [(["cuda", "cpu"], True), (["cpu"], False), (None, True)])
def test_an_engine_that_does_not_find_the_gpu_is_no_success(role: Role, devices: list[str] | None, works: bool) -> None:
    engine = {**UP, "devices": devices}
    answers = {"fleet_engine_info": {"changed": False, "engine": engine}, "fleet_engine_build check": {"changed": False, "built": {}}}
    code, said, asked = role.play("verify", answers, __gpu_inference_look={"node": WITH_GPU})
    assert (code, asked[-1]) == ((0, "fleet_render_check") if works else (2, "fleet_engine_info")), said
    assert works or "PyTorch for CUDA and computes on the processor; this node has NVIDIA L4 and driver 550.54.15. See whether" in said
    answers["fleet_node_info"] = {"changed": False, "node": look(WITH_GPU, "engine_cuda")}
    code, said, asked = role.play("examine", answers)
    assert (code, asked[-1]) == ((0, "fleet_render_check") if works else (2, "fleet_engine_info")), said


def test_the_agent_s_unit_shuts_no_device() -> None:
    """Before systemd 252 ProtectClock allows the clock's device alone, and whoever opens a GPU's is refused."""
    text = (ROOT / "roles" / "node_agent" / "templates" / "fleet-agent.service.j2").read_text(encoding="utf-8")
    settings = {line.split("=")[0] for line in text.splitlines() if "=" in line and not line.startswith("#")}
    assert settings & {"ProtectClock", "PrivateDevices", "DevicePolicy", "DeviceAllow"} == set()
    assert "CapabilityBoundingSet" in settings, "by which it may not set the clock either"
