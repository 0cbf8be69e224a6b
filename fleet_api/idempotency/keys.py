"""A caller's key, and the hash by which a repeat is told from another request under the same key."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet_api.errors import InvalidValue, Unavailable

HEADER = "Idempotency-Key"
LONGEST = 255
KEY_BYTES = 32


@dataclass(slots=True)
class RequestKey:
    """One request under a key: whose, of which row, with what in it.

    ``job_ids`` are the jobs that an earlier request made whose answer was lost; ``stored`` says that the row's own transaction has
    written the key.
    """

    caller: str
    row: str
    key: str
    body_hash: str
    job_ids: list[str] | None = None
    stored: bool = False

    @property
    def whose(self) -> tuple[str, str, str]:
        """What tells it from every other."""
        return self.caller, self.row, self.key


def checked(values: Sequence[bytes]) -> str:
    """Return the key of a request's headers. Raises InvalidValue."""
    text = values[0].decode("latin-1")
    if len(values) > 1 or not 1 <= len(text) <= LONGEST or not text.isprintable():
        raise InvalidValue(f"{HEADER} must be one text of 1 to {LONGEST} characters without control characters.")
    return text


def body_hash(secret: bytes, path: str, query: bytes, body: bytes) -> str:
    """Return a keyed hash of what a request asks for; of JSON the values count, not how they are written.

    Keyed, as a plain hash of a body with a password in it would let a copy of the database be searched for the password.
    """
    with contextlib.suppress(ValueError, RecursionError):
        body = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode()
    return hmac.new(secret, b"\n".join((path.encode("utf-8", "surrogatepass"), query, body)), hashlib.sha256).hexdigest()


def hashing_key(path: Path) -> bytes:
    """Return the key of a data folder's hashes; made now if it is not there. Raises Unavailable."""
    try:
        try:
            made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            found = path.read_bytes()
            if len(found) >= KEY_BYTES:
                return found
            made = os.open(path, os.O_WRONLY | os.O_TRUNC)  # the power went while it was written
        secret = os.urandom(KEY_BYTES)
        with os.fdopen(made, "wb") as file:
            file.write(secret)
        return secret
    except OSError as error:
        raise Unavailable(f"{path} cannot be used: {error.strerror}; mend the permissions of FLEET_HOME.") from None
