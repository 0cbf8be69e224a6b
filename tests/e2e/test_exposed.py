"""The product on an address that others can reach: keys, TLS from its own authority, and an agent that joins by a token."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fleet_api.access import certificates
from fleet_api.settings import Settings
from tests.support.live import live
from tests.support.product import Product, running

pytestmark = pytest.mark.e2e

WORKER = [sys.executable, "-m", "gpu_inference.agent", "run"]


@pytest.fixture(scope="module")
def product(bridge_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running(tmp_path_factory.mktemp("exposed") / "home", FLEET_HOST=bridge_address) as found:
        yield found


@pytest.fixture(scope="module")
def key(product: Product) -> str:
    made = product.fleet("keys", "create", "me", "--role", "admin", "--save", "--json", FLEET_URL="")
    assert made.returncode == 0, made.stderr
    assert (product.home / "key").stat().st_mode & 0o777 == 0o600
    return json.loads(made.stdout)["key"]


def trusted(product: Product) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(product.home / "tls" / "ca.crt"))


def test_it_speaks_tls_and_wants_a_key(product: Product, key: str) -> None:
    assert product.url.startswith("https://")
    assert "wants keys" in product.output.read_text()
    with httpx.Client(base_url=product.url, verify=trusted(product), trust_env=False) as http:
        assert http.get("/api/nodes").status_code == 401
        assert http.get("/api/nodes", headers={"X-API-Key": key}).status_code == 200
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(product.url + "/health", trust_env=False)
    with pytest.raises(httpx.TransportError):
        httpx.get(product.url.replace("https", "http", 1) + "/health", trust_env=False)


def test_commands_on_this_machine_find_address_authority_and_key(product: Product, key: str, tmp_path: Path) -> None:
    made = product.fleet("generate", "a red circle on a blue background", "-o", str(tmp_path / "out.png"), FLEET_URL="")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "out.png").stat().st_size > 1_000
    listed = product.fleet("audit", FLEET_URL="")
    assert "POST /api/vision/generate" in listed.stdout


def test_the_saved_key_goes_to_no_other_address(product: Product, key: str) -> None:
    refused = product.fleet("status", FLEET_URL=product.url, FLEET_CA=str(product.home / "tls" / "ca.crt") + ".none")
    assert refused.returncode == 3
    elsewhere = product.fleet("status", FLEET_URL=product.url.replace("https", "HTTPS"), FLEET_KEY="")
    assert elsewhere.returncode in (3, 4), "an address that is not the one noted gets neither key nor authority"


def test_an_agent_joins_by_a_token_and_trusts_the_right_authority_alone(bridge_address: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", host=bridge_address, port=0)
    with live(settings) as api:
        fleet = api.fleet
        token = asyncio.run_coroutine_threadsafe(fleet.enrolment.token("second-node", 600), api.loop).result(10)
        assert token.split(".")[1:] == ["second-node", certificates.ca_hash(settings.tls_folder)]
        wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
        given = {**os.environ, "FLEET_AGENT_URL": api.url}
        refused = subprocess.run(
            WORKER, env={**given, "FLEET_AGENT_TOKEN": wrong, "FLEET_AGENT_STATE_DIR": str(tmp_path / "wrong")},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert refused.returncode == 3
        assert "is not the one that the enrolment token names" in refused.stderr
        assert wrong not in refused.stderr
        with (tmp_path / "agent.log").open("wb") as log:
            state = str(tmp_path / "agent")
            agent = subprocess.Popen(
                WORKER, env={**given, "FLEET_AGENT_TOKEN": token, "FLEET_AGENT_STATE_DIR": state}, stdout=log, stderr=log
            )
        try:
            deadline = time.monotonic() + 60
            while not any(node.online for node in fleet.nodes.all()) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert [node.id for node in fleet.nodes.all() if node.online] == ["second-node"], (tmp_path / "agent.log").read_text()
        finally:
            agent.send_signal(signal.SIGTERM)
            agent.wait(20)


def test_a_renewed_certificate_is_served_without_a_restart(product: Product, key: str) -> None:
    before = json.loads(product.fleet("tls", "show", "--json").stdout)
    assert product.fleet("tls", "renew").returncode == 0
    after = json.loads(product.fleet("tls", "show", "--json").stdout)
    assert after["sha256"] != before["sha256"]
    assert after["authority_sha256"] == before["authority_sha256"]
    assert soon_serves(product, after["sha256"])


def soon_serves(product: Product, fingerprint: str) -> bool:
    host, port = product.url.removeprefix("https://").split(":")
    deadline, served = time.monotonic() + 20, ""
    while served != fingerprint and time.monotonic() < deadline:
        served = hashlib.sha256(ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port))))).hexdigest()
        time.sleep(0.3)
    return served == fingerprint


def test_one_from_elsewhere_is_served_and_the_way_back_locks_nobody_out(
    product: Product, key: str, bridge_address: str, tmp_path: Path
) -> None:
    before = json.loads(product.fleet("tls", "show", "--json").stdout)
    trust = trusted(product)
    other = certificates.ensure(tmp_path, [bridge_address], time.time())
    paths = [str(tmp_path / name) for name in (certificates.CERTIFICATE, certificates.KEY, certificates.CA_FILE)]
    used = product.fleet("tls", "use", "--cert", paths[0], "--key", paths[1], "--ca", paths[2])
    assert used.returncode == 0, used.stderr
    assert soon_serves(product, other.fingerprint)
    assert product.fleet("status", FLEET_URL="").returncode == 0, "commands on this machine trust it"
    with httpx.Client(base_url=product.url, verify=trust, trust_env=False) as http, pytest.raises(httpx.ConnectError):
        http.get("/health")
    token = json.loads(product.fleet("enrol", "--url", product.url, "--json", FLEET_CA=paths[2], FLEET_KEY=key).stdout)["token"]
    assert token.endswith("." + other.ca_hash), "the control plane tells agents whom to trust now"
    assert product.fleet("tls", "renew").returncode == 0
    after = json.loads(product.fleet("tls", "show", "--json").stdout)
    assert after["authority_sha256"] == before["authority_sha256"]
    assert soon_serves(product, after["sha256"])
    with httpx.Client(base_url=product.url, verify=trust, trust_env=False) as http:
        assert http.get("/health").status_code == 200


def test_changes_by_command_are_in_the_audit_log(product: Product, key: str) -> None:
    listed = json.loads(product.fleet("audit", "--limit", "500", "--json", FLEET_URL="").stdout)["entries"]
    assert ("command", "fleet keys create", "me") in {(each["caller_kind"], each["row"], each["path"]) for each in listed}


def test_doors_opened_by_name_are_said_loudly(bridge_address: str, tmp_path: Path) -> None:
    with running(tmp_path / "open", FLEET_HOST=bridge_address, FLEET_AUTH="off", FLEET_TLS="off") as product:
        text = product.output.read_text()
        assert "auth is off: whoever can reach this address may do everything" in text.replace("\n", " ")
        assert "tls is off" in text
        assert httpx.get(product.url + "/api/session", trust_env=False).json()["kind"] == "open"
        assert "DOOR OPEN" in product.logs()


def test_no_secret_is_in_a_log(product: Product, key: str) -> None:
    identity = json.loads((product.home / "agent" / "identity.json").read_text())
    text = product.logs() + product.output.read_text()
    assert key not in text
    assert identity["credential"] not in text
