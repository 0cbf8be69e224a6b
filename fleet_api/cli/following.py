"""Shows an operation as it goes, and ends with its exit code."""

from __future__ import annotations

import contextlib
from typing import Any

import httpx
import typer

from fleet_api.cli import exit_codes
from fleet_api.cli.common import err, fail, plain, print_json, say
from fleet_api.client import FleetClient, FleetClientError, FleetUnreachable

SHOWN = frozenset({"start", "step", "task", "changed", "failed", "unreachable", "ignored", "note", "line", "machine", "progress", "retry"})


def follow(client: FleetClient, operation_ids: list[str], as_json: bool) -> None:
    """Show operations, one after the other, until each has ended. Ctrl-C asks whether they are to be cancelled."""
    ended: list[dict[str, Any]] = []
    try:
        for operation_id in operation_ids:
            for event in client.operation_events(operation_id):
                if not as_json and event["type"] in SHOWN:
                    _show(event)
            ended.append(client.operation(operation_id))
    except KeyboardInterrupt:
        left = operation_ids[len(ended) :]
        if err.is_terminal and not typer.confirm("\nCancel what is at work? (No leaves it running)", default=True, err=True):
            fail(f"Left running: {', '.join(left)}. See 'fleet operations'.", exit_codes.INTERRUPTED)
        for operation_id in left:
            with contextlib.suppress(FleetClientError, FleetUnreachable):
                client.cancel_operation(operation_id)
        fail("Stopped; what was at work was cancelled.", exit_codes.INTERRUPTED)
    except httpx.TransportError as error:
        fail(f"The connection to {client.url} broke ({error}); what was at work goes on. See 'fleet operations'.", exit_codes.UNREACHABLE)
    if as_json:
        print_json(ended[0] if len(ended) == 1 else ended)
    bad = [row for row in ended if row["state"] != "succeeded"]
    for row in ended:
        if not as_json:
            say(f"{row['title']}: {row['state']}{_counts(row)}")
    if bad:
        fail("; ".join(f"{row['title']}: {row['reason'] or row['state']}" for row in bad), exit_codes.FAILED)


def _show(event: dict[str, Any]) -> None:
    where = f"{event['node_id']}: " if event["node_id"] else ""
    name = event["type"]
    if name == "task":
        say(f"  {event['text']}")
    elif name in ("changed", "failed", "unreachable", "ignored", "retry"):
        more = f" {event['text']}" if event["text"] != name else ""
        say(f"    {where}{name}{more if name != 'changed' else ''}")
        for line in _diff(event["data"].get("diff")):
            say(f"      {line}")
    else:
        say(f"  {where}{event['text']}" if name != "start" else event["text"])


def _diff(diff: Any) -> list[str]:
    """Return a plan's differences as lines."""
    found: list[str] = []
    for each in diff if isinstance(diff, list) else [diff] if diff else []:
        if not isinstance(each, dict):
            continue
        if each.get("prepared"):
            found += str(each["prepared"]).splitlines()
        before, after = str(each.get("before", "")).splitlines(), str(each.get("after", "")).splitlines()
        found += [f"- {line}" for line in before if line not in after] + [f"+ {line}" for line in after if line not in before]
    return [plain(line)[:200] for line in found[:60]]


def _counts(row: dict[str, Any]) -> str:
    stats = row["result"].get("stats") or {}
    return "".join(f" ({host}: ok={each['ok']} changed={each['changed']} failed={each['failures']})" for host, each in stats.items())
