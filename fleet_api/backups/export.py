"""What the control plane knows, in plain files that any program reads: an Ansible inventory, and nodes and jobs as JSON lines.

No secret is in them. Jobs are read a page at a time, so that a million of them need no memory.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import yaml

from fleet_api.backups import repository
from fleet_api.backups.making import readable
from fleet_api.kit.clock import rfc3339
from fleet_api.kit.db import Database

PAGE = 500
INVENTORY, NODES, JOBS = "inventory.yml", "nodes.jsonl", "jobs.jsonl"
HIDDEN = ("credential_hash", "incarnation", "callback_url")
"""What proves who an agent is; and addresses, whose query may hold a secret."""

TIMES = ("created_at", "queued_at", "started_at", "finished_at", "ended_at", "last_seen", "not_before")


async def export(db: Database, folder: Path) -> dict[str, int]:
    """Write the files, each whole or not at all; return how many nodes and jobs there are. Raises BackupFailed."""
    nodes = await db.read(repository.all_nodes)
    users = await db.read(repository.users)
    with readable(f"The export could not be written to {folder}"):
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        text = yaml.safe_dump(inventory(nodes, users), sort_keys=False, allow_unicode=True)
        await asyncio.to_thread(_write, folder / INVENTORY, lambda put: put("---\n" + text))
        await asyncio.to_thread(_write, folder / NODES, lambda put: [put(_line(row)) for row in nodes])
        jobs = await _write_pages(folder / JOBS, _pages(db))
    return {"nodes": len(nodes), "jobs": jobs}


def inventory(nodes: list[dict[str, Any]], users: dict[str, str]) -> dict[str, Any]:
    """Return an inventory of nodes that SSH finds: those of a cluster are in a group of its name too. Pure."""
    hosts: dict[str, Any] = {}
    clusters: dict[str, Any] = {}
    for node in nodes:
        if node["state"] == "retired" or not (node["ip"] or node["hostname"]):
            continue
        about: dict[str, Any] = {"ansible_host": node["ip"] or node["hostname"]}
        if node["ssh_port"] != 22:
            about["ansible_port"] = node["ssh_port"]
        if user := users.get(node["credential_id"] or ""):
            about["ansible_user"] = user
        if node["labels"]:
            about["fleet_labels"] = node["labels"]
        if node["cluster"]:
            about["fleet_cluster"] = node["cluster"]
            group = "cluster_" + node["cluster"].replace("-", "_").replace(".", "_")
            clusters.setdefault(group, {"hosts": {}})["hosts"][node["id"]] = {}
        hosts[node["id"]] = about
    return {"nodes": {"hosts": hosts}, **dict(sorted(clusters.items()))}


async def _pages(db: Database) -> AsyncIterator[list[dict[str, Any]]]:
    seq = -1
    while page := await db.read(lambda connection, seq=seq: repository.jobs_after(connection, seq, PAGE)):  # type: ignore[misc]
        yield page
        seq = page[-1]["seq"]


async def _write_pages(path: Path, pages: AsyncIterator[list[dict[str, Any]]]) -> int:
    part, number = path.with_name(f".{path.name}.part"), 0
    try:
        with part.open("w", encoding="utf-8") as file:
            async for page in pages:
                file.writelines(_line(row) for row in page)
                number += len(page)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return number


def _write(path: Path, fill: Callable[[Callable[[str], int]], object]) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            fill(file.write)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _line(row: dict[str, Any]) -> str:
    return json.dumps(_plain(row), ensure_ascii=False, separators=(",", ":"), default=str) + "\n"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name in HIDDEN:
            continue
        if name in TIMES and isinstance(value, int | float):
            found[name] = rfc3339(value)
        elif name == "attempts":
            found[name] = [_plain(each) for each in value]
        else:
            found[name] = value
    return found
