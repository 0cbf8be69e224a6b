"""What every test has: no way out of this machine, and a control plane in memory of its own folder."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api.app import create_app
from fleet_api.migrate import upgrade
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent
from tests.support.client import client_of
from tests.support.clock import ManualClock
from tests.support.network import ADDRESS as BRIDGE
from tests.support.network import LAB_RANGE, bridge, in_a_lab

REAL_CONNECT = socket.socket.connect


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> Iterator[None]:
    """The allow-list of every outgoing edge, in the tests' own process: loopback, Unix sockets, and the bridges that tests make."""

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            if host not in ("localhost", BRIDGE) and not ipaddress.ip_address(host).is_loopback and not in_a_lab(host):
                raise AssertionError(f"A test tried to reach {host}; tests reach loopback, their own bridge and their own labs alone.")
        return REAL_CONNECT(self, address)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", connect)
    patch.setenv("FLEET_ALLOWED_NETWORKS", f"127.0.0.0/8,::1/128,{BRIDGE}/24,{LAB_RANGE}")
    patch.setenv("FLEET_CALLBACK_NETWORKS", "")  # a test that wants callbacks says where they may go
    patch.setenv("FLEET_DOCKER_HOST", "unix:///nowhere/docker.sock")  # this machine's own engine is nobody's to change
    yield
    patch.undo()


@pytest.fixture(scope="session")
def bridge_address() -> Iterator[str]:
    """An address of this machine that is not loopback."""
    try:
        with bridge() as address:
            yield address
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("FLEET_REQUIRE_NETWORK"):
            raise
        pytest.skip(f"making a network bridge wants root and iproute2: {error}")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", port=0)


@pytest.fixture(scope="session")
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "fleet.db"
    upgrade(path)
    return path


@pytest.fixture
def api(settings: Settings, clock: ManualClock, _empty_database: Path) -> Iterator[TestClient]:
    """A control plane whose time the test moves by hand."""
    settings.home.mkdir()
    shutil.copy(_empty_database, settings.database)
    with client_of(create_app(settings, clock)) as client:
        yield client


@pytest.fixture
def agent(api: TestClient) -> FakeAgent:
    """An enrolled agent that has asked for work once, so that its capabilities are known."""
    agent = FakeAgent.enrol(api, "agx0")
    agent.lease()
    return agent
