"""``fleet services`` and ``fleet clusters``."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet_api.cli.common import Json, Url, calling, plain, print_json, print_table, say

EXAMPLES = "Examples: fleet services; fleet services vision-sdxl; fleet services vision-sdxl --logs; fleet services vision-sdxl --scale 2"
CLUSTER_EXAMPLES = "Examples: fleet clusters; fleet clusters --make vision agx0 agx1; fleet clusters --remove vision --cleanup-swarm"


def services(
    name: Annotated[str | None, typer.Argument(help="A service: show its tasks", metavar="[SERVICE]")] = None,
    logs: Annotated[bool, typer.Option("--logs", help="Show its last lines instead")] = False,
    scale: Annotated[int | None, typer.Option("--scale", help="Set how many tasks it has instead", metavar="N")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove it instead")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show the services of the swarm, or one of them with its tasks."""
    if name is None and (logs or remove or scale is not None):
        raise typer.BadParameter("--logs, --scale and --remove want the name of a service")
    with calling(url) as client:
        if name is None:
            _list(client.services(), as_json)
        elif logs:
            text = client.service_logs(name)
            print_json({"logs": text}) if as_json else say(plain(text.rstrip("\n")))
        elif remove:
            removed = client.remove_service(name)
            print_json(removed) if as_json else say(f"{name}: removed")
        else:
            found = client.service(name) if scale is None else client.scale_service(name, scale)
            print_json(found) if as_json else _tasks(found)


def clusters(
    nodes: Annotated[list[str] | None, typer.Argument(help="Nodes of a new cluster", metavar="[NODE]...")] = None,
    make: Annotated[
        str | None, typer.Option("--make", help="Make a cluster of the nodes instead; the first manages", metavar="NAME")
    ] = None,
    remove: Annotated[str | None, typer.Option("--remove", help="Take this cluster apart instead", metavar="NAME")] = None,
    cleanup_swarm: Annotated[bool, typer.Option("--cleanup-swarm", help="With --remove: its nodes leave the swarm")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show the clusters, make one, or take one apart."""
    if bool(nodes) != bool(make) or (make and remove):
        raise typer.BadParameter("--make wants the new cluster's nodes, and they want --make")
    with calling(url) as client:
        if make:
            found = [client.add_cluster(make, nodes or [])]
        elif remove:
            gone = client.remove_cluster(remove, cleanup_swarm)
            print_json(gone) if as_json else say(f"{remove}: removed")
            return
        else:
            found = client.clusters()
    if as_json:
        print_json(found)
        return
    rows = [
        [each["name"], each["status"], ", ".join(each["node_ids"]), each["manager_node_id"] or "-", each["reason"] or ""] for each in found
    ]
    print_table(["CLUSTER", "STATUS", "NODES", "MANAGER", "WHY"], rows, "No clusters yet. Make one: fleet clusters --make vision agx0 agx1")


def _list(found: list[dict[str, object]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [[str(each["name"]), f"{each['running']} of {each['replicas']}", str(each["mode"]), str(each["image"])] for each in found]
    print_table(["SERVICE", "RUNNING", "MODE", "IMAGE"], rows, "No services yet.")


def _tasks(found: dict[str, object]) -> None:
    tasks = found["tasks"]
    assert isinstance(tasks, list)
    say(f"{found['name']}: {found['running']} of {found['replicas']} run, image {found['image']}")
    rows = [
        [str(task["slot"] or "-"), task["node_id"] or "-", task["state"], task["error"] or "", str(task["exit_code"] or "")]
        for task in tasks
    ]
    print_table(["TASK", "NODE", "STATE", "ERROR", "EXIT"], rows, "It has no tasks.")
