"""The Docker Engine that carries a lab, and what a container needs there to run systemd and an engine of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
from docker.errors import APIError, DockerException
from docker.models.containers import Container

from fleet_api.lab.errors import LabFailed, NoEngine

LABEL = "fleet.lab"
"""On everything that a lab makes; its value is the lab's name."""
HOW_TO_GET_ONE = "start Docker, or install it (Debian: apt-get install docker.io), and set DOCKER_HOST if it listens elsewhere"


@contextmanager
def engine() -> Iterator[docker.DockerClient]:
    """Give a client of the engine of this machine. Raises NoEngine, and LabFailed for what the engine refuses inside."""
    try:
        client = docker.from_env(timeout=120)
    except (DockerException, OSError) as error:
        raise NoEngine(f"No Docker Engine answers ({_short(error)}); {HOW_TO_GET_ONE}.") from None
    try:
        client.ping()
        yield client
    except APIError as error:
        raise LabFailed(f"The Docker Engine refused: {_short(error.explanation or error)}; try 'fleet lab down', then up again.") from error
    except (DockerException, OSError) as error:
        raise NoEngine(f"The Docker Engine went away ({_short(error)}); {HOW_TO_GET_ONE}.") from None
    finally:
        client.close()


def host_config(client: docker.DockerClient, info: dict[str, Any], volume: str, devices: list[str]) -> dict[str, Any]:
    """Return what lets systemd and a nested engine run, given the engine's ``info``; ``volume`` holds the nested engine's data.

    Not ``privileged``: it fails where the engine itself lacks a capability. Clock, kernel modules and reboot stay out of reach, as they
    are the machine's, not the node's.
    """
    config: dict[str, Any] = client.api.create_host_config(
        cap_add=["ALL"],
        cap_drop=["SYS_RESOURCE", "SYS_TIME", "SYS_MODULE", "SYS_BOOT"],
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        device_cgroup_rules=["a *:* rwm"],
        devices=devices,
        tmpfs={"/run": "", "/run/lock": "", "/tmp": "exec"},
        binds={"/sys/fs/cgroup": {"bind": "/sys/fs/cgroup", "mode": "rw"}, volume: {"bind": "/var/lib/docker", "mode": "rw"}},
    )
    config |= {"MaskedPaths": [], "ReadonlyPaths": []}
    if str(info.get("CgroupVersion")) == "2":
        config["CgroupnsMode"] = "host"
    return config


def complaint(container: Container, script: str, **environment: str) -> str:
    """Run a shell script in a node as root; return nothing where it went well, else the end of what it said."""
    done = container.exec_run(["sh", "-c", script], environment=environment)
    if not done.exit_code:
        return ""
    said = done.output if isinstance(done.output, bytes) else b"".join(done.output)
    return said.decode(errors="replace").strip()[-300:] or f"exit code {done.exit_code}"


def _short(error: object) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
