"""What the modules for an agent in a container decide, without an engine."""

from __future__ import annotations

import base64
import json
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fleet.commander.plugins.module_utils import agent_services, engine, node, services, swarm
from ansible_collections.fleet.commander.plugins.module_utils.images import ImageFailed
from ansible_collections.fleet.commander.plugins.modules import fleet_agent_container, fleet_image_info, fleet_pulled_image

ASKED: dict[str, Any] = {
    "image": "192.0.2.10:5000/fleet-agent:jetpack6@sha256:d", "env": {"FLEET_AGENT_LOG": "info"}, "mounts": [], "folders": ["/srv/models"],
    "user": "998:996", "groups": ["44"], "gpus": 1, "memory_mib": 4096, "stop_grace": 125,
}  # fmt: skip


def test_a_service_on_each_node_that_has_its_label() -> None:
    service = agent_services.wanted({**ASKED, "mounts": [{"source": "/var/lib/fleet-agent", "target": "/var/lib/fleet-agent"}]})
    words = services.create_words(service)
    pairs = list(pairwise(words))
    for pair in (
        ("--mode", "global"), ("--constraint", f"node.labels.fleet.inference=={service['mark']}"), ("--network", "host"),
        ("--mount", "type=bind,source=/var/lib/fleet-agent,target=/var/lib/fleet-agent"), ("--user", "998:996"), ("--group", "44"),
        ("--mount", "type=bind,source=/srv/models,target=/srv/models,readonly"), ("--stop-grace-period", "125s"),
        ("--limit-memory", "4096m"), ("--generic-resource", "NVIDIA-GPU=1"), ("--label", f"fleet.inference={service['mark']}"),
        ("--name", f"fleet-agent-{service['mark']}"),
    ):  # fmt: skip
        assert pair in pairs
    assert "--replicas" not in words


def test_what_is_different_is_another_service() -> None:
    mark = agent_services.wanted(ASKED)["mark"]
    assert agent_services.wanted(dict(ASKED))["mark"] == mark
    changes: list[dict[str, Any]] = [
        {"image": "192.0.2.10:5000/fleet-agent:jetpack6@sha256:e"}, {"env": {"FLEET_AGENT_LOG": "debug"}}, {"user": "997:996"}, {"gpus": 0},
        {"folders": []}, {"memory_mib": 0}, {"stop_grace": 20},
    ]  # fmt: skip
    assert len({mark, *(agent_services.wanted({**ASKED, **change})["mark"] for change in changes)}) == len(changes) + 1


def test_services_from_before_are_as_they_were_asked_for() -> None:
    old = {"replicas": 2, "cluster": "vision", "env": {}, "publish": [], "command": [], "gpus": 1}
    assert services.wanted_of({**old, **services.LATER}) == services.wanted_of(old)
    assert services.wanted_of({**old, **services.LATER, "user": "5"}) != services.wanted_of(old)


@pytest.mark.parametrize("mount", [{"source": "/a,b", "target": "/a"}, {"source": "/a", "target": "a"}, {"source": "", "target": "/a"}])
def test_a_mount_that_says_something_else_is_refused(mount: dict[str, str]) -> None:
    with pytest.raises(ImageFailed, match="A mount wants"):
        services.mounted(mount)
    assert services.mounted({"source": "data", "target": "/data"}) == "type=volume,source=data,target=/data"


def task(name: str, state: str, desired: str = "running", error: str = "") -> dict[str, Any]:
    return {"ID": name, "DesiredState": desired, "Status": {"State": state, "Err": error}}


def told_by(monkeypatch: pytest.MonkeyPatch, *looks: list[dict[str, Any]]) -> None:
    """Let a manager tell these tasks look by look, the last ones for ever; time goes by with each."""
    left, now = list(looks), [0.0]
    monkeypatch.setattr(agent_services, "tasks_of", lambda mark, node_id: left.pop(0) if len(left) > 1 else left[0])
    monkeypatch.setattr(agent_services.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(agent_services.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + 1.0))


def test_a_task_that_stays_is_one_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    told_by(monkeypatch, [], [task("a", "preparing")], [task("a", "running")])
    agent_services.steady("n", "m", set(), 60)
    flapping = [[task("a", "running")], [task("b", "running"), task("a", "failed", "shutdown", "task: non-zero exit (2)")]] * 2
    last = [task("c", "ready"), task("b", "failed", "shutdown", "task: non-zero exit (3)."), task("a", "failed", "shutdown", "x")]
    told_by(monkeypatch, *flapping, last)
    with pytest.raises(agent_services.TaskFailed, match=r"does not run: task: non-zero exit \(3\)\.$"):
        agent_services.steady("n", "m", set(), 60)


def test_failures_of_before_do_not_count_and_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    old = [task("a", "failed", "shutdown", "x"), task("b", "rejected", "shutdown", "y")]
    told_by(monkeypatch, old, [task("c", "running"), *old])
    agent_services.steady("n", "m", {"a", "b"}, 60)
    told_by(monkeypatch, [task("c", "pending", error="no suitable node (insufficient resources on 1 node)"), *old])
    with pytest.raises(agent_services.TaskFailed, match=r"does not run after 60 s: no suitable node \(insufficient resources on 1 n"):
        agent_services.steady("n", "m", {"a", "b"}, 60)


def test_services_that_no_label_names_go(monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[str] = []
    listed = "fleet-agent-one\nfleet-agent-two\nother\n"
    monkeypatch.setattr(agent_services, "docker", lambda *words: subprocess.CompletedProcess(words, 0, listed))
    monkeypatch.setattr(swarm, "members", lambda: [{"labels": {"fleet.inference": "two"}}, {"labels": {}}])
    monkeypatch.setattr(services, "remove", gone.append)
    agent_services.tidy()
    assert gone == ["fleet-agent-one"]


def test_a_label_is_put_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(swarm, "member", lambda node_id: {"ID": node_id, "Spec": {"Role": "worker", "Labels": {"cluster": "vision"}}})
    monkeypatch.setattr(swarm, "change", lambda raw, spec: sent.append(spec))
    agent_services.put_label("n", "abc")
    agent_services.put_label("n", "")
    assert [spec["Labels"] for spec in sent] == [{"cluster": "vision", "fleet.inference": "abc"}, {"cluster": "vision"}]
    monkeypatch.setattr(swarm, "member", lambda node_id: None)
    with pytest.raises(agent_services.TaskFailed, match="knows no node n"):
        agent_services.put_label("n", "abc")


def engine_tells(monkeypatch: pytest.MonkeyPatch, states: dict[str, dict[str, Any]], logs: dict[str, str]) -> None:
    def output(*words: str, both: bool = False) -> str:
        if words[1] == "ps":
            return "\n".join(states)
        return json.dumps(states[words[2]]) if words[1] == "inspect" else logs.get(words[-1], "")

    monkeypatch.setattr(engine, "_output", output)
    monkeypatch.setattr(engine, "children", lambda pid, inner: {7: 1.0} if inner and pid == 1234 else {})


UP = json.dumps({"event": engine.UP, "pid": 7, "backend": "onnx", "models": ["a"]})
LOUD = "FLEET_AGENT_LOG must be one of debug, info, and 'loud' was given.\n"


@pytest.mark.parametrize(
    ("states", "logs", "up", "reason", "container"),
    [
        ({}, {}, False, "there is no container of it on this node", ""),
        ({"c": {"Running": True, "Pid": 1234}}, {"c": UP}, True, "", "c"),
        ({"c": {"Running": True, "Pid": 1}}, {}, False, "it was not started yet", "c"),
        ({"c": {"Running": True, "Pid": 1234}, "b": {"ExitCode": 2}}, {"c": UP, "b": LOUD}, True, "", "c"),
        ({"c": {"ExitCode": 0}, "b": {"ExitCode": 2}}, {"b": LOUD}, False, LOUD.strip().rstrip("."), ""),
        ({"c": {"ExitCode": 137}}, {}, False, "its container has ended with code 137", ""),
        ({"c": {"ExitCode": 0}}, {}, False, "its container has ended, or has yet to start", ""),
    ],
)
def test_an_engine_in_a_container(
    states: dict[str, dict[str, Any]], logs: dict[str, str], up: bool, reason: str, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_tells(monkeypatch, states, logs)
    found = engine.look_into("fleet-agent-x")
    assert (found["up"], found["reason"], found["container"]) == (up, reason, container)


def test_what_the_agent_said_last() -> None:
    assert engine.last_word('{"event": "Started."}\n{"event": "This node is not enrolled."}\n') == "This node is not enrolled"
    assert engine.last_word("") == ""


def test_containers_of_the_agent_are_told_from_others() -> None:
    said = "aa fleet-agent-one\nbb web\ncc \ndd fleet-agent-two\n"
    assert fleet_agent_container.chosen(said, "") == ["aa", "dd"]
    assert fleet_agent_container.chosen(said, "fleet-agent-two") == ["aa"]


def test_an_image_is_kept_by_its_digest() -> None:
    assert fleet_pulled_image.by_digest("192.0.2.10:5000/fleet-agent:jetpack6@sha256:d") == "192.0.2.10:5000/fleet-agent@sha256:d"
    assert fleet_pulled_image.by_digest("fleet-agent@sha256:d") == "fleet-agent@sha256:d"
    assert fleet_pulled_image.by_digest("192.0.2.10:5000/fleet-agent:v1") == "192.0.2.10:5000/fleet-agent:v1"


def test_a_sign_in_as_the_engine_takes_it() -> None:
    kept = json.dumps({"auths": {"192.0.2.10:5000": {"auth": base64.b64encode(b"fleet:pass:word").decode()}}})
    said = json.loads(base64.urlsafe_b64decode(fleet_image_info.sign_in(kept, "192.0.2.10:5000")))
    assert said == {"username": "fleet", "password": "pass:word", "serveraddress": "192.0.2.10:5000"}
    for config in ("", "[]", '{"auths": {"192.0.2.10:5000": {}}}'):
        assert json.loads(base64.urlsafe_b64decode(fleet_image_info.sign_in(config, "192.0.2.10:5000"))) == {}


def test_how_many_gpus_an_engine_offers() -> None:
    named = [{"NamedResourceSpec": {"Kind": "NVIDIA-GPU", "Value": name}} for name in ("GPU-0", "GPU-1")]
    counted = [{"DiscreteResourceSpec": {"Kind": "NVIDIA-GPU", "Value": 3}}, {"DiscreteResourceSpec": {"Kind": "SSD", "Value": 5}}]
    assert [node.gpu_resources(each) for each in ([], named, counted, named + counted)] == [0, 2, 3, 5]


def test_an_agent_says_in_which_service_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"systemctl": "inactive\n", "docker": "abc\n"}
    monkeypatch.setattr(node, "output", lambda *words: said[words[0]])
    marker = tmp_path / "container.json"
    found = node.agent(str(tmp_path), str(tmp_path), str(marker))
    assert (found["container"], found["running"]) == (None, False)
    marker.write_text('{"service": "fleet-agent-x", "image": "y"}')
    found = node.agent(str(tmp_path), str(tmp_path), str(marker))
    assert (found["container"], found["running"]) == ("fleet-agent-x", True)
    said["docker"] = ""
    assert node.agent(str(tmp_path), str(tmp_path), str(marker))["running"] is False
    marker.write_text('{"service": null}')
    assert node.agent(str(tmp_path), str(tmp_path), str(marker))["container"] is None
