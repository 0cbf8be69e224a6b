"""Table of nodes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column
from sqlmodel import Field

from fleet_api.kit.table import Table


class Node(Table, table=True):
    """A machine of the fleet. Times are epoch seconds.

    ``state`` is where it is on its way through the fleet (see ``nodes/states.py``); ``ip`` is where SSH finds it.
    """

    __tablename__ = "nodes"

    id: str = Field(primary_key=True)
    hostname: str
    machine_id: str = Field(default="", index=True)
    ip: str = ""
    cluster: str | None = None
    labels: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    facts: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    capabilities: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    metrics: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    credential_hash: str | None = Field(default=None, index=True)
    incarnation: str | None = None
    state: str = Field(default="managed", sa_column_kwargs={"server_default": "managed"})
    state_reason: str = Field(default="", sa_column_kwargs={"server_default": ""})
    ssh_port: int = Field(default=22, sa_column_kwargs={"server_default": "22"})
    credential_id: str | None = Field(default=None, index=True)
    created_at: float
    last_seen: float | None = None
