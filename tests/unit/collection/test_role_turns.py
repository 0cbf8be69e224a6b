"""The turns that roles take, gpu_inference above all: their own tasks, with stand-ins for the collection's modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.role import NODE, UP, Role


@pytest.fixture
def role(tmp_path: Path) -> Role:
    return Role(tmp_path)


def test_a_node_is_drained_before_engines_are_built(role: Role) -> None:
    known = {"__gpu_inference_engine": {"engine": UP}, "__gpu_inference_look": {"node": NODE}}
    code, said, asked = role.play("engines", {"fleet_engine_build check": {"changed": False, "built": {}}}, **known)
    assert (code, asked) == (0, ["fleet_engine_build check"]), said
    lacking = {"fleet_engine_build check": {"changed": True, "built": {"sdxl": 2}}}
    code, said, asked = role.play("engines", {**lacking, "fleet_engine_build": {"changed": True, "built": {"sdxl": 2}}}, **known)
    first = ["fleet_engine_build check", "fleet_node_drain", "fleet_engine_build"]
    assert (code, asked) == (0, [*first, "fleet_unit restart", "fleet_engine_info"]), said
    code, said, asked = role.play("engines", {**lacking, "fleet_engine_build": {"failed": True, "msg": "No engine was built."}}, **known)
    assert (code, asked) == (2, [*first, "fleet_node_drain working"]), said
    assert said.count("No engine was built.") >= 2, "a node that renders as before has its work again"


def test_engines_are_built_before_the_picture_that_proves_the_node(role: Role) -> None:
    built = {"changed": True, "built": {"sdxl": 2}}
    answers = {"fleet_engine_build check": built, "fleet_engine_build": built}
    known = {"__gpu_inference_look": {"node": {**NODE, "gpus": [{"name": "Orin"}], "is_jetson": True}}}
    code, said, asked = role.play("verify", answers, **known)
    building = ["fleet_engine_build check", "fleet_node_drain", "fleet_engine_build", "fleet_unit restart", "fleet_engine_info"]
    assert (code, asked) == (0, ["fleet_engine_info", *building, "fleet_render_check"]), said
    code, said, asked = role.play("verify", answers, gpu_inference_engines="never", **known)
    assert (code, asked) == (0, ["fleet_engine_info", "fleet_render_check"]), said


def test_a_node_whose_engine_does_not_come_up_with_what_was_built_gets_no_work(role: Role) -> None:
    built = {"changed": True, "built": {"sdxl": 2}}
    down = {"changed": False, "engine": {**UP, "up": False, "reason": "it ended"}}
    answers = {"fleet_engine_build check": built, "fleet_engine_build": built, "fleet_engine_info": down}
    for mode, service, where in (("native", {}, "journalctl -u fleet-agent"), ("container", {"service": "fleet-agent-1"}, "docker ps -a")):
        known = {"__gpu_inference_engine": {"engine": UP}, "__gpu_inference_look": {"node": NODE}, "__gpu_inference_service": service}
        code, said, asked = role.play("engines", answers, gpu_inference_mode=mode, **known)
        assert (code, asked[-1], "fleet_node_drain working" in asked) == (2, "fleet_engine_info", False), said
        assert f"The engine is not up: it ended; see {where} on the node." in said


@pytest.mark.parametrize("moves", [False, True])
def test_only_a_node_that_moves_falls_back_on_its_unit(role: Role, moves: bool) -> None:
    service = {"changed": moves, "service": "fleet-agent-1"}
    swarm = {"swarm": {"state": "active", "manager": True, "node_id": "q5"}}
    answers = {
        "fleet_agent_service": service,
        "fleet_swarm_info": {"changed": False, **swarm},
        "fleet_render_check": {"failed": True, "msg": "This node made no picture: it took longer than 300 s."},
    }
    code, said, asked = role.play(
        "container_switch",
        answers,
        gpu_inference_mode="container",
        __gpu_inference_look={"node": {**NODE, "agent": {"container": "fleet-agent-1"}}},
        __gpu_inference_foretold_service=service,
        __gpu_inference_swarm=swarm,
        __gpu_inference_agent={"agent": {"uid": 1, "gid": 1, "groups": [], "settings": {}, "tegrastats": ""}},
        __gpu_inference_dropped={"changed": False},
        __gpu_inference_copied={"changed": False},
    )
    assert code == 2, said
    end = "The node has its native agent again." if moves else "Its container was left as it is."
    assert f"This node made no picture: it took longer than 300 s. {end}" in said
    after = asked[asked.index("fleet_render_check") + 1 :]
    left = ["fleet_swarm_info", "fleet_agent_service absent", "fleet_agent_container", "fleet_file restored", "fleet_pulled_image absent"]
    assert after == ["fleet_engine_info", *([*left, "fleet_unit"] if moves else [])]


@pytest.mark.parametrize("of", ["swarm_member", "swarm_manager"])
def test_a_node_whose_agent_is_a_container_of_the_swarm_does_not_leave(role: Role, of: str) -> None:
    def answers(container: str | None, state: str = "active") -> dict[str, Any]:
        look = {"changed": False, "node": {**NODE, "agent": {"container": container}}}
        return {"fleet_node_info": look, "fleet_swarm_info": {"changed": False, "swarm": {"state": state, "node_id": "q5"}}}

    looked = ["fleet_swarm_info", "fleet_node_info"]
    code, said, asked = role.play("uninstall", answers("fleet-agent-1"), of=of)
    assert (code, asked) == (2, looked), said
    assert "The agent of this node runs in a container of the swarm and would end with its membership; run the playbook" in said
    for found in (answers(None), answers("fleet-agent-1", "inactive")):
        code, said, asked = role.play("uninstall", found, of=of)
        assert (code, asked) == (0, [*looked, "fleet_swarm restored"]), said


def test_a_host_that_cannot_be_reached_keeps_nobody_in_the_swarm(role: Role) -> None:
    role.hosts = "[nodes]\nnode\ngone ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=1\n[swarm_managers]\nhead\n"
    look = {"changed": False, "node": {**NODE, "agent": {"container": None}}}
    swarm = {"changed": False, "swarm": {"state": "active", "node_id": "q5"}}
    answers: dict[str, Any] = {"fleet_node_info": look, "fleet_swarm_info": swarm}
    code, said, asked = role.playbook("leave_swarm", answers)
    assert (code, asked.count("fleet_swarm restored")) == (4, 2), said
    assert "gone : ok=0 changed=0 unreachable=1" in said, "it is told of"
    look["node"] = {**NODE, "agent": {"container": "fleet-agent-1"}}
    code, said, asked = role.playbook("leave_swarm", answers)
    assert (code, "fleet_swarm restored" in asked) == (4, False), said
    assert "would end with its membership" in said


def test_the_way_back_from_a_container_wants_a_manager_before_anything_is_changed(role: Role) -> None:
    agent = {"bundle": "1", "enrolled": True, "container": "fleet-agent-1"}
    answers = {
        "fleet_node_info": {"changed": False, "node": {**NODE, "l4t_version": None, "jetpack_version": None, "agent": agent}},
        "fleet_swarm_info": {"changed": False, "swarm": {"state": "active", "manager": False, "node_id": "q5"}},
    }
    code, said, asked = role.play("preflight", answers)
    assert (code, asked) == (2, ["fleet_node_info", "fleet_swarm_info"]), said
    assert "The agent of this node runs in a container of the swarm, and no host of the inventory manages that" in said
    code, said, asked = role.play("preflight", answers, gpu_inference_swarm_manager="other")
    assert code == 0, said
