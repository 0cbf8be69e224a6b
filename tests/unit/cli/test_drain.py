"""``fleet drain`` leaves a person's word as it is, and a node that takes too long as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from fleet_api.cli import drain
from fleet_api.cli.main import app
from fleet_api.client import FleetClientError


class Fake:
    """One node, ``agx0``, whose job takes so many looks to end."""

    def __init__(self, looks: int, **labels: str) -> None:
        self.labels, self.looks, self.changes = dict(labels), looks, list[dict[str, Any]]()

    def node(self, node_id: str) -> dict[str, Any]:
        if node_id != "agx0":
            raise FleetClientError(404, "There is no node.")
        return {"labels": self.labels}

    def change_node(self, node_id: str, labels: dict[str, str]) -> None:
        self.labels = labels
        self.changes.append(labels)

    def at_work(self, node_id: str) -> str | None:
        self.looks -= 1
        return "job-1" if self.looks >= 0 else None


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(drain, "LOOK_SECONDS", 0.0)

    def command(fake: Fake, *words: str) -> Any:
        @contextmanager
        def reaching(*_: object) -> Iterator[Fake]:
            yield fake

        monkeypatch.setattr(drain, "reaching", reaching)
        done = CliRunner().invoke(app, ["drain", *words, "--json"])
        return json.loads(done.stdout) if done.exit_code == 0 else (done.exit_code, done.stderr)

    return command


def test_it_waits_for_the_job_and_gives_work_back_afterwards(run: Any) -> None:
    fake = Fake(3, rack="a")
    assert run(fake, "agx0") == {"node_id": "agx0", "status": "drained", "changed": True}
    assert (fake.labels, fake.looks) == ({"rack": "a", "maintenance": "drained"}, -1)
    assert run(fake, "agx0") == {"node_id": "agx0", "status": "drained", "changed": False}
    assert run(fake, "agx0", "--back") == {"node_id": "agx0", "status": "working", "changed": True}
    assert run(fake, "agx0", "--back") == {"node_id": "agx0", "status": "working", "changed": False}
    assert fake.labels == {"rack": "a"}


def test_what_a_person_put_into_maintenance_stays_there(run: Any) -> None:
    fake = Fake(0, maintenance="yes")
    assert run(fake, "agx0")["changed"] is False
    assert run(fake, "agx0", "--back") == {"node_id": "agx0", "status": "maintenance", "changed": False}
    assert fake.changes == []


def test_a_job_that_takes_too_long_leaves_all_as_it_was(run: Any) -> None:
    fake = Fake(1000)
    code, said = run(fake, "agx0", "--seconds", "0")
    assert (code, fake.labels) == (1, {})
    assert "agx0 still works on job job-1 after 0 s; wait for it, cancel it, or give it more --seconds." in " ".join(said.split())


def test_an_unknown_node_has_nothing_to_end(run: Any) -> None:
    assert run(Fake(0), "nx1") == {"node_id": "nx1", "status": "unknown", "changed": False}
