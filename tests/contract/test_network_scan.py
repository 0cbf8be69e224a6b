"""Scans through the API, of loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from fleet_api.settings import Settings


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.77", 0)) as server:
        yield server


@pytest.fixture
def settings(settings: Settings, listener: socket.socket) -> Settings:
    return settings.model_copy(update={"scan_ports": [1, listener.getsockname()[1]]})


def test_a_scan_of_loopback(api: TestClient, listener: socket.socket) -> None:
    body = api.get("/api/network/scan?subnet=127.0.0.76/30").json()
    assert [(each["ip"], each["ports"]) for each in body["devices"]] == [("127.0.0.77", [listener.getsockname()[1]]), ("127.0.0.78", [])]
    assert {"ip", "hostname", "mac", "vendor", "is_jetson", "in_swarm", "ports"} <= set(body["devices"][0])
    assert body["scan_time"].endswith("Z")
    assert (body["subnet"], body["cached"]) == ("127.0.0.76/30", False)
    assert api.get("/api/network/scan?subnet=127.0.0.76/30").json()["cached"] is True
    assert api.get("/api/network/scan?subnet=127.0.0.76/30&refresh=true").json()["cached"] is False
    status = api.get("/api/network/scan-status").json()
    assert status["finished_at"] is not None
    assert {name: status[name] for name in ("running", "subnet", "scanned", "total", "found")} == {
        "running": False, "subnet": "127.0.0.76/30", "scanned": 2, "total": 2, "found": 2,
    }  # fmt: skip


def test_before_any_scan(api: TestClient) -> None:
    assert api.get("/api/network/scan-status").json() == {
        "running": False, "subnet": None, "scanned": 0, "total": 0, "found": 0, "started_at": None, "finished_at": None,
    }  # fmt: skip


@pytest.mark.parametrize("subnet", ["x", "8.8.8.0/24", "127.0.0.0/8", "::1/128", "127.0.0.1/33", "%00", "127.0.0.1/24;id", "9" * 65])
def test_subnets_that_are_no_good(api: TestClient, subnet: str) -> None:
    refused = api.get(f"/api/network/scan?subnet={subnet}")
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith("subnet: ")


def test_words_that_are_no_switch(api: TestClient) -> None:
    assert api.get("/api/network/scan?subnet=127.0.0.1&refresh=perhaps").status_code == 400
