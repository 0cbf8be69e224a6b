"""The vault through the API: what it takes, what it refuses, and that a secret never comes back."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api.operations import repository as operations
from fleet_api.operations.models import Operation
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent

CANARY = "canary-7f3a-never-seen-again"


def keep(api: TestClient, name: str = "lab", **more: Any) -> dict[str, Any]:
    answer = api.post("/api/vault", json={"name": name, "username": "jetson", "password": CANARY, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def key_text(passphrase: str = "") -> str:
    words = ["openssl", "genpkey", "-algorithm", "ed25519"]
    if passphrase:
        words += ["-aes256", "-pass", f"pass:{passphrase}"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_kept_listed_changed_and_deleted(api: TestClient) -> None:
    assert api.get("/api/vault").json() == []
    made = keep(api, become_password=CANARY)
    assert {"id", "name", "username", "created_at"} <= set(made)
    assert made["kinds"] == ["password", "become_password"]
    assert api.get("/api/vault").json() == [made]
    changed = api.patch(f"/api/vault/{made['id']}", json={"name": "bench", "become_password": ""}).json()
    assert (changed["name"], changed["kinds"], changed["created_at"]) == ("bench", ["password"], made["created_at"])
    assert api.delete("/api/vault/bench").json()["id"] == made["id"]
    assert api.get("/api/vault").json() == []
    assert api.delete("/api/vault/bench").status_code == 404


def test_newest_first_by_pages(api: TestClient, clock: Any) -> None:
    for number in range(3):
        keep(api, f"c{number}")
        clock.advance(1)
    assert [each["name"] for each in api.get("/api/vault?limit=2").json()] == ["c2", "c1"]
    assert [each["name"] for each in api.get("/api/vault?limit=2&offset=2").json()] == ["c0"]


def test_private_keys(api: TestClient) -> None:
    body = {"name": "k", "username": "jetson", "private_key": key_text().replace("\n", "\r\n")}
    assert api.post("/api/vault", json=body).json()["kinds"] == ["private_key"]
    secret = key_text("opens it")
    for given, sentence in (
        ({"private_key": secret}, "passphrase: the private key is encrypted; give its passphrase too."),
        ({"private_key": secret, "passphrase": "wrong"}, "passphrase: it does not open the private key."),
        ({"private_key": f"-----BEGIN {CANARY}"}, "private_key: it is no private key in OpenSSH or PEM form; give the whole file"),
        ({"password": "x", "passphrase": "y"}, "passphrase: it opens a private_key, and none was given."),
    ):
        refused = api.post("/api/vault", json={"name": "l", "username": "jetson", **given})
        assert refused.status_code == 400
        assert refused.json()["detail"].startswith(sentence)
        assert CANARY not in refused.text
    good = api.post("/api/vault", json={"name": "l", "username": "jetson", "private_key": secret, "passphrase": "opens it"})
    assert good.json()["kinds"] == ["private_key", "passphrase"]
    assert api.patch("/api/vault/l", json={"private_key": key_text()}).json()["kinds"] == ["private_key"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x", "username": "jetson"},
        {"name": "x", "username": "jetson", "password": ""},
        {"name": "x", "username": "jetson", "password": CANARY + "\n"},
        {"name": "x", "username": "jetson", "password": CANARY + "\x00"},
        {"name": "x", "username": "jetson", "password": CANARY * 100},
        {"name": "x", "username": "jetson", "password": [CANARY]},
        {"name": "x", "username": "jetson", "private_key": {"a": CANARY}},
        {"name": "x", "username": "-oProxyCommand=x", "password": CANARY},
        {"name": "../x", "username": "jetson", "password": CANARY},
        {"name": "x", "username": "a b", "password": CANARY},
    ],
)
def test_what_is_refused_is_not_repeated(api: TestClient, body: dict[str, Any]) -> None:
    refused = api.post("/api/vault", json=body)
    assert refused.status_code == 400
    assert refused.json()["detail"].endswith(".")
    assert CANARY not in refused.text
    assert api.get("/api/vault").json() == []


def test_a_name_that_is_taken(api: TestClient) -> None:
    keep(api)
    other = keep(api, "other")
    again = api.post("/api/vault", json={"name": "lab", "username": "u", "password": "x"})
    assert (again.status_code, again.json()["detail"]) == (
        409, "There is a credential named 'lab' already; delete it first, or choose another name.",
    )  # fmt: skip
    assert api.patch(f"/api/vault/{other['id']}", json={"name": "lab"}).status_code == 409
    assert api.patch("/api/vault/other", json={"password": ""}).status_code == 400, "no way in would be left"


def test_one_in_use_is_kept(api: TestClient, agent: FakeAgent) -> None:
    made = keep(api)
    assert api.patch("/api/nodes/agx0", json={"credential_id": made["id"]}).status_code == 200
    assert api.get("/api/vault").json()[0]["nodes"] == ["agx0"]
    refused = api.delete(f"/api/vault/{made['id']}")
    assert refused.status_code == 409
    assert "is used by nodes agx0; give them another one first, or delete it with force" in refused.json()["detail"]
    assert api.delete(f"/api/vault/{made['id']}?force=true").status_code == 200
    assert api.get("/api/nodes/agx0").json()["credential_id"] is None


def test_one_that_an_operation_wants_is_kept(api: TestClient) -> None:
    made = keep(api)
    fleet = api.app.state.fleet  # type: ignore[attr-defined]
    for operation_id, state in (("op-1", "running"), ("op-2", "succeeded")):
        row = Operation(
            id=operation_id, kind="onboard", title="t", state=state, request={"credential_id": made["id"]}, created_at=1.0, caller="x"
        )
        api.portal.call(fleet.db.write, lambda db, row=row: operations.add(db, [row]))  # type: ignore[union-attr]
    refused = api.delete("/api/vault/lab")
    assert refused.status_code == 409
    assert "is used by operations op-1; give them" in refused.json()["detail"]
    assert api.delete("/api/vault/lab?force=true").status_code == 200


def test_a_secret_is_nowhere(api: TestClient, settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    secret = key_text()
    seen = [keep(api), api.patch("/api/vault/lab", json={"private_key": secret, "become_password": CANARY + "2"}).json()]
    seen += [api.get(path).json() for path in ("/api/vault", "/api/audit", "/openapi.json")]
    seen.append(api.post("/api/vault", json={"name": "lab", "username": "x", "password": CANARY}).text)
    haystack = [repr(seen).encode(), *(path.read_bytes() for path in settings.home.rglob("*") if path.is_file())]
    haystack += [text.encode() for text in capfd.readouterr()]
    needle = secret.splitlines()[1].encode()
    assert len(haystack) >= 5, "database, its log, two files of the key ring, what was answered"
    for each in haystack:
        assert CANARY.encode() not in each
        assert needle not in each


def test_without_the_master_key(api: TestClient, settings: Settings) -> None:
    keep(api)
    (key,) = (settings.vault_folder / "keys").glob("*.key")
    assert key.stat().st_mode & 0o777 == 0o600
    kept = key.read_bytes()
    for spoil, sentence in (
        (key.unlink, "is missing; restore that file from a backup, or delete the credentials and add them again."),
        (lambda: key.write_bytes(b"A" * 43 + b"=\n"), "does not hold the master key that its name says"),
        (lambda: key.chmod(0o644), "Others may read the vault's master key"),
    ):
        spoil()
        for refused in (
            api.patch("/api/vault/lab", json={"password": "x"}),
            api.post("/api/vault", json={"name": "n", "username": "u", "password": "x"}),
        ):
            assert refused.status_code == 503
            assert sentence in refused.json()["detail"]
        assert [each["name"] for each in api.get("/api/vault").json()] == ["lab"], "the rest goes on"
        assert api.get("/health").status_code == 200
        key.write_bytes(kept)
        key.chmod(0o600)
    (settings.vault_folder / "current").unlink()
    refused = api.post("/api/vault", json={"name": "n", "username": "u", "password": "x"})
    assert refused.status_code == 503, "no new key is made while there are credentials under a lost one"
    assert api.delete("/api/vault/lab").status_code == 200
    assert keep(api, "anew")["name"] == "anew"
