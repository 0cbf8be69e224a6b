"""Answers of scans."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import BaseModel, Field

from fleet_api.kit.clock import rfc3339
from fleet_api.nodes.discovery.devices import Device
from fleet_api.nodes.discovery.service import Scan, Status


class DeviceView(BaseModel):
    """A machine that is there. ``is_jetson`` is true or false only for a node whose facts say so, else null; ``likely_jetson`` lists
    what speaks for one from outside."""

    ip: str = Field(examples=["192.0.2.10"])
    hostname: str | None = Field(examples=["agx0"])
    mac: str | None = Field(examples=["48:b0:2d:00:00:01"])
    vendor: str | None = Field(description="Whom the network card's address is registered to", examples=["NVIDIA Corporation"])
    is_jetson: bool | None
    likely_jetson: list[str] = Field(examples=[["its network card is NVIDIA's"]])
    in_swarm: bool = Field(description="A port of Docker Swarm is open")
    ports: list[int] = Field(description="Open ports, of those that are looked at", examples=[[22, 8080]])
    banner: str | None = Field(description="What its SSH server says first", examples=["SSH-2.0-OpenSSH_8.2p1"])
    node_id: str | None = Field(description="The node of the fleet at this address", examples=[None])

    @classmethod
    def of(cls, device: Device) -> DeviceView:
        """Return a machine as callers see it."""
        return cls(**asdict(device))


class ScanView(BaseModel):
    """A scan, by address. ``scan_time`` is when it ended; ``seconds`` is how long it took."""

    devices: list[DeviceView]
    scan_time: str
    subnet: str = Field(examples=["192.0.2.0/24"])
    seconds: float
    cached: bool

    @classmethod
    def of(cls, scan: Scan, cached: bool) -> ScanView:
        """Return a scan as callers see it."""
        devices = [DeviceView.of(device) for device in scan.devices]
        return cls(
            devices=devices, scan_time=rfc3339(scan.ended_at) or "", subnet=str(scan.subnet), seconds=round(scan.seconds, 3), cached=cached
        )


class StatusView(BaseModel):
    """How far the scan is that runs, or how the last one went. ``scanned`` and ``total`` count addresses, ``found`` machines."""

    running: bool
    subnet: str | None
    scanned: int
    total: int
    found: int
    started_at: str | None
    finished_at: str | None

    @classmethod
    def of(cls, status: Status) -> StatusView:
        """Return the progress as callers see it."""
        return cls(
            running=status.running, subnet=status.subnet, scanned=status.scanned, total=status.total, found=status.found,
            started_at=rfc3339(status.started_at), finished_at=rfc3339(status.finished_at),
        )  # fmt: skip
