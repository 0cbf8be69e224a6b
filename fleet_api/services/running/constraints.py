"""Placement constraints as Swarm reads them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet_api.errors import InvalidValue

FORM = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*(==|!=)\s*([A-Za-z0-9:\-_\s./+@]*?)\s*")
PLAIN = ("node.id", "node.hostname", "node.ip", "node.role", "node.platform.os", "node.platform.arch")
PREFIXES = ("node.labels.", "engine.labels.")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Constraint:
    """``key == value`` or ``key != value``."""

    key: str
    equal: bool
    value: str

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Return the constraint. Raises InvalidValue."""
        found = FORM.fullmatch(text)
        if found is None or not found[3]:
            raise InvalidValue(f"constraints: {text[:60]!r} is not allowed; it must be <key>==<value> or <key>!=<value>.")
        key = found[1]
        if key.lower() not in PLAIN and not any(key.lower().startswith(prefix) and key[len(prefix) :] for prefix in PREFIXES):
            raise InvalidValue(
                f"constraints: {text[:60]!r} is not allowed; its key must be one of {', '.join(PLAIN)}, node.labels.<name> or "
                "engine.labels.<name>."
            )
        return cls(key, found[2] == "==", found[3])

    def met_by(self, node: Mapping[str, Any]) -> bool:
        """Say whether a node of the engine's list meets it."""
        return (_value(node, self.key).lower() == self.value.lower()) == self.equal

    def __str__(self) -> str:
        return f"{self.key}{'==' if self.equal else '!='}{self.value}"


def _value(node: Mapping[str, Any], key: str) -> str:
    spec, description = node.get("Spec") or {}, node.get("Description") or {}
    platform = description.get("Platform") or {}
    lower = key.lower()
    if lower.startswith(PREFIXES[0]):
        return str((spec.get("Labels") or {}).get(key[len(PREFIXES[0]) :], ""))
    if lower.startswith(PREFIXES[1]):
        return str(((description.get("Engine") or {}).get("Labels") or {}).get(key[len(PREFIXES[1]) :], ""))
    plain = {
        "node.id": node.get("ID"),
        "node.hostname": description.get("Hostname"),
        "node.ip": (node.get("Status") or {}).get("Addr"),
        "node.role": spec.get("Role"),
        "node.platform.os": platform.get("OS"),
        "node.platform.arch": platform.get("Architecture"),
    }
    return str(plain.get(lower) or "")
