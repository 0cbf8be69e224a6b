"""``fleet enrol``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet_api.cli import exit_codes
from fleet_api.cli.common import Json, Url, calling, fail, print_json, say
from fleet_api.cli.local import Home, checked, explained, settings_of, with_database

if TYPE_CHECKING:
    from fleet_api.settings import Settings

EXAMPLES = "Examples: fleet enrol; fleet enrol agx0 --minutes 10"


def enrol(
    node_id: Annotated[
        str | None, typer.Argument(help="The only node that the token is good for  [default: any]", show_default=False)
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, max=10_080, help="How long the token is good for")] = 60,
    home: Home = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make a token with which one agent may join, once, and say how.

    The token carries the hash of the control plane's certificate authority, so that the agent needs nothing else to trust it.
    """
    if url:
        with calling(url) as client:
            made = {**client.enrolment_token(node_id, minutes), "url": client.url}
    else:
        made = _here(settings_of(home), node_id, minutes)
    if as_json:
        print_json(made)
        return
    say(f"On the node, within {minutes:g} minutes:")
    say(f"  FLEET_AGENT_URL={made['url']} FLEET_AGENT_TOKEN={made['token']} fleet-worker run")


def _here(settings: Settings, node_id: str | None, minutes: float) -> dict[str, Any]:
    from fleet_api.access import certificates
    from fleet_api.access.enrolment import create_token
    from fleet_api.access.listening import public_url
    from fleet_api.access.schemas import TokenBody
    from fleet_api.kit.clock import SystemClock
    from fleet_api.kit.home import public_address
    from fleet_api.nodes.naming import reserved

    checked(TokenBody, node_id=node_id, expires_in_minutes=minutes)
    if reserved(node_id):
        fail(f"node_id: {node_id!r} is a reserved word; choose another id.", exit_codes.USAGE)
    url = public_address(settings.home) or public_url(settings, settings.port)
    with explained():
        served = certificates.show(settings.tls_folder) if url.startswith("https") else None
    ca_hash = served.ca_hash if served else ""
    token = with_database(
        settings, lambda db: create_token(db, SystemClock(), node_id, ca_hash, minutes * 60), "fleet enrol", lambda _: node_id or ""
    )
    return {"token": token, "node_id": node_id, "url": url}
