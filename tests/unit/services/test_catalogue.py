"""The list of services, as data."""

from __future__ import annotations

import pytest

from fleet_api.errors import InvalidValue, NotFound
from fleet_api.services.catalogue.service import REGISTRY, CatalogueService, catalogue, named
from fleet_api.services.mounts import MountRules
from fleet_api.services.running import spec

SERVICES = catalogue().services
DOCUMENTED = {
    "agent": [8080], "comfyui": [8188], "minio": [9010, 9011], "registry": [5000], "redis": [6379], "postgresql": [5432],
    "chatterbox-tts": [8100], "bytebot": [9992],
}  # fmt: skip


def test_every_service_that_the_documents_name_on_its_port() -> None:
    assert {each.name: each.ports for each in SERVICES} == DOCUMENTED
    assert all(set(each.needs) <= set(DOCUMENTED) for each in SERVICES)


@pytest.mark.parametrize("service", SERVICES, ids=lambda each: each.name)
def test_nothing_is_claimed_that_was_not_run(service: CatalogueService) -> None:
    assert not service.verified
    assert "@sha256" not in service.image
    assert service.note.endswith(".")


@pytest.mark.parametrize("service", SERVICES, ids=lambda each: each.name)
def test_swarm_takes_it(service: CatalogueService) -> None:
    wanted = service.wants({})
    if wanted:
        with pytest.raises(InvalidValue, match=f"wants a value for {wanted[0]}"):
            service.body("192.0.2.10:5000")
    body = service.body("192.0.2.10:5000", "vision", dict.fromkeys(wanted, "x"), 2)
    made = spec.made(body, MountRules.of(["/mnt"], "/home/fleet"))
    assert made["Name"] == service.name
    assert (body.cluster, body.replicas, body.resources.gpu) == ("vision", 2, service.gpus or None)
    assert "{" not in body.image


def test_without_a_registry() -> None:
    for service in SERVICES:
        if service.image.startswith(REGISTRY):
            with pytest.raises(InvalidValue, match="run the playbook 'registry' first"):
                service.body(None)


def test_by_name() -> None:
    assert named("redis").ports == [6379]
    with pytest.raises(NotFound, match="The catalogue has no 'radis'; it has agent, bytebot"):
        named("radis")
