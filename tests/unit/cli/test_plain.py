"""Text from elsewhere moves no terminal: not its cursor, its title, its lines nor the direction of what follows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet_api.cli import common
from fleet_api.cli.common import CONTROLS, plain
from tests.support.command import Command, watched
from tests.support.live import Live

HOSTILE = "a\x1b]0;owned\x07b\nc\u202ed\x9be[bold]f"
SHOWN = r"a\x1b]0;owned\x07b\x0ac\u202ed\x9be[bold]f"
JOB = "0b6f1d4e-5b0e-4f0e-9d57-000000000000"


def clean(text: str) -> bool:
    return not CONTROLS.search(text.replace("\n", ""))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HOSTILE, SHOWN),
        ("\x00\x09\x0d\x7f\x85", r"\x00\x09\x0d\x7f\x85"),
        ("\u200e\u2066\u2069\u2028\ud800", r"\u200e\u2066\u2069\u2028\ud800"),
        ("bücher 星 🎨 | \\ %", "bücher 星 🎨 | \\ %"),
    ],
)
def test_plain(text: str, expected: str) -> None:
    assert plain(text) == expected


class Elsewhere:
    """A control plane that says what it likes."""

    url = "http://127.0.0.1:1/" + HOSTILE
    key_file = None

    def __init__(self, _url: str | None) -> None:
        pass

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def status(self) -> dict[str, Any]:
        counts = dict.fromkeys(("queued", "processing", "completed", "failed", "cancelled"), 0)
        vision = {"busy_nodes": 0, "models_loaded": {HOSTILE: [HOSTILE]}}
        return {"version": HOSTILE, "status": HOSTILE, "nodes": {"online": 1, "offline": 0}, "jobs": counts, "vision": vision}

    def nodes(self) -> list[dict[str, Any]]:
        figures = {"cpu": 1.0, "memory": 1.0, "gpu": 1.0, "disk": 1.0, "temperature": None, "last_seen": HOSTILE}
        return [{"id": HOSTILE, "status": HOSTILE, "ip": HOSTILE, "cluster": HOSTILE, **figures}]

    def jobs(self, *_: object) -> dict[str, Any]:
        job = dict.fromkeys(("job_id", "job_type", "status", "node_id", "created_at"), HOSTILE)
        return {"jobs": [{**job, "payload": {"prompt": HOSTILE}, "progress": 1}], "total": 2}

    def cancel(self, _job_id: str) -> dict[str, Any]:
        return {"job_id": HOSTILE, "status": HOSTILE}

    def keys(self) -> list[dict[str, Any]]:
        names = ("name", "role", "status", "hint", "created_at", "expires_at", "last_used_at", "last_used_from")
        return [dict.fromkeys(names, HOSTILE)]

    def create_key(self, *_: object) -> dict[str, Any]:
        return {"key": HOSTILE}

    def revoke_key(self, _name: str) -> dict[str, Any]:
        return {"name": HOSTILE, "hint": HOSTILE}

    def enrolment_token(self, *_: object) -> dict[str, Any]:
        return {"token": HOSTILE, "node_id": HOSTILE}

    def audit(self, *_: object, **__: object) -> dict[str, Any]:
        names = ("at", "caller_name", "caller_kind", "address", "row", "path")
        return {"entries": [{**dict.fromkeys(names, HOSTILE), "status": 401}], "next": None}

    def generate(self, _prompt: str, **_: object) -> dict[str, Any]:
        return {"job_id": JOB}

    def follow(self, _job_id: str) -> list[dict[str, Any]]:
        result = {"image_url": "/x/out.png", "seed": HOSTILE, "generation_time": 1.0, "node_id": HOSTILE, "warnings": [HOSTILE]}
        return [{"status": "processing", "node_id": HOSTILE}, {"status": "completed", "result": result}]

    def output(self, _url: str) -> bytes:
        return b"png"


COMMANDS = [
    ("status",), ("nodes",), ("jobs",), ("jobs", "--cancel", JOB), ("audit",), ("keys", "list", "--url", "x"),
    ("keys", "create", "me", "--url", "x"), ("keys", "revoke", "me", "--url", "x"), ("enrol", "--url", "x"), ("generate", "a", "-f"),
]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("form", ["", "--json"])
def test_no_command_lets_it_through(
    words: tuple[str, ...], form: str, fleet: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "FleetClient", Elsewhere)
    monkeypatch.chdir(tmp_path)
    done = fleet(*words, *([form] if form else []))
    assert clean(done.output)
    assert done.stderr == ""
    if form:
        assert HOSTILE in str(json.loads(done.stdout)) or HOSTILE in _strings(json.loads(done.stdout))
    else:
        assert r"\x1b]0;owned\x07" in re.sub(r"\s", "", done.stdout)


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in (key, *_strings(inner))]
    if isinstance(value, list):
        return [text for inner in value for text in _strings(inner)]
    return [value] if isinstance(value, str) else []


def test_the_page_that_stays_is_clean(fleet: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "FleetClient", Elsewhere)
    text = watched(fleet, monkeypatch)
    assert clean(text)
    assert r"\x1b]0;owned" in text
    assert "[bold]f" in text, "nor is it markup"


def test_an_error_is_one_clean_line(fleet: Command) -> None:
    done = fleet("status", "--url", "http://127.0.0.1:1/\x1b]0;x\x07\n", code=3)
    assert clean(done.stderr)
    assert done.stderr.count("\n") == 1


def test_what_a_stranger_called_is_shown_clean(fleet: Command, served: Live) -> None:
    with httpx.Client(base_url=served.url, trust_env=False, headers={"Authorization": "Bearer no"}) as stranger:
        assert stranger.delete("/api/keys/%1b%5d0;owned%07%0a%e2%80%ae").status_code == 401
    done = fleet("audit", "--url", served.url)
    assert clean(done.output)
    assert r"/api/keys/\x1b]0;owned\x07\x0a\u202e" in done.stdout
