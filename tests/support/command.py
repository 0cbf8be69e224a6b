"""The ``fleet`` command in the test's own process, on a data folder of the test's own."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live
from typer.testing import CliRunner

from fleet_api.cli import status
from fleet_api.cli.main import app


class Command:
    """Runs ``fleet``; what it needs of the environment is set, and nothing else."""

    def __init__(self, home: Path, **env: str) -> None:
        self.home = home
        self._env = {"FLEET_HOME": str(home), "FLEET_URL": "", "FLEET_KEY": "", "FLEET_CA": "", "FLEET_HOST": "127.0.0.1", **env}

    def __call__(self, *words: str, code: int = 0) -> Any:
        """Run it and check its exit code."""
        done = CliRunner().invoke(app, list(words), env=self._env)
        assert done.exit_code == code, (done.output, done.exception)
        return done

    def json(self, *words: str) -> Any:
        """Run it with --json and return what it printed."""
        return json.loads(self(*words, "--json").stdout)

    def audited(self) -> list[tuple[Any, ...]]:
        """Return who, what, on what and how of each entry in the audit log, oldest first."""
        with closing(sqlite3.connect(self.home / "fleet.db")) as db:
            query = "SELECT caller_kind, caller_id, caller_name, address, row, path, status, request_id FROM audit ORDER BY seq"
            return db.execute(query).fetchall()


def watched(fleet: Command, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """Return what ``fleet status --watch`` showed, stopped by Ctrl-C after the second page."""
    shown = Console(file=io.StringIO(), width=300, highlight=False)
    pages: list[float] = []

    def sleep(seconds: float) -> None:
        pages.append(seconds)
        if len(pages) == 2:
            raise KeyboardInterrupt

    class Page(Live):
        def update(self, renderable: Any, *, refresh: bool = False) -> None:
            assert refresh
            shown.print(renderable)

    monkeypatch.setattr(status, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(status, "Live", Page)
    fleet("status", "--watch", *words)
    assert pages == [status.SECONDS] * 2
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()
