"""Envelopes open in their own place alone."""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode

import pytest

from fleet_api.access.vault.envelope import Damaged, Place, rewrap, seal, unseal
from fleet_api.access.vault.keyring import MasterKey
from fleet_api.access.vault.secret import Secret

KEY, PLACE = MasterKey.of(os.urandom(32)), Place("row", 3)
VALUES = {"password": "päss", "become_password": "other"}


def test_opens_what_was_sealed() -> None:
    sealed = seal(KEY, PLACE, VALUES)
    assert unseal(KEY, PLACE, sealed) == VALUES
    assert "päss" not in sealed
    assert seal(KEY, PLACE, VALUES) != sealed, "each has keys and nonces of its own"


@pytest.mark.parametrize("place", [Place("other", 3), Place("row", 2), Place("row", 4)])
def test_not_in_another_row_or_version(place: Place) -> None:
    with pytest.raises(Damaged):
        unseal(KEY, place, seal(KEY, PLACE, VALUES))


def test_not_in_another_field_nor_in_parts() -> None:
    sealed = json.loads(seal(KEY, PLACE, VALUES))
    fields = sealed["fields"]
    swapped = {"password": fields["become_password"], "become_password": fields["password"]}
    mixed = {**fields, "password": {"key": fields["password"]["key"], "data": fields["become_password"]["data"]}}
    for wrong in (swapped, mixed):
        with pytest.raises(Damaged):
            unseal(KEY, PLACE, json.dumps({**sealed, "fields": wrong}))


def test_not_with_a_bit_changed() -> None:
    sealed = json.loads(seal(KEY, PLACE, {"password": "x"}))
    for part in ("key", "data"):
        raw = b64decode(sealed["fields"]["password"][part])
        for position in (0, len(raw) // 2, len(raw) - 1):
            spoilt = bytearray(raw)
            spoilt[position] ^= 1
            changed = json.loads(json.dumps(sealed))
            changed["fields"]["password"][part] = b64encode(bytes(spoilt)).decode()
            with pytest.raises(Damaged):
                unseal(KEY, PLACE, json.dumps(changed))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        '{"format":2,"fields":{}}',
        '{"format":1,"fields":{"password":3}}',
        '{"format":1,"fields":{"password":{"key":"é","data":""}}}',
    ],
)
def test_not_what_is_no_envelope(text: str) -> None:
    with pytest.raises(Damaged):
        unseal(KEY, PLACE, text)


def test_under_another_master_key() -> None:
    new = MasterKey.of(os.urandom(32))
    sealed = seal(KEY, PLACE, VALUES)
    moved = rewrap(KEY, new, PLACE, sealed)
    assert unseal(new, PLACE, moved) == VALUES
    for key, text in ((KEY, moved), (new, sealed)):
        with pytest.raises(Damaged):
            unseal(key, PLACE, text)


def test_nothing_shows_a_secret() -> None:
    secret = Secret("jetson", password="canary", private_key="canary", passphrase="canary", become_password="canary")
    shown = f"{secret} {secret!r} {[secret]} {KEY!r}"
    assert "jetson" in shown
    assert "canary" not in shown
    assert KEY.secret.hex() not in shown
    assert repr(KEY.secret) not in shown
