"""``fleet keys`` on a data folder, and with --url."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path

import pytest

from fleet_api.cli import keys as command
from fleet_api.cli.audited import user_name
from tests.support.command import Command
from tests.support.live import Live

KEY = re.compile(r"fleet-key_[A-Za-z0-9_-]{43}")


def test_made_listed_and_revoked(fleet: Command) -> None:
    assert "No keys yet. Make one: fleet keys create NAME --role admin" in fleet("keys", "list").stdout
    made = fleet("keys", "create", "alice").stdout
    key = made.splitlines()[0]
    assert KEY.fullmatch(key)
    assert "The key of alice, with the role viewer. It is not shown again." in made
    listed = fleet("keys", "list").stdout
    assert re.search(r"alice +viewer +active", listed)
    assert key not in listed
    assert fleet("keys", "revoke", "alice").stdout == "alice: revoked\n"
    assert re.search(r"alice +viewer +revoked", fleet("keys", "list").stdout)
    assert "There is no key 'alice'" in fleet("keys", "revoke", "alice", code=4).stderr
    assert fleet.home.stat().st_mode & 0o777 == 0o700


def test_as_json(fleet: Command) -> None:
    assert fleet.json("keys", "list") == []
    made = fleet.json("keys", "create", "ci", "--role", "operator", "--expires", "12h")
    assert KEY.fullmatch(made["key"])
    left = datetime.fromisoformat(made["expires_at"]).timestamp() - time.time()
    assert 11.9 * 3600 < left <= 12 * 3600
    (listed,) = fleet.json("keys", "list")
    assert listed == {name: value for name, value in made.items() if name != "key"}
    revoked = fleet.json("keys", "revoke", made["id"])
    assert (revoked["name"], revoked["status"]) == ("ci", "revoked")


def test_a_name_that_is_taken_or_none(fleet: Command) -> None:
    fleet("keys", "create", "alice")
    assert "There is a key named 'alice' already" in fleet("keys", "create", "alice", code=4).stderr
    for name in ("", "a/b", "/", "alice/", "-x".replace("-", "."), "a\nb", "\udcff", "x" * 101, "ünï"):
        refused = fleet("keys", "create", "--", name, code=2).stderr
        assert refused.startswith("fleet: name: ")
        assert refused.count("\n") == 1
    assert "is not valid Unicode" in fleet("keys", "revoke", "\udcff", code=2).stderr
    assert len(fleet.json("keys", "list")) == 1


def test_a_role_that_is_none(fleet: Command) -> None:
    assert "--role: 'root' is not allowed; it must be one of viewer, operator, admin." in fleet(
        "keys", "create", "a", "--role", "root", code=2
    ).stderr  # fmt: skip


@pytest.mark.parametrize(("text", "days"), [("12h", 0.5), ("30d", 30), ("2w", 14), ("1y", 365), ("0.5d", 0.5), ("10y", 3650), (None, None)])
def test_how_long(text: str | None, days: float | None) -> None:
    assert command._days(text) == days


@pytest.mark.parametrize("text", ["", "30", "d", "0d", "-1d", "11y", "1m", "1d ", "1e3d", "٣d", "nand", "9" * 400 + "d"])
def test_how_long_it_may_not_be(fleet: Command, text: str) -> None:
    refused = fleet("keys", "create", "alice", f"--expires={text}", code=2).stderr
    assert "--expires:" in refused
    assert "write a number and h, d, w or y, such as 30d, up to 10y." in refused
    assert not fleet.home.exists()


def test_changes_are_in_the_audit_log(fleet: Command) -> None:
    fleet("keys", "create", "alice")
    fleet("keys", "create", "alice", code=4)
    identity = fleet.json("keys", "list")[0]["id"]
    fleet("keys", "revoke", identity)
    fleet("keys", "revoke", "alice", code=4)
    fleet("enrol", "agx0")
    fleet("enrol")
    user = user_name()
    assert fleet.audited() == [
        ("command", user, user, "", "fleet keys create", "alice", 200, ""),
        ("command", user, user, "", "fleet keys revoke", "alice", 200, ""),
        ("command", user, user, "", "fleet enrol", "agx0", 200, ""),
        ("command", user, user, "", "fleet enrol", "", 200, ""),
    ]


def test_one_that_is_kept_and_forgotten_when_it_is_revoked(fleet: Command) -> None:
    made = fleet("keys", "create", "me", "--role", "admin", "--save").stdout
    path = fleet.home / "key"
    assert path.read_text().strip() == made.splitlines()[0]
    assert path.stat().st_mode & 0o777 == 0o600
    assert f"It is kept for commands on this machine, in {path}." in made
    fleet("keys", "create", "other")
    assert "kept for commands" not in fleet("keys", "revoke", "other").stdout
    assert path.exists()
    assert f"It was the one kept for commands on this machine; {path} is removed." in fleet("keys", "revoke", "me").stdout
    assert not path.exists()


def test_a_key_that_cannot_be_kept_was_shown_first(fleet: Command) -> None:
    (fleet.home / "key" / "in the way").mkdir(parents=True)
    done = fleet("keys", "create", "me", "--save", code=6)
    assert KEY.fullmatch(done.stdout.splitlines()[0])
    assert str(fleet.home / "key") in done.stderr


def test_one_of_another_control_plane_is_not_kept_here(fleet: Command, served: Live) -> None:
    refused = fleet("keys", "create", "me", "--save", "--url", served.url, code=2).stderr
    assert "leave out --url, and FLEET_URL" in refused
    assert fleet.json("keys", "list", "--url", served.url) == []
    assert not fleet.home.exists()


def test_by_address(fleet: Command, served: Live) -> None:
    made = fleet.json("keys", "create", "far", "--url", served.url)
    assert KEY.fullmatch(made["key"])
    assert "far" in fleet("keys", "list", "--url", served.url).stdout
    assert "is not allowed" in fleet("keys", "create", "a/b", "--url", served.url, code=2).stderr
    assert fleet("keys", "revoke", "far", "--url", served.url).stdout == "far: revoked\n"
    for name in ("far", "far/", "../keys", "?"):
        assert "There is no key" in fleet("keys", "revoke", name, "--url", served.url, code=4).stderr
    assert not fleet.home.exists()


def test_a_kept_key_that_is_refused_is_named(served: Live, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "url").write_text(served.url + "\n")
    (home / "key").write_text("fleet-key_" + "x" * 43 + "\n")
    refused = Command(home)("status", code=4).stderr
    assert f"It is the key kept in {home / 'key'}; remove that file" in refused
    given = Command(home, FLEET_KEY="fleet-key_" + "y" * 43)("status", code=4).stderr
    assert "kept in" not in given


def test_a_kept_key_is_forgotten_when_it_is_revoked_by_address(served: Live, tmp_path: Path) -> None:
    home = tmp_path / "home"
    fleet = Command(home)
    key = fleet.json("keys", "create", "self", "--role", "admin", "--url", served.url)["key"]
    home.mkdir()
    (home / "url").write_text(served.url + "\n")
    (home / "key").write_text(key + "\n")
    assert "is removed" in fleet("keys", "revoke", "self", "--url", served.url).stdout
    assert not (home / "key").exists()
