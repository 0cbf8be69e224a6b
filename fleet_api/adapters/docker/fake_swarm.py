"""A swarm of engines in memory, for tests: each engine has the methods of the docker library's client that are used.

Tasks run as soon as they are wanted, unless their image's tag is ``broken``: then they fail with exit code 3, and an update is rolled back.
"""

from __future__ import annotations

import copy
import io
import itertools
from dataclasses import dataclass, field
from typing import Any

import docker.errors

Raw = dict[str, Any]
NOW = "2026-01-01T12:00:00.000000000Z"


class _Response:
    def __init__(self, status: int) -> None:
        self.status_code = status
        self.reason = ""
        self.url = ""
        self.raw = io.BytesIO()


def refused(status: int, text: str) -> docker.errors.APIError:
    """Return what the library raises for an answer of an engine."""
    kind = docker.errors.NotFound if status == 404 else docker.errors.APIError
    return kind(text, response=_Response(status), explanation=text)  # type: ignore[arg-type]


@dataclass
class FakeWorld:
    """The swarm that fake engines form. ``quorum`` off: its managers can decide nothing."""

    id: str = ""
    quorum: bool = True
    members: dict[str, Raw] = field(default_factory=dict)
    services: dict[str, Raw] = field(default_factory=dict)
    tasks: list[Raw] = field(default_factory=list)
    tokens: Raw = field(default_factory=lambda: {"Worker": "SWMTKN-1-worker-0", "Manager": "SWMTKN-1-manager-0"})
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def settle(self, service: Raw) -> None:
        """Make the tasks that a service wants."""
        spec = service["Spec"]
        template = spec["TaskTemplate"]
        places = [each["ID"] for each in self.members.values() if each["Status"]["State"] == "ready"]
        replicas = len(places) if "Global" in spec["Mode"] else spec["Mode"]["Replicated"]["Replicas"]
        broken, waits = (template["ContainerSpec"]["Image"].endswith(tag) for tag in (":broken", ":waits"))
        for task in self.tasks:
            if task["ServiceID"] == service["ID"] and task["DesiredState"] == "running":
                task["DesiredState"] = "shutdown"
                task["Status"]["State"] = "shutdown"
        for slot in range(1, replicas + 1):
            for _ in range(3 if broken else 1):
                self.tasks.append(self._task(service, slot, places[(slot - 1) % len(places)] if places else "", broken))
                if waits:
                    self.tasks[-1]["Status"] |= {"State": "pending", "Err": "no suitable node (1 node)"}

    def _task(self, service: Raw, slot: int, node: str, broken: bool) -> Raw:
        status: Raw = {"Timestamp": NOW, "State": "running", "ContainerStatus": {"ContainerID": f"c{next(self.numbers)}", "ExitCode": 0}}
        if broken:
            status |= {"State": "failed", "Err": "task: non-zero exit (3)"}
            status["ContainerStatus"]["ExitCode"] = 3
        return {
            "ID": f"task{next(self.numbers)}", "ServiceID": service["ID"], "Slot": slot, "NodeID": node, "CreatedAt": NOW, "Status": status,
            "DesiredState": "shutdown" if broken else "running", "Spec": copy.deepcopy(service["Spec"]["TaskTemplate"]),
        }  # fmt: skip


class FakeDocker:
    """One engine. ``containers_here`` and ``images`` are by name, ``headers`` what came with calls that have an image fetched."""

    def __init__(self, world: FakeWorld, hostname: str, addr: str, gpus: int = 0) -> None:
        self.world = world
        self.hostname = hostname
        self.addr = addr
        self.gpus = gpus
        self.node_id = ""
        self.state = "inactive"
        self.other_swarm = False
        self.images = {"web:1"}
        self.containers_here: dict[str, Raw] = {}
        self.runtimes: Raw = {"runc": {}}
        self.ports: set[int] = set()
        self.headers: list[Raw] = []

    # -- the engine

    def ping(self) -> bool:
        """See the docker library."""
        return True

    def info(self) -> Raw:
        """See the docker library."""
        manages = self.state == "active" and self._spec().get("Role") == "manager"
        swarm: Raw = {"LocalNodeState": self.state, "NodeID": self.node_id, "ControlAvailable": manages}
        if manages:
            swarm["Cluster"] = {"ID": self.world.id}
        return {"Swarm": swarm, "Runtimes": self.runtimes, "Name": self.hostname}

    def _spec(self) -> Raw:
        return dict((self.world.members.get(self.node_id) or {}).get("Spec") or {})

    def _decides(self) -> None:
        if self.state != "active" or self._spec().get("Role") != "manager":
            raise refused(503, 'This node is not a swarm manager. Use "docker swarm init" to connect this node to swarm and try again.')
        if not self.world.quorum:
            raise refused(500, "rpc error: code = Unknown desc = The swarm does not have a leader. Too few managers are online.")

    # -- the swarm

    def init_swarm(self, advertise_addr: str, listen_addr: str) -> str:
        """See the docker library."""
        self.world.id = f"swarm{next(self.world.numbers)}"
        self._become("manager", leader=True)
        return self.node_id

    def join_swarm(self, remote_addrs: list[str], join_token: str, listen_addr: str, advertise_addr: str | None) -> bool:
        """See the docker library."""
        role = next((role for role, token in self.world.tokens.items() if token == join_token), None)
        if role is None:
            raise refused(400, f"rpc error: code = InvalidArgument desc = A valid join token is necessary, not {join_token}")
        self._become(role.lower())
        return True

    def leave_swarm(self, force: bool) -> bool:
        """See the docker library."""
        member = self.world.members.get(self.node_id)
        if member is not None:
            member["Status"]["State"] = "down"
            if not any(each["Status"]["State"] == "ready" for each in self.world.members.values()):
                self.world.members.clear()
        self.state, self.node_id, self.other_swarm = "inactive", "", False
        return True

    def _become(self, role: str, leader: bool = False) -> None:
        self.node_id, self.state = f"node{next(self.world.numbers)}", "active"
        generic = [{"NamedResourceSpec": {"Kind": "NVIDIA-GPU", "Value": f"GPU-{number}"}} for number in range(self.gpus)]
        self.world.members[self.node_id] = {
            "ID": self.node_id, "Version": {"Index": 1}, "Spec": {"Role": role, "Availability": "active", "Labels": {}},
            "Description": {
                "Hostname": self.hostname, "Platform": {"Architecture": "aarch64", "OS": "linux"},
                "Resources": {"NanoCPUs": 8_000_000_000, "MemoryBytes": 2**34, "GenericResources": generic},
                "Engine": {"EngineVersion": "20.10.24"},
            },
            "Status": {"State": "ready", "Addr": self.addr},
        }  # fmt: skip
        self._manage(self.world.members[self.node_id], leader)

    def _manage(self, member: Raw, leader: bool = False) -> None:
        if member["Spec"]["Role"] == "manager":
            old = member.get("ManagerStatus") or {}
            addr = f"{member['Status']['Addr']}:2377"
            member["ManagerStatus"] = {"Leader": leader or bool(old.get("Leader")), "Reachability": "reachable", "Addr": addr}
        else:
            member.pop("ManagerStatus", None)

    def inspect_swarm(self) -> Raw:
        """See the docker library."""
        self._decides()
        return {"ID": self.world.id, "JoinTokens": dict(self.world.tokens), "Version": {"Index": 1}, "Spec": {}}

    def update_swarm(self, version: int, swarm_spec: Raw, rotate_worker_token: bool, rotate_manager_token: bool) -> bool:
        """See the docker library."""
        self._decides()
        for role, rotated in (("Worker", rotate_worker_token), ("Manager", rotate_manager_token)):
            if rotated:
                self.world.tokens[role] = f"SWMTKN-1-{role.lower()}-{next(self.world.numbers)}"
        return True

    def nodes(self, filters: Raw | None = None) -> list[Raw]:
        """See the docker library."""
        self._decides()
        role = (filters or {}).get("role")
        return copy.deepcopy([each for each in self.world.members.values() if role in (None, each["Spec"]["Role"])])

    def inspect_node(self, node_id: str) -> Raw:
        """See the docker library."""
        self._decides()
        if node_id not in self.world.members:
            raise refused(404, f"node {node_id} not found")
        return copy.deepcopy(self.world.members[node_id])

    def update_node(self, node_id: str, version: int, node_spec: Raw) -> bool:
        """See the docker library."""
        self._decides()
        member = self.world.members[node_id]
        if member["Version"]["Index"] != version:
            raise refused(500, "rpc error: code = Unknown desc = update out of sequence")
        member["Spec"] = copy.deepcopy(node_spec)
        member["Version"]["Index"] += 1
        self._manage(member)
        return True

    def remove_node(self, node_id: str, force: bool) -> bool:
        """See the docker library."""
        self._decides()
        self.world.members.pop(node_id, None)
        return True

    # -- services

    def services(self, status: bool = False) -> list[Raw]:
        """See the docker library."""
        self._decides()
        found = copy.deepcopy(list(self.world.services.values()))
        for service in found:
            own = [task for task in self.world.tasks if task["ServiceID"] == service["ID"] and task["DesiredState"] == "running"]
            service["ServiceStatus"] = {"RunningTasks": len(own), "DesiredTasks": len(own)}
        return found

    def inspect_service(self, name: str) -> Raw:
        """See the docker library."""
        self._decides()
        for service in self.world.services.values():
            if name in (service["ID"], service["Spec"]["Name"]):
                return copy.deepcopy(service)
        raise refused(404, f"service {name} not found")

    def tasks(self, filters: Raw) -> list[Raw]:
        """See the docker library."""
        self._decides()
        keys = {"service": "ServiceID", "node": "NodeID", "desired-state": "DesiredState"}
        return copy.deepcopy([t for t in self.world.tasks if all(t[keys[str(name)]] == value for name, value in filters.items())])

    def remove_service(self, service: str) -> bool:
        """See the docker library."""
        self._decides()
        self.world.services.pop(service)
        self.world.tasks = [task for task in self.world.tasks if task["ServiceID"] != service]
        return True

    def _url(self, path: str, *parts: str) -> str:
        return path.format(*parts)

    def _get(self, path: str, params: Raw, stream: bool) -> _Response:
        """Return the logs of a service: a line of each task."""
        answer = _Response(200)
        service = path.split("/")[2]
        lines = [f"tick of {task['ID']}\n".encode() for task in self.world.tasks if task["ServiceID"] == service]
        answer.raw = io.BytesIO(b"".join(b"\1\0\0\0" + len(line).to_bytes(4, "big") + line for line in lines))
        return answer

    def _raise_for_status(self, answer: _Response) -> None:
        """Nothing is ever wrong with them."""

    def _post_json(self, path: str, data: Raw, params: Raw, headers: Raw | None = None) -> Raw:
        words = path.split("/")
        self.headers.append(headers or {})
        if path == "/services/create":
            return self._create(data)
        if words[1] == "services":
            return self._update(words[2], data, params)
        return self._create_container(data, params["name"])

    def _result(self, answer: Raw, json: bool) -> Raw:
        return answer

    def _create(self, spec: Raw) -> Raw:
        self._decides()
        if any(each["Spec"]["Name"] == spec["Name"] for each in self.world.services.values()):
            raise refused(409, "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service already exists")
        made: str = f"service{next(self.world.numbers)}"
        times = {"CreatedAt": NOW, "UpdatedAt": NOW}
        self.world.services[made] = {"ID": made, "Version": {"Index": 1}, **times, "Spec": copy.deepcopy(spec)}
        self.world.settle(self.world.services[made])
        return {"ID": made}

    def _update(self, service_id: str, spec: Raw, query: Raw) -> Raw:
        self._decides()
        service = self.world.services[service_id]
        if service["Version"]["Index"] != query["version"]:
            raise refused(500, "rpc error: code = Unknown desc = update out of sequence")
        before = copy.deepcopy(service["Spec"])
        service["Version"]["Index"] += 1
        started = f"2026-01-01T12:00:{service['Version']['Index']:02}.000000000Z"
        if "rollback" in query:
            service["Spec"], service["PreviousSpec"] = service.pop("PreviousSpec"), before
            service["UpdateStatus"] = {"State": "rollback_completed", "StartedAt": started, "Message": "rollback completed"}
        else:
            service["Spec"] = copy.deepcopy(spec)
            if before["TaskTemplate"] != spec["TaskTemplate"]:
                service["PreviousSpec"] = before
                service["UpdateStatus"] = {"State": "completed", "StartedAt": started, "Message": "update completed"}
                if spec["TaskTemplate"]["ContainerSpec"]["Image"].endswith(":waits"):
                    service["UpdateStatus"] = {"State": "updating", "StartedAt": started, "Message": "update in progress"}
        self.world.settle(service)
        if service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].endswith(":broken") and "rollback" not in query:
            service["Spec"] = before
            del service["PreviousSpec"]
            service["UpdateStatus"] = {"State": "rollback_completed", "StartedAt": started, "Message": "rollback completed"}
            self.world.settle(service)
        return {}

    # -- containers

    def inspect_image(self, image: str) -> Raw:
        """See the docker library."""
        if image not in self.images:
            raise refused(404, f"No such image: {image}")
        return {"Architecture": "arm64"}

    def pull(self, name: str, tag: str, stream: bool, decode: bool, auth_config: Raw | None = None) -> list[Raw]:
        """See the docker library."""
        assert auth_config is not None, "the library would look for a sign-in in the user's own files"
        self.headers.append(auth_config)
        if name.startswith("nowhere"):
            raise refused(404, f"pull access denied for {name}, repository does not exist")
        self.images.add(f"{name}:{tag}")
        return [{"status": "Pull complete"}]

    def containers(self, all: bool) -> list[Raw]:  # noqa: A002
        """See the docker library."""
        return [
            {
                "Id": each["Id"], "Names": [each["Name"]], "Image": each["Config"]["Image"], "State": each["State"]["Status"],
                "Ports": [{"PrivatePort": 8188, "PublicPort": 8188, "Type": "tcp"}],
            }
            for each in self.containers_here.values()
        ]  # fmt: skip

    def inspect_container(self, name: str) -> Raw:
        """See the docker library."""
        for key, each in self.containers_here.items():
            if name in (key, each["Id"]):
                return copy.deepcopy(each)
        raise refused(404, f"No such container: {name}")

    def _create_container(self, config: Raw, name: str) -> Raw:
        if config["Image"] not in self.images:
            raise refused(404, f"No such image: {config['Image']}")
        if name in self.containers_here:
            raise refused(409, f'Conflict. The container name "/{name}" is already in use by container "c1".')
        found = {"Id": f"{next(self.world.numbers):064x}", "Name": f"/{name}", "Config": config, "State": {"Status": "created"}}
        self.containers_here[name] = found
        return {"Id": found["Id"]}

    def start(self, name: str) -> None:
        """See the docker library."""
        found = self._container(name)
        broken = found["Config"]["Image"].endswith(":broken")
        found["State"] = {"Status": "exited", "Running": False, "ExitCode": 3} if broken else {"Status": "running", "Running": True}

    def update_container(self, name: str, restart_policy: Raw) -> None:
        """See the docker library."""
        self._container(name)["Config"]["HostConfig"]["RestartPolicy"] = restart_policy

    def stop(self, name: str, timeout: int) -> None:
        """See the docker library."""
        self._container(name)["State"] = {"Status": "exited", "Running": False, "ExitCode": 0}

    def restart(self, name: str, timeout: int) -> None:
        """See the docker library."""
        self.start(name)

    def logs(self, name: str, tail: int, stdout: bool = True, stderr: bool = True) -> bytes:
        """See the docker library."""
        self._container(name)
        return b"".join(b"line %d\n" % number for number in range(10))[-7 * tail :]

    def remove_container(self, name: str, force: bool) -> None:
        """See the docker library."""
        found = self._container(name)
        del self.containers_here[str(found["Name"]).lstrip("/")]

    def _container(self, name: str) -> Raw:
        for key, each in self.containers_here.items():
            if name in (key, each["Id"]):
                return each
        raise refused(404, f"No such container: {name}")
