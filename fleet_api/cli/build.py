"""``fleet build``, ``fleet catalogue`` and ``fleet deploy``."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet_api.cli import exit_codes
from fleet_api.cli.common import Json, Url, calling, fail, print_json, print_table, say
from fleet_api.cli.following import follow

BUILD_EXAMPLES = "Examples: fleet build my-service:v1 /srv/images/my-service; fleet build sdxl:r36 /srv/images/sdxl --node agx0"
CATALOGUE_EXAMPLES = "Examples: fleet catalogue; fleet catalogue --json"
DEPLOY_EXAMPLES = (
    "Examples: fleet deploy redis --cluster vision; fleet deploy postgresql --cluster storage --env POSTGRES_PASSWORD=...; "
    "fleet deploy my-service --image 192.0.2.10:5000/my-service:v1 --cluster vision --gpus 1"
)

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Show it until it ends")]


def build(
    image: Annotated[str, typer.Argument(help="Name and tag, such as my-service:v1", metavar="NAME:TAG")],
    dockerfile: Annotated[str, typer.Argument(help="A Dockerfile or its folder, in one of the control plane's build roots")],
    context: Annotated[str | None, typer.Option(help="The folder that COPY reads from  [default: the Dockerfile's]")] = None,
    node: Annotated[str | None, typer.Option(help="Whose engine builds  [default: the control plane's machine]")] = None,
    arg: Annotated[list[str] | None, typer.Option(help="NAME=value of an ARG", show_default=False)] = None,
    platform: Annotated[str | None, typer.Option(help="Such as linux/arm64  [default: the engine's own]")] = None,
    push: Annotated[bool | None, typer.Option("--push/--no-push", help="To the fleet's registry  [default: where there is one]")] = None,
    wait: Wait = True,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Build an image, and push it to the fleet's registry."""
    name, colon, tag = image.rpartition(":")
    more = {"context_path": context, "node_id": node, "platform": platform, "push": push, "build_args": pairs(arg or [], "--arg")}
    with calling(url) as client:
        started = client.build_image(name if colon else image, tag if colon else "latest", dockerfile, **more)
        if wait:
            follow(client, [started["operation_id"]], as_json)
            return
    if as_json:
        print_json(started)
    else:
        say(f"{started['operation_id']}: {started['message']}, {started['status']}")


def catalogue(url: Url = None, as_json: Json = False) -> None:
    """Show the services that a fleet may run."""
    with calling(url) as client:
        answer = client.service_catalogue()
    if as_json:
        print_json(answer)
        return
    rows = [
        [
            each["name"], each["image"], ", ".join(map(str, each["ports"])), str(each["gpus"] or "-"), ", ".join(each["needs"]) or "-",
            "run by us" if each["verified"] else "never run", each["title"],
        ]
        for each in answer["services"]
    ]  # fmt: skip
    print_table(["SERVICE", "IMAGE", "PORTS", "GPUS", "NEEDS", "STATE", "WHAT IT IS"], rows, "The catalogue is empty.")


def deploy(
    name: Annotated[str, typer.Argument(help="A service of the catalogue, or with --image any name", metavar="NAME")],
    cluster: Annotated[str, typer.Option("--cluster", help="Whose nodes run it")],
    image: Annotated[str | None, typer.Option("--image", help="An image, instead of one of the catalogue")] = None,
    replicas: Annotated[int, typer.Option(help="How many")] = 1,
    gpus: Annotated[int | None, typer.Option(help="GPUs for each, with --image  [default: as it is]", show_default=False)] = None,
    env: Annotated[list[str] | None, typer.Option(help="NAME=value", show_default=False)] = None,
    wait: Wait = True,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Run a service of the catalogue, or an image, on a cluster."""
    if gpus is not None and image is None:
        fail("--gpus: the catalogue says how many a service of it has; with --image you do.", exit_codes.USAGE)
    with calling(url) as client:
        if image is not None:
            started = client.deploy_image(image, name, cluster, replicas, gpus)
            if wait:
                follow(client, [started["operation_id"]], as_json)
                return
        else:
            from fleet_api.errors import InvalidValue
            from fleet_api.services.catalogue.service import REGISTRY, CatalogueService

            known = {each["name"]: each for each in client.service_catalogue()["services"]}
            if name not in known:
                fail(f"The catalogue has no {name!r}; it has {', '.join(known)}. With --image any name is good.", exit_codes.USAGE)
            service = CatalogueService.model_validate(known[name])
            registry = client.registry_images(1)["registry"] if service.image.startswith(REGISTRY) else None
            try:
                body = service.body(registry, cluster, pairs(env or [], "--env"), replicas)
            except InvalidValue as error:
                fail(error.detail, exit_codes.USAGE)
            started = client.create_service(body.model_dump(exclude_none=True))
    if as_json:
        print_json(started)
    else:
        say(started.get("message") or f"Service {name} is there ({started['id']}); see how it goes: GET /api/swarm/services/{name}")


def pairs(given: list[str], option: str) -> dict[str, str]:
    """Return NAME=value texts as a dictionary; ends the command for what is none."""
    found = dict(text.partition("=")[::2] for text in given)
    if not all("=" in text and text.partition("=")[0] for text in given):
        fail(f"{option}: write NAME=value.", exit_codes.USAGE)
    return found
