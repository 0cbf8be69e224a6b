"""Envelopes: each secret under a fresh data key, each data key under a master key, both bound to where they are kept.

AES-256-GCM with random 96-bit nonces. The bound text (``aad``) names table, row, field and version, so that an envelope that was
moved to another row or field, or put back from an earlier version, does not open.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fleet_api.access.vault.keyring import MasterKey

FORMAT = 1
NONCE_BYTES = 12
TABLE = "credentials"


class Damaged(Exception):
    """The envelope does not open: it was changed or moved, or the key is another one."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where envelopes are kept: a row of a table, and the version of its secrets."""

    row_id: str
    version: int
    table: str = TABLE

    def bound(self, field: str, purpose: str) -> bytes:
        """Return the text that a ciphertext is bound to."""
        return json.dumps(["fleet-vault", FORMAT, purpose, self.table, self.row_id, field, self.version]).encode()


def seal(key: MasterKey, place: Place, values: Mapping[str, str]) -> str:
    """Return envelopes of all values, as text."""
    sealed = {}
    for field, value in values.items():
        data_key = AESGCM.generate_key(256)
        sealed[field] = {
            "key": _encrypt(key.secret, data_key, place.bound(field, "data key")),
            "data": _encrypt(data_key, value.encode(), place.bound(field, "secret")),
        }
    return json.dumps({"format": FORMAT, "fields": sealed}, separators=(",", ":"))


def unseal(key: MasterKey, place: Place, sealed: str) -> dict[str, str]:
    """Return the values. Raises Damaged."""
    found = {}
    for field, envelope in _fields(sealed).items():
        data_key = _decrypt(key.secret, envelope["key"], place.bound(field, "data key"))
        found[field] = _decrypt(data_key, envelope["data"], place.bound(field, "secret")).decode()
    return found


def rewrap(old: MasterKey, new: MasterKey, place: Place, sealed: str) -> str:
    """Return the same envelopes with their data keys under another master key; the secrets are not opened. Raises Damaged."""
    fields = _fields(sealed)
    for field, envelope in fields.items():
        bound = place.bound(field, "data key")
        envelope["key"] = _encrypt(new.secret, _decrypt(old.secret, envelope["key"], bound), bound)
    return json.dumps({"format": FORMAT, "fields": fields}, separators=(",", ":"))


def _fields(sealed: str) -> dict[str, dict[str, str]]:
    try:
        found = json.loads(sealed)
        if found["format"] != FORMAT:
            raise Damaged
        return {field: {"key": each["key"], "data": each["data"]} for field, each in found["fields"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Damaged from None


def _encrypt(key: bytes, plain: bytes, bound: bytes) -> str:
    nonce = os.urandom(NONCE_BYTES)
    return b64encode(nonce + AESGCM(key).encrypt(nonce, plain, bound)).decode()


def _decrypt(key: bytes, text: str, bound: bytes) -> bytes:
    try:
        raw = b64decode(text, validate=True)
        return AESGCM(key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], bound)
    except (ValueError, TypeError, InvalidTag):
        raise Damaged from None
