"""House rules as code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [path for folder in ("fleet_api", "gpu_inference") for path in sorted((ROOT / folder).rglob("*.py")) if "build" not in path.parts]
BOTH_SIDES = {"gpu_inference.protocol", "gpu_inference.protocol_engines"}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_one_idea(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_the_protocol_is_all_that_both_sides_import() -> None:
    for path in SOURCES:
        inside = path.relative_to(ROOT).parts[0]
        other = "gpu_inference" if inside == "fleet_api" else "fleet_api"
        crossing = {name for name in imports(path) if name.split(".")[0] == other}
        assert crossing <= BOTH_SIDES, path


def test_no_await_takes_a_cancel_of_its_own_for_that_of_a_task() -> None:
    """``task.cancel()``, then ``suppress(CancelledError)`` around ``await task``: who is cancelled just then goes on; gather it instead."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.With) and any("CancelledError" in ast.unparse(item) for item in node.items):
                assert not any(isinstance(inner, ast.Await) for inner in ast.walk(node)), f"{path}:{node.lineno}"


def test_sql_is_written_in_repositories_alone() -> None:
    allowed = {"repository.py", "models.py", "table.py", "db.py", "migrate.py", "health.py"}
    for path in (ROOT / "fleet_api").rglob("*.py"):
        if path.name in allowed or "migrations" in path.parts:
            continue
        names = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module == "sqlalchemy"
            for alias in node.names
        }
        assert names <= {"Connection"}, path


def test_scheduling_does_no_io() -> None:
    pure = {"__future__", "collections", "copy", "csv", "dataclasses", "heapq", "html", "math", "sortedcontainers", "typing", "fleet_api"}
    for path in (ROOT / "fleet_api" / "scheduling").rglob("*.py"):
        roots = {name.split(".")[0] for name in imports(path)}
        assert roots <= pure, path
        assert all(name.startswith("fleet_api.scheduling") for name in imports(path) if name.startswith("fleet_api")), path


def test_the_kit_knows_no_domain() -> None:
    for path in (ROOT / "fleet_api" / "kit").glob("*.py"):
        own = {name for name in imports(path) if name.startswith("fleet_api")}
        assert all(name.startswith(("fleet_api.kit", "fleet_api.errors")) for name in own), path


def test_locks_hold_hashes_and_no_addresses() -> None:
    for path in (ROOT / "requirements").glob("*.lock"):
        text = path.read_text()
        assert "://" not in text, path
        pins = re.findall(r"^[a-z0-9-]+==.*$", text, re.M)
        assert pins, path
        assert all(pin.endswith("\\") for pin in pins), f"{path}: a pin without a hash"


def test_the_workers_lock_resolves_for_python_3_8() -> None:
    text = (ROOT / "gpu_inference" / "requirements-py38.lock").read_text()
    assert re.search(r"^numpy==1\.24\.", text, re.M), "numpy's last version for Python 3.8"
    assert re.search(r"^pydantic==2\.10\.", text, re.M), "pydantic's last version for Python 3.8"
