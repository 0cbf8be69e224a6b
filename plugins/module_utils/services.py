# Copyright: Fleet Commander contributors. Apache-2.0.
"""Services of a swarm, by the command of one of its managers."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from typing import Any

from ansible_collections.fleet.commander.plugins.module_utils.images import HEEDED, ImageFailed, docker, inspect, last_word, pushed_digest

WANTED = "fleet.wanted"
"""The label that says what a service was asked to be, as a hash: some of it, such as values of variables, is not for showing."""

GPU = "NVIDIA-GPU"
GLOBAL = "global"
LOOK_SECONDS = 0.5
QUIET_SECONDS = 3.0
"""How long a service that runs one task on each node must stay as it is: at first Swarm tells that it wants none."""

LATER: dict[str, Any] = {
    "mode": "replicated", "constraints": [], "mounts": [], "user": "", "groups": [], "networks": [], "stop_grace": 0, "memory_mib": 0,
    "labels": {},
}  # fmt: skip
"""What came later, and means that nothing was asked: so that services from before are as asked for."""


class ServiceFailed(ImageFailed):
    """The swarm did not do it; the text is a sentence."""


def look(name: str) -> dict[str, Any] | None:
    """Return a service as the swarm has it, or None. Raises ServiceFailed."""
    done = docker("service", "inspect", name)
    if done.returncode:
        said = done.stdout.lower()
        if "no such service" in said or "not found" in said:
            return None
        if "not a swarm manager" in said:
            raise ServiceFailed("This machine manages no swarm; run the playbook on a manager, such as after join_swarm.")
        raise ServiceFailed(f"The swarm does not answer: {last_word(done.stdout)}")
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("[") :])[0]
    return found


def wanted_of(given: dict[str, Any]) -> str:
    """Return a hash of what is asked for, the image aside. Pure."""
    kept = {name: given[name] for name in ("replicas", "cluster", "env", "publish", "command", "gpus")}
    kept.update({name: given[name] for name, usual in LATER.items() if given.get(name, usual) != usual})
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def differences(service: dict[str, Any], given: dict[str, Any], local_digest: str) -> list[str]:
    """Return what is not as asked for. Pure. ``local_digest`` is what this engine has of the image, empty where it has nothing."""
    spec = service["Spec"]
    image, _, digest = spec["TaskTemplate"]["ContainerSpec"]["Image"].partition("@")
    found = []
    if image != given["image"].partition("@")[0] or (local_digest and digest and digest != local_digest):
        found.append("image")
    if (spec.get("Labels") or {}).get(WANTED) != wanted_of(given):
        found.append("settings")
    return found


def create_words(given: dict[str, Any], env_file: str = "") -> list[str]:
    """Return the words that make the service. Pure. ``env_file`` has the variables that the command itself would heed."""
    words = ["service", "create", "--detach", "--with-registry-auth", "--name", given["name"]]
    words += ["--mode", GLOBAL] if given.get("mode") == GLOBAL else ["--replicas", str(given["replicas"])]
    words += ["--label", f"{WANTED}={wanted_of(given)}"]
    words += [word for name, value in sorted((given.get("labels") or {}).items()) for word in ("--label", f"{name}={value}")]
    words += ["--constraint", f"node.labels.cluster=={given['cluster']}"] if given["cluster"] else []
    words += [word for each in given.get("constraints") or [] for word in ("--constraint", each)]
    words += [word for each in given.get("mounts") or [] for word in ("--mount", mounted(each))]
    words += [word for each in given.get("networks") or [] for word in ("--network", each)]
    words += ["--user", given["user"]] if given.get("user") else []
    words += [word for each in given.get("groups") or [] for word in ("--group", each)]
    words += ["--stop-grace-period", f"{given['stop_grace']}s"] if given.get("stop_grace") else []
    words += ["--limit-memory", f"{given['memory_mib']}m"] if given.get("memory_mib") else []
    words += [word for name in sorted(given["env"]) if not HEEDED.fullmatch(name) for word in ("--env", name)]
    words += ["--env-file", env_file] if env_file else []
    words += [word for each in given["publish"] for word in ("--publish", published(each))]
    words += ["--generic-resource", f"{GPU}={given['gpus']}"] if given["gpus"] else []
    return [*words, given["image"], *given["command"]]


def published(text: str) -> str:
    """Return a port such as ``8188:8188`` as Docker's command takes it, on the nodes themselves. Pure."""
    outer, _, inner = text.rpartition(":")
    return f"mode=host,target={inner}" + (f",published={outer}" if outer else "")


def mounted(mount: dict[str, Any]) -> str:
    """Return a mount as Docker's command takes it: a source that is a path is of the node, else a volume. Raises ServiceFailed."""
    source, target = str(mount.get("source") or ""), str(mount.get("target") or "")
    if not target.startswith("/") or not source or any(sign in source + target for sign in ',"\n'):
        raise ServiceFailed(f"A mount wants a source, and a path as its target, without commas and quotes; it is {source!r} to {target!r}.")
    kind = "bind" if source.startswith("/") else "volume"
    return f"type={kind},source={source},target={target}" + (",readonly" if mount.get("read_only") else "")


def create(given: dict[str, Any]) -> None:
    """Make the service. Raises ServiceFailed."""
    heeded = {name: value for name, value in given["env"].items() if HEEDED.fullmatch(name)}
    rest = {name: value for name, value in given["env"].items() if name not in heeded}
    if any("\n" in value for value in heeded.values()):
        raise ServiceFailed("{} must each be one line for {}.".format(", ".join(sorted(heeded)), given["name"]))
    with tempfile.NamedTemporaryFile("w", prefix="fleet-env-") as file:  # 0600
        file.write("".join(f"{name}={value}\n" for name, value in sorted(heeded.items())))
        file.flush()
        done = docker(*create_words(given, file.name if heeded else ""), environment=rest)
    if done.returncode:
        raise ServiceFailed(f"Service {given['name']} was not made: {last_word(done.stdout)}")


def update(given: dict[str, Any]) -> None:
    """Bring another image to the service. Raises ServiceFailed."""
    done = docker("service", "update", "--detach", "--with-registry-auth", "--image", given["image"], given["name"])
    if done.returncode:
        raise ServiceFailed(f"Service {given['name']} was not updated: {last_word(done.stdout)}")


def remove(name: str) -> None:
    """Remove the service, and wait until its tasks are gone. Raises ServiceFailed."""
    done = docker("service", "rm", name)
    if done.returncode:
        raise ServiceFailed(f"Service {name} was not removed: {last_word(done.stdout)}")
    deadline = time.monotonic() + 30
    while look(name) is not None and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


def settle(name: str, replicas: int | None, seconds: int) -> None:
    """Wait until all tasks run: so many, or, for None, as many as Swarm wants. Raises ServiceFailed with what a task said."""
    deadline, tasks, since = time.monotonic() + seconds, [], time.monotonic()
    while time.monotonic() < deadline:
        status = (look(name) or {}).get("UpdateStatus") or {}
        tasks = tasks_of(name)
        wanted = [task for task in tasks if task["DesiredState"] == "Running"]
        running = sum(task["CurrentState"].startswith("Running") for task in wanted)
        if status.get("State", "").startswith("rollback") or status.get("State") == "paused":
            raise ServiceFailed(f"The update of {name} did not succeed: {status.get('Message') or status['State']}; {why(tasks)}")
        if running != (len(wanted) if replicas is None else replicas) or status.get("State") not in (None, "", "completed"):
            since = time.monotonic()
        elif replicas is not None or time.monotonic() - since > QUIET_SECONDS:
            return
        time.sleep(LOOK_SECONDS)
    where = "the nodes that it is for" if replicas is None else f"{replicas} nodes"
    raise ServiceFailed(f"Service {name} does not run on {where} after {seconds} s: {why(tasks)}")


def tasks_of(name: str) -> list[dict[str, str]]:
    """Return the tasks of a service, newest first."""
    done = docker("service", "ps", name, "--no-trunc", "--format", "{{json .}}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def why(tasks: list[dict[str, str]]) -> str:
    """Return what the tasks complain of, as the end of a sentence. Pure."""
    told = [task["Error"] for task in tasks if task.get("Error")]
    return f"{told[0].rstrip('.')}." if told else "no task says why; see 'docker service ps' on the manager."


def local_digest(image: str) -> str:
    """Return under which digest the registry has the image that this engine has; empty where it has none."""
    return pushed_digest(inspect(image), image)
