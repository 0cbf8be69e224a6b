"""No secret in a log."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_api.kit.crypto import new_secret
from fleet_api.kit.redact import redact
from fleet_api.kit.rotating import RotatingLog


@pytest.mark.parametrize("prefix", ["fleet-key", "fleet-session", "fleet-agent", "fleet-enrol"])
@pytest.mark.parametrize("text", ["{}", '{{"key":"{}"}}', "Bearer {}", "token={}.node.hash", "error in ({}): no", "{} {}"])
def test_secrets_of_the_fleet_are_taken_out(prefix: str, text: str) -> None:
    secret = new_secret(prefix)
    found = redact(text.format(secret, secret))
    assert secret not in found
    assert secret[len(prefix) + 1 :] not in found
    assert prefix in found, "what it was can still be told"


@pytest.mark.parametrize(
    "line",
    ['{"password": "hunter22"}', "password=hunter22", "Authorization: Bearer hunter22", "'passphrase': 'hunter22'", "X-API-Key: hunter22"],
)
def test_fields_that_hold_secrets(line: str) -> None:
    assert "hunter22" not in redact(line)


@pytest.mark.parametrize("line", ["a red circle", "the password is wrong", "fleet-key", "POST /api/keys", "key 'alice' has expired"])
def test_plain_text_stays(line: str) -> None:
    assert redact(line) == line


def test_logs_are_rotated_and_redacted(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "api.log", limit=1_000, kept=2)
    secret = new_secret("fleet-key")
    for number in range(100):
        log.write(f"line {number} {secret} \udce9".encode("utf-8", "surrogateescape"))
    log.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["api.log", "api.log.1", "api.log.2"]
    assert all(path.stat().st_size <= 1_000 for path in tmp_path.iterdir())
    text = "".join(path.read_text() for path in tmp_path.iterdir())
    assert "line 99 " in text
    assert secret not in text
