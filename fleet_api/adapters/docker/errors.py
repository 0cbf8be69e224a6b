"""What Docker engines refuse, in one sentence each."""

from __future__ import annotations

import re

import docker.errors
import requests.exceptions
import urllib3.exceptions

from fleet_api.errors import Conflict, FleetError, InvalidValue, NotFound, Unavailable

LONGEST = 400
RPC = re.compile(r"rpc error: code = (\w+) desc = ")
REFUSED = {"InvalidArgument": InvalidValue, "NotFound": NotFound, "AlreadyExists": Conflict, "FailedPrecondition": Conflict}
"""What the swarm's managers answer behind a plain 500 of the engine."""


class EngineAway(Unavailable):
    """No Docker engine answers there, or not in time."""


class NoQuorum(Unavailable):
    """Too few of the swarm's managers are there."""


class NotAManager(Unavailable):
    """The engine does not manage a swarm; another may."""


def refusal(error: Exception, name: str) -> FleetError:
    """Return what to raise for an error of the docker library. ``name`` says which engine."""
    if isinstance(error, FleetError):
        return error
    if isinstance(error, docker.errors.ImageNotFound | docker.errors.NotFound):
        return NotFound(_sentence(error))
    if isinstance(error, docker.errors.APIError):
        return _refused(error, name)
    if isinstance(error, docker.errors.InvalidArgument | docker.errors.TLSParameterError | TypeError | ValueError):
        return InvalidValue(_ended(str(error)))
    cause = _system_error(error)
    if isinstance(cause, FileNotFoundError | ConnectionRefusedError):
        return EngineAway(f"No Docker Engine answers on {name}; see that Docker is installed and runs there.")
    if isinstance(cause, PermissionError):
        return EngineAway(f"This control plane's user may not use the Docker Engine of {name}; put it into the group docker.")
    if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError) or "timed out" in str(error).lower():
        return EngineAway(f"The Docker Engine of {name} did not answer in time; see 'journalctl -u docker' there, and try again.")
    return EngineAway(f"The talk with the Docker Engine of {name} broke off; see that Docker runs there, and try again.")


def _refused(error: docker.errors.APIError, name: str) -> FleetError:
    text, status = _text(error), error.status_code
    said = text.lower()
    if "does not have a leader" in said or "lost its quorum" in said or "deadlineexceeded" in said.replace(" ", ""):
        return NoQuorum(
            "Too few of the swarm's managers are there to decide anything: start the missing ones again. What runs goes on running."
        )
    if "not a swarm manager" in said or "not part of a swarm" in said:
        return NotAManager(f"The Docker Engine of {name} does not manage a swarm.")
    if "update out of sequence" in said:
        return Conflict("Somebody else changed this at the same time; look at it again, and try again.")
    if "already in use by service" in said:
        return Conflict(_sentence(error))
    rpc = RPC.search(text)
    kind: type[FleetError] | None = REFUSED.get(rpc[1]) if rpc else None
    if kind is None:
        by_status: dict[int, type[FleetError]] = {400: InvalidValue, 404: NotFound, 409: Conflict, 406: Conflict, 304: Conflict}
        kind = by_status.get(status or 500)
    if kind is None and ("port is already allocated" in said or "address already in use" in said or "already part of a swarm" in said):
        kind = Conflict
    if kind is None:
        kind = Unavailable
        return kind(f"The Docker Engine of {name} refuses this: {_sentence(error)}")
    return kind(_sentence(error))


def _text(error: docker.errors.APIError) -> str:
    explanation = error.explanation
    if isinstance(explanation, bytes):
        explanation = explanation.decode(errors="replace")
    return str(explanation or error)


def _sentence(error: docker.errors.APIError) -> str:
    return _ended(RPC.sub("", _text(error)))


def _ended(text: str) -> str:
    """Return a text of the engine as one printable sentence."""
    plain = "".join(char if char.isprintable() else " " for char in " ".join(text.split()))
    if len(plain) > LONGEST:
        plain = f"{plain[:LONGEST]} (and more)"
    plain = plain.strip().rstrip(".")
    return f"{plain[:1].upper()}{plain[1:]}." if plain else "It was refused without a word."


def _system_error(error: BaseException) -> OSError | None:
    """Return the system's error inside of the libraries' ones."""
    seen: list[BaseException] = [error]
    for each in seen:
        if isinstance(each, OSError) and not isinstance(each, requests.exceptions.RequestException):
            return each
        inner = [*each.args, each.__cause__, each.__context__, getattr(each, "reason", None)]
        seen += [one for one in inner if isinstance(one, BaseException) and one not in seen][: 20 - len(seen)]
    return None
