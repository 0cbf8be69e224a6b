"""A lab's life: up, status, down. It touches only what carries its label."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path

from docker import DockerClient
from docker.errors import APIError
from docker.models.containers import Container
from docker.models.networks import Network
from docker.types import IPAMConfig, IPAMPool

from fleet_api.lab import nodes, personality, subnets
from fleet_api.lab.engine import LABEL, engine
from fleet_api.lab.errors import BadLab, LabDiffers, LabFailed, NoLab
from fleet_api.lab.images import node_image
from fleet_api.lab.nodes import LabNode

DEFAULT_NAME = "fleet-lab"
NAME = re.compile(r"[a-z][a-z0-9-]{0,30}[a-z0-9]")


def up(
    name: str = DEFAULT_NAME, count: int = 3, jetson: str = "", with_engine: bool = False, say: Callable[[str], None] = lambda _: None
) -> list[LabNode]:
    """Bring a lab to at least ``count`` nodes and return them all.

    Nodes that are there stay as they are; those that were stopped are started. Raises BadLab, LabDiffers, NoEngine and LabFailed.
    """
    _check(name, count)
    captured = personality.of(jetson) if jetson else None
    with engine() as client:
        there = {int(container.labels[f"{LABEL}.number"]): container for container in _containers(client, name)}
        for container in there.values():
            made_as = (container.labels[f"{LABEL}.jetson"], container.labels[f"{LABEL}.engine"] == "yes")
            if made_as != (captured.release if captured else "", with_engine):
                raise LabDiffers(f"The lab {name!r} runs, made with other options; take it down first: fleet lab down --name {name}.")
        image = node_image(client, with_engine, say)
        info = client.info()
        network, subnet = _network(client, name)
        missing = [number for number in range(1, count + 1) if number not in there]

        def bring(number: int) -> None:
            container = there.get(number) or nodes.make(client, info, network, subnet, image, name, number, captured, with_engine)
            nodes.start(container, captured)

        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(bring, sorted({*there, *missing})))
        return [nodes.describe(container) for container in _containers(client, name)]


def status(name: str = DEFAULT_NAME) -> list[LabNode]:
    """Return a lab's nodes, by number. Raises NoLab and NoEngine."""
    _check(name, 1)
    with engine() as client:
        found = _containers(client, name)
        if not found:
            raise NoLab(f"No lab {name!r} is up; start one with: fleet lab up --name {name}.")
        return [nodes.describe(container) for container in found]


def down(name: str = DEFAULT_NAME) -> int:
    """Remove a lab's containers, volumes and network, and return how many nodes it had. Raises NoEngine."""
    _check(name, 1)
    with engine() as client:
        mine = {"label": f"{LABEL}={name}"}
        containers = _containers(client, name)
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(lambda container: container.remove(force=True, v=True), containers))
        for volume in client.volumes.list(filters=mine):
            volume.remove(force=True)
        for network in client.networks.list(filters=mine):
            network.remove()
        return len(containers)


def _check(name: str, count: int) -> None:
    if not NAME.fullmatch(name):
        raise BadLab(f"--name: {name!r:.60} is not allowed; use 2 to 32 lower-case letters, digits and hyphens, with a letter first.")
    if not 1 <= count <= subnets.MOST_NODES:
        raise BadLab(f"--nodes: {count} is not allowed; it must be from 1 to {subnets.MOST_NODES}.")


def _containers(client: DockerClient, name: str) -> list[Container]:
    found = client.containers.list(all=True, filters={"label": f"{LABEL}={name}"})
    return sorted(found, key=lambda container: int(container.labels[f"{LABEL}.number"]))


def _network(client: DockerClient, name: str) -> tuple[Network, IPv4Network]:
    for network in client.networks.list(filters={"label": f"{LABEL}={name}"}):
        return network, IPv4Network(network.attrs["IPAM"]["Config"][0]["Subnet"])
    taken = [
        pool["Subnet"]
        for network in client.networks.list()
        for pool in (network.attrs["IPAM"].get("Config") or [])
        if "Subnet" in pool
    ]  # fmt: skip
    refused: APIError | None = None
    for subnet in subnets.free_subnets([*taken, *_routed_here()])[:8]:
        pool = IPAMConfig(pool_configs=[IPAMPool(subnet=str(subnet), gateway=str(subnet.network_address + 1))])
        try:
            return client.networks.create(name, driver="bridge", ipam=pool, labels={LABEL: name}, check_duplicate=True), subnet
        except APIError as error:  # another lab took it between our look and our asking
            if "overlap" not in str(error.explanation).lower():
                raise
            refused = error
    raise LabFailed(f"No subnet of {subnets.RANGE} was free long enough; try again.") from refused


def _routed_here() -> list[str]:
    try:
        return subnets.routed(Path("/proc/net/route").read_text())
    except OSError:
        return []
