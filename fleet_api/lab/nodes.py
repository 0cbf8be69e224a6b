"""One node of a lab: a container, its address and its user."""

from __future__ import annotations

import secrets
import socket
import time
import uuid
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network
from typing import Any

from docker import DockerClient
from docker.models.containers import Container
from docker.models.networks import Network

from fleet_api.lab.engine import LABEL, complaint, host_config
from fleet_api.lab.errors import LabFailed
from fleet_api.lab.personality import Jetson, install
from fleet_api.lab.recipe import USER
from fleet_api.lab.subnets import node_address

BOOT_SECONDS = 90
SET_UP = "/etc/fleet-lab/set-up"


@dataclass(frozen=True)
class LabNode:
    """``password`` is that of the user ``user``, for SSH and for sudo."""

    name: str
    ip: str
    user: str
    password: str
    state: str
    jetson: str
    engine: bool

    def as_json(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return asdict(self)


def describe(container: Container) -> LabNode:
    """Return a node from what its container's labels say."""
    labels = container.labels
    return LabNode(
        name=str(container.name),
        ip=labels[f"{LABEL}.ip"],
        user=USER,
        password=labels[f"{LABEL}.password"],
        state=container.status,
        jetson=labels[f"{LABEL}.jetson"],
        engine=labels[f"{LABEL}.engine"] == "yes",
    )


def make(
    client: DockerClient, info: dict[str, Any], network: Network, subnet: IPv4Network, image: str, lab: str, number: int,
    jetson: Jetson | None, with_engine: bool,
) -> Container:  # fmt: skip
    """Make node ``number`` of a lab; :func:`start` starts it."""
    name, address = f"{lab}-{number}", str(node_address(subnet, number))
    labels = {
        LABEL: lab,
        f"{LABEL}.number": str(number),
        f"{LABEL}.ip": address,
        f"{LABEL}.password": secrets.token_hex(8),
        f"{LABEL}.jetson": jetson.release if jetson else "",
        f"{LABEL}.engine": "yes" if with_engine else "",
    }
    volume = client.volumes.create(f"{name}-docker", labels={LABEL: lab})
    made = client.api.create_container(
        image,
        name=name,
        hostname=name,
        labels=labels,
        environment={"container": "docker", "container_uuid": str(uuid.uuid4())},  # of which systemd makes the machine id
        host_config=host_config(client, info, volume.name, _devices(info)),
        networking_config={"EndpointsConfig": {network.name: client.api.create_endpoint_config(ipv4_address=address)}},
    )
    return client.containers.get(made["Id"])


def start(container: Container, jetson: Jetson | None) -> None:
    """Start a node and wait until its sshd answers. Raises LabFailed when that does not come.

    A node that is set up already is only started; one whose first start was cut off is set up again.
    """
    if container.status != "running":
        container.start()
    # Before it is set up: Debian's boot empties /tmp, in which dpkg works, and sshd comes after that.
    _wait_for_sshd(container, container.labels[f"{LABEL}.ip"])
    if complaint(container, f"test -e {SET_UP}"):
        _set_password(container, container.labels[f"{LABEL}.password"])
        if jetson:
            install(container, jetson)
        complaint(container, f"mkdir -p /etc/fleet-lab && touch {SET_UP}")


def _devices(info: dict[str, Any]) -> list[str]:
    return ["/dev/fuse"] if info.get("OSType") == "linux" and "fuse" in _filesystems() else []


def _filesystems() -> str:
    try:
        with open("/proc/filesystems") as file:
            return file.read()
    except OSError:
        return ""


def _set_password(container: Container, password: str) -> None:
    said = complaint(container, f'echo "{USER}:$PASSWORD" | chpasswd', PASSWORD=password)
    if said:
        raise LabFailed(f"{container.name} did not start: {said}; see 'docker logs {container.name}'.")


def _wait_for_sshd(container: Container, address: str) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((address, 22), timeout=1) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            container.reload()
            if container.status != "running":
                break
        time.sleep(0.1)
    raise LabFailed(f"{container.name} did not answer on {address}:22 within {BOOT_SECONDS} s; see 'docker logs {container.name}'.")
