"""``fleet up`` and ``fleet serve``."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import typer

from fleet_api.cli.common import err, out, plain
from fleet_api.cli.local import Home, Host, Port, explained, settings_of

if TYPE_CHECKING:
    from fleet_api.settings import Settings

EXAMPLES = "Examples: fleet up; FLEET_HOME=/srv/fleet fleet up --port 9000; fleet up --host 0.0.0.0"


def up(home: Home = None, host: Host = None, port: Port = None) -> None:
    """Start the control plane and an agent on this machine; Ctrl-C ends both.

    On loopback no key is wanted. Any other --host is for the network: it wants keys ('fleet keys create') and speaks TLS.
    """
    from fleet_api.access.listening import loud
    from fleet_api.supervisor import up as run_up  # here, as the other commands start in a third of the time without it

    settings = _restored(settings_of(home, port, host), home, host, port)
    for sentence in loud(settings):
        err.print(f"WARNING: {plain(sentence)}", style="bold red", markup=False, soft_wrap=True)
    with explained():
        code = asyncio.run(run_up(settings, lambda text: err.print(f"fleet: {plain(text)}", markup=False), partial(_ready, settings)))
    if code:
        raise typer.Exit(code)
    out.print("Stopped.")


def serve(home: Home = None, host: Host = None, port: Port = None) -> None:
    """Serve the API alone, without an agent."""
    from fleet_api.server import serve as serve_api

    settings = _restored(settings_of(home, port, host), home, host, port)
    with explained():
        serve_api(settings)


def _restored(settings: Settings, home: Home, host: Host, port: Port) -> Settings:
    """Put a backup in place that waits to be restored, and return the settings as they are then."""
    if not (settings.home / "restore.json").exists():
        return settings
    from fleet_api.backups import restoring

    with explained():
        plan = restoring.at_start(settings.home)
    if plan is not None:
        err.print(f"fleet: {plain(restoring.told(settings.home, plan))}", markup=False, soft_wrap=True)
    return settings_of(home, port, host)


def _ready(settings: Settings, url: str, public_url: str) -> None:
    text = _EXPOSED.format(url=plain(public_url), home=plain(settings.home)) if settings.exposed else _LOCAL.format(url=plain(url))
    out.print(text, markup=False, soft_wrap=True)


_LOCAL = """
Fleet Commander is ready on {url}  (a page to look at it; API pages: {url}/docs)

Make a picture:
  curl -X POST {url}/api/fleet/generate -H 'Content-Type: application/json' \\
    -d '{{"prompt":"a red circle on a blue background"}}' -o image.png
or
  fleet generate "a red circle on a blue background" -o image.png

Ctrl-C stops it."""

_EXPOSED = """
Fleet Commander is ready on {url}  (a page to look at it; API pages: {url}/docs)

It is open to the network and wants keys. Make yourself one (--save keeps it for commands on this machine), then make a picture:
  fleet keys create me --role admin --save
  fleet generate "a red circle on a blue background" -o image.png

Other machines trust it by {home}/tls/ca.crt; 'fleet tls show' tells more. A node joins with what 'fleet enrol NODE_ID' prints.
Ctrl-C stops it."""
