"""What modules and roles declare of themselves is so, as far as reading can tell."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
MODULES = sorted((ROOT / "plugins" / "modules").glob("*.py"))
PARTS = sorted((ROOT / "plugins").rglob("*.py"))
TASKS = sorted((ROOT / "roles").glob("*/tasks/*.yml"))
READING = {"ansible.builtin.command", "fleet.commander.fleet_node_info"}
UNDONE = {"validate_inventory"}  # it changes nothing


def texts(path: Path) -> dict[str, str]:
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Constant):
            found[node.targets[0].id] = str(node.value.value)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_is_documented_with_samples(path: Path) -> None:
    parts = texts(path)
    about = yaml.safe_load(parts["DOCUMENTATION"])
    assert about["module"] == path.stem
    assert any(name.startswith("fleet.commander.attributes") for name in about["extends_documentation_fragment"])
    examples = yaml.safe_load(parts["EXAMPLES"])
    assert any(f"fleet.commander.{path.stem}" in task for task in examples)
    for name, value in (yaml.safe_load(parts["RETURN"]) or {}).items():
        assert "sample" in value or all("sample" in each for each in value["contains"].values()), name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_modules_options_are_those_it_documents(path: Path) -> None:
    documented = set(yaml.safe_load(texts(path)["DOCUMENTATION"]).get("options") or {})
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    specs = [
        word.value
        for call in calls
        for word in call.keywords
        if word.arg == "argument_spec" and isinstance(word.value, ast.Dict)
    ]  # fmt: skip
    if specs:  # an action without a module's part has none
        assert {ast.literal_eval(key) for key in specs[0].keys if key is not None} == documented
        assert any(word.arg == "supports_check_mode" for call in calls for word in call.keywords)


@pytest.mark.parametrize("path", PARTS, ids=lambda path: str(path.relative_to(ROOT / "plugins")))
def test_a_part_has_one_idea_and_runs_without_the_control_plane(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert not {name for name in imported if name.split(".")[0] in ("fleet_api", "gpu_inference")}


def tasks_of(path: Path) -> list[dict[str, Any]]:
    found = []
    for task in yaml.safe_load(path.read_text()) or []:
        found += [task, *task.get("block", []), *task.get("rescue", []), *task.get("always", [])]
    return found


@pytest.mark.parametrize("path", TASKS, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_only_tasks_that_read_say_that_they_change_nothing(path: Path) -> None:
    for task in tasks_of(path):
        if task.get("changed_when") is False:
            assert READING & task.keys(), task["name"]
        assert "ignore_errors" not in task, task["name"]
        assert "no_log" not in task, task["name"]


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir()))
def test_a_role_has_the_shape_of_all(role: str) -> None:
    folder = ROOT / "roles" / role
    assert {"defaults/main.yml", "meta/main.yml", "meta/argument_specs.yml", "tasks/main.yml", "tasks/preflight.yml"} <= {
        str(path.relative_to(folder)) for path in folder.rglob("*.yml")
    }
    if role not in UNDONE:
        assert all((folder / "tasks" / f"{name}.yml").exists() for name in ("install", "configure", "verify", "examine", "uninstall"))
    for path in folder.rglob("*.yml"):
        assert len(path.read_text().splitlines()) <= 120, path


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir()))
def test_defaults_are_what_the_specification_says(role: str) -> None:
    folder = ROOT / "roles" / role
    defaults = yaml.safe_load((folder / "defaults" / "main.yml").read_text()) or {}
    options = yaml.safe_load((folder / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert {name: option.get("default") for name, option in options.items()} == defaults
    assert all(name.startswith(f"{role}_") and option["description"].endswith(".") for name, option in options.items())
