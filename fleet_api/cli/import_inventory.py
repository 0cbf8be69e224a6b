"""``fleet import``."""

from __future__ import annotations

import getpass
import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet_api.cli import exit_codes
from fleet_api.cli.common import Json, Url, calling, fail, print_json, print_table, say
from fleet_api.cli.following import follow
from fleet_api.client import FleetClient
from fleet_api.nodes.naming import slug
from fleet_api.nodes.plain_inventory import InventoryUnreadable, Listed, check_addresses, node_names, read, resolved

EXAMPLES = (
    "Examples: fleet import inventory.yml --credential jetsons; fleet import hosts.ini --dry-run; "
    "fleet import inventory.yml --register-only"
)


def import_inventory(
    path: Annotated[Path, typer.Argument(help="An Ansible inventory in YAML or INI")],
    credential: Annotated[
        str | None, typer.Option("--credential", "-c", help="Credential in the vault  [default: made of what the inventory says]")
    ] = None,
    cluster: Annotated[str | None, typer.Option("--cluster", help="Cluster of hosts that name none")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be onboarded, and do nothing")] = False,
    register_only: Annotated[bool, typer.Option("--register-only", help="Note the machines without onboarding them")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show it until it ends")] = True,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Onboard every machine that a plain Ansible inventory lists."""
    try:
        hosts = read(path)
        addresses = {host.name: resolved(host) for host in hosts}
        names = node_names(hosts)
        check_addresses(hosts, addresses)
    except InventoryUnreadable as error:
        fail(str(error), exit_codes.USAGE)
    for host in hosts:
        if host.left_out and not as_json:
            say(f"{host.name}: not taken over: {', '.join(host.left_out)}")
    if dry_run:
        _show(hosts, addresses, names, credential, as_json)
        return
    with calling(url) as client:
        opened = {host.name: credential for host in hosts} if credential else _keep_credentials(client, hosts, path)
        started = []
        for host in hosts:
            fields: dict[str, Any] = {"cluster": host.cluster or cluster, "ssh_port": host.port, "labels": host.labels or None}
            if register_only:
                given = {name: value for name, value in fields.items() if value is not None}
                if names[host.name] is not None:
                    given["id"] = names[host.name]
                started.append(client.add_node(hostname=host.name, ip=addresses[host.name], credential_id=opened[host.name], **given))
            else:
                started.append(client.join(addresses[host.name], opened[host.name], node_id=names[host.name], **fields))
        if not register_only and wait:
            follow(client, [each["operation_id"] for each in started], as_json)
            return
    if as_json:
        print_json(started)
    for host, each in zip(hosts, started, strict=True):
        if not as_json:
            say(f"{host.name}: {each.get('message') or each['status']}")


def _keep_credentials(client: FleetClient, hosts: list[Listed], path: Path) -> dict[str, str]:
    """Keep what the inventory says of users in the vault, once for each user and secret; return the ids by host.

    They are called after the file, with a digest of where it is, so that reading it again changes its own and makes no second ones.
    """
    stem = f"{slug(path.stem)} {hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:6]}"
    known = {each["name"]: each["id"] for each in client.credentials()}
    made: dict[tuple[str, ...], str] = {}
    found: dict[str, str] = {}
    for host in hosts:
        user, secrets = host.user or getpass.getuser(), _secrets(host)
        same = (user, *secrets.values())
        if same not in made:
            name = f"{stem} {user}{f' {len(made) + 1}' if made else ''}"
            if name in known:
                made[same] = client.change_credential(known[name], username=user, **secrets)["id"]
            else:
                made[same] = client.add_credential(name, user, **secrets)["id"]
        found[host.name] = made[same]
    return found


def _secrets(host: Listed) -> dict[str, str]:
    if not host.password and not host.key_file:
        fail(f"{host.name}: the inventory has neither a password nor a key for it; name one with --credential.", exit_codes.USAGE)
    key = ""
    if host.key_file:
        try:
            key = Path(host.key_file).expanduser().read_text()
        except (OSError, UnicodeDecodeError) as error:
            fail(f"{host.name}: {host.key_file} cannot be read: {error}", exit_codes.USAGE)
    given = {"password": host.password, "private_key": key, "become_password": host.become_password}
    return {name: value for name, value in given.items() if value}


def _show(hosts: list[Listed], addresses: dict[str, str], names: dict[str, str | None], credential: str | None, as_json: bool) -> None:
    found: list[dict[str, Any]] = [
        {
            "name": names[host.name] or "its host name", "ip": addresses[host.name], "port": host.port, "cluster": host.cluster,
            "labels": host.labels,
            "credential": credential or f"{host.user or getpass.getuser()}, from the inventory",
        }
        for host in hosts
    ]  # fmt: skip
    if as_json:
        print_json(found)
        return
    rows = [[each["name"], each["ip"], str(each["port"]), each["cluster"] or "-", each["credential"]] for each in found]
    print_table(["NODE", "IP", "PORT", "CLUSTER", "CREDENTIAL"], rows, "No hosts.")
