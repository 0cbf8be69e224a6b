"""Which variables' values are shown, and how long values are held."""

from __future__ import annotations

import pytest

from fleet_api.errors import Conflict
from fleet_api.services.environment import Environments, shown


@pytest.mark.parametrize(
    "name",
    ["PGPASS", "DB_PASS", "MYSQL_PWD", "ENCRYPTION_KEY", "SSH_KEY_ID", "key", "SENTRY_DSN", "MINIO_ROOT_PASSWORD", "HF_TOKEN", "apikey"],
)
def test_values_that_are_not_shown(name: str) -> None:
    assert shown([f"{name}=correct horse"]) == [f"{name}=[secret]"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("postgres://fleet:correct-horse@db:5432/fleet", "postgres://[secret]@db:5432/fleet"),
        ("redis://:correct-horse@redis/0", "redis://[secret]@redis/0"),
        ("http://a:b/c@d@proxy:3128, https://e:f@proxy", "http://a:b/c@d@proxy:3128, https://[secret]@proxy"),
        ("https://example.invalid/a@b", "https://example.invalid/a@b"),
    ],
)
def test_sign_ins_in_addresses_are_not_shown(value: str, told: str) -> None:
    assert shown([f"WHERE={value}"]) == [f"WHERE={told}"]


def test_what_is_no_secret_is_shown() -> None:
    plain = ["COLOUR=red", "KEYBOARD=us", "PASSIVE=1", "POSTGRES_USER=fleet", "SECRET="]
    assert shown(plain) == plain


def test_values_are_held_no_longer_than_their_operation() -> None:
    held = Environments()
    held.put("a", ["X=1"])
    held.put("b", ["X=2"])
    held.keep_only({"b"})
    assert held.take("b", ["X"]) == ["X=2"]
    with pytest.raises(Conflict, match="not kept"):
        held.take("a", ["X"])
