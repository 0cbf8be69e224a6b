"""Who the agent is: a node id and a credential, got once for a token and kept; a fresh incarnation each start."""

from __future__ import annotations

import hashlib
import json
import platform
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from gpu_inference import __version__
from gpu_inference.agent import logs
from gpu_inference.agent.client import ApiClient, Refused, Rejected, persist
from gpu_inference.agent.files import write_private
from gpu_inference.agent.telemetry import machine_id
from gpu_inference.protocol import EnrolRequest

FILE = "identity.json"


class NoIdentity(Exception):
    """The agent has neither a credential nor a token that is accepted."""


@dataclass(frozen=True)
class Identity:
    """``credential`` is secret and kept out of ``repr``. ``token_digest`` is the SHA-256 of the token it was got for."""

    node_id: str
    credential: str = field(repr=False)
    token_digest: str = field(default="", repr=False)
    incarnation: str = field(default_factory=lambda: uuid.uuid4().hex)


def digest(token: str) -> str:
    """A token's SHA-256 in hex."""
    return hashlib.sha256(token.encode("utf-8")).hexdigest()


def load(state_dir: Path) -> Optional[Identity]:
    """The kept identity with a fresh incarnation, or None where there is none that can be read."""
    try:
        kept = json.loads((state_dir / FILE).read_text(encoding="utf-8"))
        return Identity(str(kept["node_id"]), str(kept["credential"]), str(kept.get("token_digest", "")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        logs.warning("The kept identity cannot be read and is left aside.", file=str(state_dir / FILE))
        return None


def save(state_dir: Path, identity: Identity) -> None:
    """Keeps the identity in a file of mode 0600."""
    kept = {"node_id": identity.node_id, "credential": identity.credential, "token_digest": identity.token_digest}
    write_private(state_dir / FILE, json.dumps(kept).encode("utf-8"))


async def obtain(client: ApiClient, state_dir: Path, token: str, rejected: Optional[Identity] = None) -> Identity:
    """The kept identity, or a new one for ``token``; the client then shows its credential.

    ``rejected`` is an identity that was no longer accepted: only a token it was not got for helps then. Raises
    :class:`NoIdentity` with what to do. Waits while the control plane is unreachable.
    """
    identity = load(state_dir) if rejected is None else None
    if identity is None:
        if not token:
            raise NoIdentity("This node is not enrolled: give an enrolment token in FLEET_AGENT_TOKEN_FILE or FLEET_AGENT_TOKEN.")
        if rejected is not None and digest(token) == rejected.token_digest:
            raise NoIdentity("This node's credential is no longer accepted: enrol it again with a fresh token.")
        identity = await _enrol(client, token)
        save(state_dir, identity)
        logs.info("Enrolled.", node_id=identity.node_id)
    client.credential = identity.credential
    return identity


async def _enrol(client: ApiClient, token: str) -> Identity:
    client.credential = ""
    request = EnrolRequest(
        token=token,
        hostname=platform.node() or "unknown",
        machine_id=machine_id(),
        request_id=uuid.uuid4().hex,
        version=__version__,
    )
    try:
        reply = await persist(lambda: client.enrol(request), "enrol")
    except Rejected as error:
        raise NoIdentity(f"The enrolment token is not accepted: it may be used, expired or mistyped. {error}") from error
    except Refused as error:
        raise NoIdentity(f"The control plane does not take this machine. {error}") from error
    if reply is None:
        raise NoIdentity("The enrolment was given up.")
    return Identity(reply.node_id, reply.credential, digest(token))
