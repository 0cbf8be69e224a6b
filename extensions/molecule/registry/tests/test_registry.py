from __future__ import annotations

import json
import os
import ssl
from pathlib import Path
from typing import Any

import httpx

from extensions.molecule.common.outside import HOSTS

testinfra_hosts = HOSTS
HOME = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "home" / "registry"


def test_it_answers_under_its_own_user(host: Any) -> None:
    service = host.service("docker-registry")
    assert service.is_running
    assert service.is_enabled
    [process] = host.process.filter(comm="docker-registry")
    assert process.user == "docker-registry"
    assert "/etc/fleet/registry/config.yml" in process.args


def test_who_has_the_password_is_let_in_and_nobody_else(host: Any) -> None:
    login = json.loads((HOME / "login.json").read_text())
    context = ssl.create_default_context(cafile=str(HOME / "ca.crt"))
    with httpx.Client(base_url=f"https://{login['address']}", verify=context, trust_env=False) as client:
        assert client.get("/v2/").status_code == 401
        assert client.get("/v2/", auth=(login["username"], "x")).status_code == 401
        assert client.get("/v2/_catalog", auth=(login["username"], login["password"])).json() == {"repositories": []}


def test_its_secrets_are_its_own(host: Any) -> None:
    for name in ("registry.key", "htpasswd"):
        about = host.file(f"/etc/fleet/registry/{name}")
        assert (about.user, about.group, oct(about.mode)) == ("root", "docker-registry", "0o640")
    assert host.file("/var/lib/fleet-registry").user == "docker-registry"


def test_its_timers_wait(host: Any) -> None:
    for name in ("fleet-registry-collect.timer", "fleet-registry-limit.timer"):
        assert host.service(name).is_enabled
    assert host.run("systemctl start fleet-registry-collect.service").rc == 0
    assert host.service("docker-registry").is_running
