"""Writes each role's README from its specification: ``python -m fleet_api.roledocs``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from fleet_api import collection

STATES = "`main` installs and configures, `verify` says whether all is as it should be, `uninstall` is the way back."


def render(role: Path) -> str:
    """Return the README of a role, given its folder."""
    spec: dict[str, Any] = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]
    lines = [f"# {role.name}", "", f"{spec['short_description']}.", ""]
    lines += [*_paragraphs(spec.get("description")), "", f"Entry points: {STATES}", ""]
    options = spec.get("options") or {}
    if options:
        lines += ["| variable | type | default | meaning |", "|---|---|---|---|"]
        lines += [_row(name, option) for name, option in options.items()]
    else:
        lines += ["It has no variables."]
    lines += ["", "Written by `make docs` from `meta/argument_specs.yml`.", ""]
    return "\n".join(lines)


def roles(root: Path) -> list[Path]:
    """Return the folder of every role, by name."""
    return sorted(path for path in (root / "roles").iterdir() if (path / "meta" / "argument_specs.yml").exists())


def _row(name: str, option: dict[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    if option.get("elements"):
        kind += f" of {option['elements']}"
    if option.get("choices"):
        kind = " or ".join(f"`{choice}`" for choice in option["choices"])
    default = "required" if option.get("required") else f"`{_cell(_plain(option.get('default')))}`"
    return f"| `{name}` | {kind} | {default} | {_cell(' '.join(_paragraphs(option.get('description'))))} |"


def _plain(value: Any) -> str:
    if value is None or value == "":
        return "empty"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _paragraphs(text: Any) -> list[str]:
    return [_markup(str(each)) for each in (text if isinstance(text, list) else [text] if text else [])]


def _markup(text: str) -> str:
    """Turn Ansible's markup, such as ``V(MAXN)``, into Markdown's."""
    for letter in "VCOBEIMP":
        pieces = text.split(f"{letter}(")
        text = pieces[0] + "".join(f"`{piece.replace(')', '`', 1)}" for piece in pieces[1:])
    return text


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Write them all."""
    for role in roles(collection.root()):
        (role / "README.md").write_text(render(role))
        sys.stdout.write(f"{role.name}\n")


if __name__ == "__main__":
    main()
