"""What ansible-runner tells, as events of an operation. Pure functions; the child calls them, so that little goes through the pipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fleet_api.adapters.ansible.play import Told

LONGEST = 16_000  # characters of one result's text; the journal keeps half of it, once secrets are taken out
LARGEST_FACTS = 64 * 1024  # characters of JSON
DEEPEST = 6
CONTENT_KEYS = ("msg", "stderr", "stdout", "module_stderr", "exception")


def told(event: dict[str, Any]) -> Told | None:
    """Return the event of an operation for one of ansible-runner, or None for one that tells nothing new."""
    kind = event.get("event", "")
    data = event.get("event_data") or {}
    make = _MAKERS.get(kind)
    if make is None:
        return _line(event) if kind in ("error", "warning", "deprecated", "verbose", "system_warning") else None
    return make(data)


def _line(event: dict[str, Any]) -> Told | None:
    text = str(event.get("stdout") or "").strip()
    return {"type": "line", "text": text[:LONGEST]} if text else None


def _play(data: dict[str, Any]) -> Told:
    return {"type": "play", "text": str(data.get("name") or data.get("play") or "")}


def _task(data: dict[str, Any]) -> Told:
    name = str(data.get("name") or data.get("task") or "")
    return {"type": "task", "text": name, "task": name, "role": short(data.get("role"))}


def _ok(data: dict[str, Any]) -> Told | None:
    result = data.get("res") or {}
    shown = result_of(result)
    changed = bool(result.get("changed"))
    text = "changed" if changed else "ok"
    more: dict[str, Any] = {"changed": changed}
    if result.get("diff"):
        more["diff"] = _cut(result["diff"])
    if changed or shown:
        more["msg"] = shown
    if str(data.get("task_action", "")).endswith("fleet_node_info") and isinstance(result.get("node"), dict):
        facts = result["node"]
        if len(json.dumps(facts, default=str)) <= LARGEST_FACTS:
            more["fleet_facts"] = facts
    return _of_host(data, "changed" if changed else "ok", text, more)


def _failed(data: dict[str, Any]) -> Told:
    result = data.get("res") or {}
    ignored = bool(data.get("ignore_errors"))
    return _of_host(data, "ignored" if ignored else "failed", result_of(result) or "The task failed.", {"rc": result.get("rc")})


def _unreachable(data: dict[str, Any]) -> Told:
    return _of_host(data, "unreachable", result_of(data.get("res") or {}) or "The host could not be reached.", {})


def _retry(data: dict[str, Any]) -> Told:
    result = data.get("res") or {}
    return _of_host(data, "retry", f"try {result.get('attempts', '?')} of {result.get('retries', '?')}", {})


def _item_failed(data: dict[str, Any]) -> Told:
    return _of_host(data, "item_failed", result_of(data.get("res") or {}), {})


def _stats(data: dict[str, Any]) -> Told:
    counts = {name: data.get(name) or {} for name in ("ok", "changed", "failures", "dark", "skipped", "rescued", "ignored")}
    hosts = sorted({host for each in counts.values() for host in each})
    table = {host: {name: int(each.get(host, 0)) for name, each in counts.items()} for host in hosts}
    text = "; ".join(f"{host}: {row['ok']} ok, {row['changed']} changed, {row['failures']} failed" for host, row in table.items())
    return {"type": "stats", "text": text, "data": {"hosts": table}}


def _of_host(data: dict[str, Any], type_: str, text: str, more: dict[str, Any]) -> Told:
    return {
        "type": type_,
        "text": text[:LONGEST],
        "node_id": data.get("host") or data.get("remote_addr"),
        "task": str(data.get("task") or ""),
        "role": short(data.get("role")),
        "data": more,
    }


def result_of(result: dict[str, Any]) -> str:
    """Return what a task's result says, for people: its message first, then what went to standard error and output."""
    parts = []
    for key in CONTENT_KEYS:
        value = result.get(key)
        if isinstance(value, list):
            value = "\n".join(str(each) for each in value)
        if isinstance(value, str) and value.strip() and value.strip() not in parts and value != "(traceback unavailable)":
            parts.append(value.strip())
    return "\n".join(parts)[:LONGEST]


def short(role: Any) -> str | None:
    """Return a role's own name: ``docker_engine`` of ``fleet.commander.docker_engine``."""
    return str(role).rsplit(".", 1)[-1] if role else None


def _cut(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return value[:LONGEST]
    if isinstance(value, list):
        return [_cut(each, depth + 1) for each in value[:50]] if depth < DEEPEST else []
    if isinstance(value, dict):
        return {str(key)[:200]: _cut(each, depth + 1) for key, each in list(value.items())[:50]} if depth < DEEPEST else {}
    return value if value is None or isinstance(value, bool | int | float) else str(value)[:LONGEST]


_MAKERS: dict[str, Callable[[dict[str, Any]], Told | None]] = {
    "playbook_on_play_start": _play,
    "playbook_on_task_start": _task,
    "playbook_on_handler_task_start": _task,
    "runner_on_ok": _ok,
    "runner_on_failed": _failed,
    "runner_on_unreachable": _unreachable,
    "runner_retry": _retry,
    "runner_item_on_failed": _item_failed,
    "playbook_on_stats": _stats,
}
