from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.fleet.commander.plugins.module_utils import bundle, inventory_rules, leftovers, node, packages, swap, units

ROOT = Path(__file__).parents[3]
ROLES = {"docker_engine": {"docker_engine_data_root"}, "node_agent": {"node_agent_log"}}

SIMULATED = """NOTE: This is only a simulation!
Remv systemd-timesyncd [252.38-1]
Inst containerd (1.6.20 Debian:12 [amd64])
Inst libc6 [2.36-8] (2.36-9 Debian:12 [amd64])
Inst docker.io (20.10.24 Debian:12 [amd64])
Conf docker.io (20.10.24 Debian:12 [amd64])
"""


def test_an_upgrade_is_not_what_we_brought() -> None:
    assert packages.planned(SIMULATED) == (["containerd", "docker.io"], ["systemd-timesyncd"])
    assert packages.planned("Purg docker.io [20.10.24]\nPurg containerd [1.6]\n") == ([], ["containerd", "docker.io"])


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("dpkg: error: x\n write: No space left on device", "the disk is full"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "the disk is full"),
        ("E: Failed to fetch http://x/y  Could not resolve 'x'", "sources cannot be reached"),
        ("E: Unable to locate package nope", "have no package nope"),
        ("E: Held packages.\n", "Held packages; see /var/log/apt/term.log"),
        ("", "no reason was given"),
    ],
)
def test_what_apt_says_is_one_sentence(output: str, words: str) -> None:
    said = packages.sentence(output, "It failed")
    assert words in said
    assert said.endswith(".")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("name", "variables", "complaint"),
    [
        ("agx0", {"docker_engine_data_root": "/x", "my_own": 1}, None),
        ("AGX", {}, "is no node's name"),
        ("a" * 49, {}, "is no node's name"),
        ("heartbeats", {}, "is a reserved word"),
        ("agx0", {"docker_engine_dataroot": "/x"}, "is docker_engine_data_root meant?"),
        ("agx0", {"fleet_nonsense": 1}, "fleet_nonsense is no variable of Fleet Commander"),
        ("agx0", {"ansible_ssh_executable": "/tmp/x"}, "ansible_ssh_executable changes how Ansible reaches the node"),
        ("agx0", {"ansible_become_exe": "/tmp/x"}, "ansible_become_exe changes"),
        ("agx0", {"ansible_shell_executable": "/bin/sh", "ansible_shell_type": "sh"}, None),
        ("agx0", {"ansible_shell_executable": "/tmp/x"}, "ansible_shell_executable changes"),
        ("agx0", {"ansible_connection": "community.docker.docker"}, "nodes are reached by ssh"),
        ("agx0", {"ansible_python_interpreter": "/usr/bin/python3.8"}, None),
        ("agx0", {"ansible_python_interpreter": "/tmp/x"}, "must be auto_silent or a path"),
        ("agx0", {"ansible_host": "192.0.2.1", "ansible_user": "nvidia", "ansible_become_password": "x"}, None),
    ],
)
def test_an_inventory_is_judged_by_a_sentence(name: str, variables: dict[str, object], complaint: str | None) -> None:
    found = inventory_rules.complaints(name, variables, ROLES, [])
    assert (found == []) if complaint is None else (len(found) == 1 and complaint in found[0])


def test_what_is_allowed_by_name_passes() -> None:
    assert inventory_rules.complaints("agx0", {"ansible_ssh_executable": "/x"}, ROLES, ["ansible_ssh_executable"]) == []


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("# R32 (release), REVISION: 7.1\npython 3.6\n", "JetPack 4 or older"),
        ("# R35 (release), REVISION: 4.1\npython 3.8\n", None),
        ("python 3.7\n", "has Python 3.7, and 3.8 or later is needed"),
        ("no python\n", "has no Python 3"),
        ("python 3.12", None),
    ],
)
def test_what_cannot_be_managed_is_told(said: str, words: str | None) -> None:
    found = inventory_rules.unmanageable(said)
    assert (found == []) if words is None else words in found[0]


@pytest.mark.parametrize(("python", "has_exceptiongroup"), [("3.8.10", True), ("3.10.12", True), ("3.11.2", False), ("3.12.3", False)])
def test_a_lock_is_judged_by_the_nodes_python_and_not_by_ours(python: str, has_exceptiongroup: bool) -> None:
    needed = bundle.requirements(bundle.lock_of("agent", str(ROOT), python), python, "aarch64")
    assert ("exceptiongroup==" in needed) is has_exceptiongroup
    assert needed.count("==") >= 10
    assert ";" not in needed
    assert all("--hash=sha256:" in block for block in needed.split("\n\n") if block.strip())


def test_a_python_that_is_too_old_is_refused() -> None:
    with pytest.raises(bundle.BundleFailed, match=r"Python 3\.6\.9, and 3\.8 or later"):
        bundle.lock_of("agent", str(ROOT), "3.6.9")
    with pytest.raises(bundle.BundleFailed, match=r"3\.11 or later"):
        bundle.lock_of("control_plane", str(ROOT), "3.10.12")


def test_a_bundle_is_told_by_its_wheels_its_code_and_the_kind_of_node(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("1")
    first = bundle.digest_of("a==1", [str(tmp_path)], "3.8.10", "aarch64")
    assert bundle.digest_of("a==1", [str(tmp_path)], "3.8.12", "aarch64") == first, "a patch of Python takes the same wheels"
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "code.pyc").write_text("x")
    assert bundle.digest_of("a==1", [str(tmp_path)], "3.8.10", "aarch64") == first
    others = [("a==2", "3.8.10", "aarch64"), ("a==1", "3.10.1", "aarch64"), ("a==1", "3.8.10", "x86_64")]
    assert len({first, *(bundle.digest_of(needed, [str(tmp_path)], python, machine) for needed, python, machine in others)}) == 4
    (tmp_path / "code.py").write_text("2")
    assert bundle.digest_of("a==1", [str(tmp_path)], "3.8.10", "aarch64") != first


def test_leftovers_that_were_there_stay(tmp_path: Path) -> None:
    kept, empty, absent = tmp_path / "kept", tmp_path / "empty", tmp_path / "absent"
    kept.mkdir()
    (kept / "theirs").touch()
    empty.mkdir(mode=0o700)
    found = leftovers.look([str(kept), str(empty), str(absent)], [])
    for folder in (kept, empty, absent):
        folder.mkdir(exist_ok=True)
        (folder / "ours").mkdir()
        (folder / "ours" / "file").touch()
    empty.chmod(0o711)
    leftovers.remove(found)
    assert sorted(path.name for path in kept.iterdir()) == ["ours", "theirs"]
    assert list(empty.iterdir()) == []
    assert empty.stat().st_mode & 0o777 == 0o700
    assert not absent.exists()


@pytest.mark.parametrize(
    ("properties", "state"),
    [
        ({"LoadState": "not-found", "ActiveState": "inactive"}, units.ABSENT),
        ({}, units.ABSENT),
        ({"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active"}, {"enabled": True, "active": True, "masked": False}),
        (
            {"LoadState": "loaded", "UnitFileState": "disabled", "ActiveState": "failed"},
            {"enabled": False, "active": False, "masked": False},
        ),
        (
            {"LoadState": "masked", "UnitFileState": "masked", "ActiveState": "inactive"},
            {"enabled": False, "active": False, "masked": True},
        ),
    ],
)
def test_a_units_state_is_read(properties: dict[str, str], state: dict[str, bool]) -> None:
    assert units.state_of(properties) == (state if state == units.ABSENT else {"exists": True, **state})


def test_a_nodes_parts_are_read() -> None:
    assert node.memory_mib("MemTotal:       31322584 kB\n") == 30588
    assert node.operating_system('ID=ubuntu\nVERSION_ID="20.04"\n')["version"] == "20.04"
    assert node.disks("proc /proc proc rw 0 0\n") == []
    assert swap.in_use("/swap", "Filename Type\n/swap file 1 0 -2\n")
    assert not swap.in_use("/swap", "Filename Type\n/swap2 file 1 0 -2\n")


def test_a_machine_that_is_no_jetson_is_an_answer(tmp_path: Path) -> None:
    found = node.look(str(tmp_path))
    assert found["is_jetson"] is False
    assert found["jetpack_version"] is found["board"] is found["power_mode"] is None
    assert found["memory_mib"] > 0
