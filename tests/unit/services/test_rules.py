"""Pure rules of services: constraints, releases of L4T, placement, mounts, and how Swarm's word is read."""

from __future__ import annotations

import io
from typing import Any

import pytest

from fleet_api.adapters.docker.frames import frames
from fleet_api.errors import InvalidValue
from fleet_api.services.mounts import MountRules
from fleet_api.services.running import l4t, spec, terminal
from fleet_api.services.running.constraints import Constraint
from fleet_api.services.running.placement import Wanted, refusal
from fleet_api.services.running.schemas import ServiceBody, ServiceChange
from fleet_api.services.running.views import image_of, moment
from fleet_api.services.swarm import labels

RULES = MountRules.of(["/mnt", "/data/"], "/srv/fleet-home")


def node(name: str = "agx0", gpus: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "ID": f"id-{name}", "Spec": {"Role": "worker", "Availability": "active", "Labels": {"cluster": "vision", "l4t": "36.4.3"}},
        "Status": {"State": "ready", "Addr": "192.0.2.10"},
        "Description": {
            "Hostname": name, "Platform": {"Architecture": "aarch64", "OS": "linux"}, "Engine": {"Labels": {"disk": "nvme"}},
            "Resources": {
                "NanoCPUs": 8_000_000_000, "MemoryBytes": 2**33,
                "GenericResources": [{"NamedResourceSpec": {"Kind": "NVIDIA-GPU", "Value": f"GPU-{n}"}} for n in range(gpus)],
            },
        },
        **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("node.labels.cluster==vision", True),
        ("node.labels.cluster == kitchen", False),
        ("node.labels.cluster!=kitchen", True),
        ("node.labels.none!=x", True),
        ("node.hostname==AGX0", True),
        ("node.id==id-agx0", True),
        ("node.role!=manager", True),
        ("node.platform.arch==aarch64", True),
        ("engine.labels.disk==nvme", True),
        ("node.ip==192.0.2.10", True),
    ],
)
def test_constraints_are_read_as_swarm_reads_them(text: str, met: bool) -> None:
    assert Constraint.parse(text).met_by(node()) is met


@pytest.mark.parametrize(
    "text", ["", "==", "node.labels.a", "node.labels.a=b", "label.a==b", "node.labels.==b", "node.nothing==b", "node.id=="]
)
def test_malformed_constraints(text: str) -> None:
    with pytest.raises(InvalidValue, match="constraints"):
        Constraint.parse(text)


@pytest.mark.parametrize(
    ("host", "image", "fits"),
    [
        ("36.4.3", "r36.4.0", True), ("36.4.3", "r36.2.0", False), ("36.3.0", "r36.2.0", True), ("36.3.0", "r36.4.0", False),
        ("35.4.1", "r35.3.1", True), ("35.4.1", "r36.2.0", False), ("34.1.1", "r34.1.0", True), ("34.1.1", "r35.1.0", False),
        ("32.7.4", "r32.7.1", True), ("32.7.1", "r32.7.4", True), ("32.7.1", "r32.6.1", False), ("32.6.1", "r32.6.1", True),
        ("32.6.1", "r32.7.1", False), ("38.2.0", "r38.2.0", True), ("38.2.0", "r36.4.0", False),
    ],
)  # fmt: skip
def test_which_jetson_runs_which_image(host: str, image: str, fits: bool) -> None:
    needs, has = l4t.of_image(f"192.0.2.10:5000/sdxl-trt:{image}"), l4t.parsed(host)
    assert needs is not None
    assert has is not None
    assert l4t.fits(has, needs) is fits


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ("sdxl:r35.3.1", (35, 3, 1)), ("sdxl:2.1-r36.4-pth", (36, 4, 0)), ("sdxl:latest", None), ("r35.3.1/sdxl", None),
        ("host:5000/sdxl", None), ("sdxl:worker35.3", None), ("sdxl:r35.3.1@sha256:" + "0" * 64, (35, 3, 1)),
    ],
)  # fmt: skip
def test_releases_in_tags(image: str, found: tuple[int, int, int] | None) -> None:
    assert l4t.of_image(image) == found


@pytest.mark.parametrize(
    ("wanted", "nodes", "words"),
    [
        (Wanted("web:1"), [], "the swarm has no nodes"),
        (Wanted("web:1", gpus=1), [node(gpus=0)], "offers no NVIDIA-GPU"),
        (Wanted("web:1", gpus=1, replicas=3), [node(), node("agx1")], "room for 2"),
        (Wanted("web:1", gpus=1, replicas=None), [node()], None),
        (Wanted("web:1", replicas=0, gpus=9), [node()], None),
        (Wanted("web:1", cpus=9), [node()], "has 8 CPUs"),
        (Wanted("web:1", arch="amd64"), [node()], "is arm64, and the image is for amd64"),
        (Wanted("web:1", arch="arm64"), [node()], None),
        (Wanted("web:1"), [node(Status={"State": "down"})], "agx0 is down"),
        (Wanted("web:1"), [node(Spec={"Availability": "drain"})], "agx0 is drained"),
        (Wanted("web:r36.4"), [node(Spec={})], "not known as a Jetson"),
    ],
)
def test_placement(wanted: Wanted, nodes: list[dict[str, Any]], words: str | None) -> None:
    why = refusal(wanted, nodes)
    assert (why is None) if words is None else words in str(why)


def test_ingress_wants_ip_vs_everywhere() -> None:
    assert "IP_VS" in str(refusal(Wanted("web:1", ingress=True), [node()], ["agx1"]))
    assert refusal(Wanted("web:1"), [node()], ["agx1"]) is None


@pytest.mark.parametrize("source", ["/mnt", "/mnt/x//y/", "/data/z", "models"])
def test_mounts_that_are_allowed(source: str) -> None:
    assert RULES.checked(source, "/models").target == "/models"


@pytest.mark.parametrize(
    "source",
    [
        "/",
        "/etc",
        "/mntx",
        "/mnt/../etc",
        "/srv/fleet-home",
        "/srv/fleet-home/vault",
        "/srv",
        "/run",
        "/var/run/docker.sock",
        "-x",
        "a b",
        "../x",
    ],
)
def test_mounts_that_are_not(source: str) -> None:
    with pytest.raises(InvalidValue, match="mounts"):
        RULES.checked(source, "/models")


def test_a_listed_folder_gives_no_way_around() -> None:
    wide = MountRules.of(["/srv", "/run"], "/srv/fleet-home")
    for source in ("/srv", "/srv/fleet-home/tls", "/run", "/run/docker.sock"):
        with pytest.raises(InvalidValue, match="it would give a container"):
            wide.checked(source, "/x")


def task(state: str, slot: int = 1, desired: str = "running", **status: Any) -> dict[str, Any]:
    return {"ID": f"{state}{slot}", "Slot": slot, "DesiredState": desired, "Status": {"State": state, **status}}


def service(replicas: int = 1, restart: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    template = {"ContainerSpec": {"Image": "web:1"}, "RestartPolicy": restart or {"Condition": "any"}}
    return {"Spec": {"Name": "web", "Mode": {"Replicated": {"Replicas": replicas}}, "TaskTemplate": template}, **more}


FAILED = {"Err": "task: non-zero exit (3)", "ContainerStatus": {"ExitCode": 3}, "Timestamp": "2"}


def test_a_new_service_has_come_to_its_end() -> None:
    assert terminal.of_creation(service(2), [task("running"), task("preparing", 2)], 0) == terminal.GOING_ON
    assert terminal.of_creation(service(2), [task("running"), task("running", 2)], 0).state == "completed"
    broken = terminal.of_creation(service(), [task("failed", **FAILED)] * 3, 0)
    assert (broken.state, broken.error, broken.exit_code) == ("failed", "task: non-zero exit (3)", 3)
    once = service(restart={"Condition": "none"})
    assert terminal.of_creation(once, [task("failed", **FAILED)], 0).state == "failed"
    assert terminal.of_creation(once, [task("complete")], 0).state == "completed"
    assert terminal.of_creation(service(restart={"Condition": "on-failure", "MaxAttempts": 1}), [task("failed")], 0) == terminal.GOING_ON


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        ("updating", ""), ("completed", "completed"), ("rollback_started", ""), ("rollback_completed", "rolled_back"), ("paused", "failed"),
        ("rollback_paused", "failed"),
    ],
)  # fmt: skip
def test_an_update_has_come_to_its_end(state: str, verdict: str) -> None:
    now = service(UpdateStatus={"State": state, "StartedAt": "2"})
    assert terminal.of_update(now, [task("failed", **FAILED)], "1").state == verdict
    assert terminal.of_update(now, [], "2").state == "", "the word of the update before is not this one's"


def test_a_specification_there_and_back() -> None:
    body = ServiceBody.model_validate(
        {
            "name": "web", "image": "web:1", "cluster": "vision", "constraints": ["node.labels.cluster == vision"], "resources": {"gpu": 2},
            "health": {"test": ["true"]}, "restart": {"max_attempts": 3}, "ports": [{"target_port": 80, "mode": "host"}],
        }
    )  # fmt: skip
    made = spec.made(body, RULES)
    assert made["TaskTemplate"]["Placement"]["Constraints"] == ["node.labels.cluster==vision"]
    assert made["TaskTemplate"]["ContainerSpec"]["Healthcheck"]["Test"] == ["CMD", "true"]
    assert (made["EndpointSpec"]["Mode"], spec.gpus(made), spec.wanted(made).ingress) == ("dnsrr", 2, False)
    changed = spec.changed(made, ServiceChange(image="web:2", replicas=4))
    assert (changed["TaskTemplate"]["ContainerSpec"]["Image"], spec.replicas_of(changed)) == ("web:2", 4)
    assert made["TaskTemplate"]["ContainerSpec"]["Image"] == "web:1"


def test_of_what_a_task_reserves_that_alone_changes_that_is_given() -> None:
    body = ServiceBody.model_validate({"name": "web", "image": "web:1", "resources": {"gpu": 2, "memory_mib": 512}})
    made = spec.made(body, RULES)
    other = {"NamedResourceSpec": {"Kind": "FPGA", "Value": "f0"}}
    made["TaskTemplate"]["Resources"]["Reservations"]["GenericResources"].append(other)
    made["TaskTemplate"]["Resources"]["Limits"] = {"Pids": 100}

    def after(**resources: Any) -> Any:
        return spec.changed(made, ServiceChange.model_validate({"resources": resources}))["TaskTemplate"]["Resources"]

    gpu = {"DiscreteResourceSpec": {"Kind": spec.GPU, "Value": 1}}
    kept = {"MemoryBytes": 512 * 2**20}
    assert after(gpu=1) == {"Limits": {"Pids": 100}, "Reservations": {**kept, "GenericResources": [other, gpu]}}
    assert after(gpu=0) == {"Limits": {"Pids": 100}, "Reservations": {**kept, "GenericResources": [other]}}
    assert after(cpus=1.5)["Reservations"]["GenericResources"] == made["TaskTemplate"]["Resources"]["Reservations"]["GenericResources"]
    assert (after(cpus=1.5)["Reservations"]["NanoCPUs"], spec.gpus(made)) == (1_500_000_000, 2)
    bare = spec.made(ServiceBody(name="web", image="web:1"), RULES)
    assert spec.changed(bare, ServiceChange.model_validate({"resources": {"gpu": 0}})) == bare


def test_labels_from_facts() -> None:
    facts = {"is_jetson": True, "l4t_version": "36.4.3", "jetpack_version": "6.2", "compute_capability": "8.7"}
    ours = labels.from_facts("agx0", None, facts)
    assert ours == {"fleet.node": "agx0", "nvidia": "true", "l4t": "36.4.3", "jetpack": "6.2", "gpu_arch": "sm_87"}
    assert labels.merged({"rack": "a1", "cluster": "old"}, ours) == {"rack": "a1", **ours}
    assert labels.from_facts("box", "vision", {})["nvidia"] == "false"


def test_frames_are_told_apart() -> None:
    raw = io.BytesIO(b"\1\0\0\0\0\0\0\3one\2\0\0\0\0\0\0\4two\n\3\0\0\0\0\0\0\5error\1\0\0\0\0\0\0\7cut")
    assert list(frames(raw)) == [b"one", b"two\n", b"cut"]


def test_images_and_times_as_people_read_them() -> None:
    digest = "@sha256:" + "0" * 64
    for image, shown in (("web:1" + digest, "web:1"), ("host:5000/web" + digest, "host:5000/web" + digest), ("web:1", "web:1")):
        assert image_of({"TaskTemplate": {"ContainerSpec": {"Image": image}}}) == shown
    assert moment("2026-01-01T12:00:00.123456789Z") == "2026-01-01T12:00:00.123Z"
    assert moment("0001-01-01T00:00:00Z") is None
