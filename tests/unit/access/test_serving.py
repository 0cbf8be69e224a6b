"""What the server does with certificates: a renewed one without a restart, one warning a day, and one word about each trouble."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from fleet_api import server
from fleet_api.access import certificates, listening
from fleet_api.kit import home
from fleet_api.kit.clock import SystemClock
from fleet_api.settings import Settings
from tests.support.tls import handshake


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "deep" / "home", host="0.0.0.0", port=0, allowed_hosts=["fleet.invalid"])


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    class Log:
        def __getattr__(self, _level: str) -> Any:
            return lambda event, **_: found.append(event)

    monkeypatch.setattr(server, "log", Log())
    return found


def serving(settings: Settings) -> tuple[server.Server, uvicorn.Config]:
    listening.certificate(settings, SystemClock())
    app = FastAPI()
    config = uvicorn.Config(app, log_config=None)
    listening.secure(config, settings)
    return server.Server(config, app, settings), config


def meets(settings: Settings, config: uvicorn.Config) -> bool:
    assert config.ssl is not None
    return handshake(ssl.create_default_context(cafile=str(settings.tls_folder / "ca.crt")), config.ssl, "fleet.invalid")


def test_the_home_is_private_before_anything_lies_in_it(settings: Settings) -> None:
    listening.certificate(settings, SystemClock())
    assert settings.home.stat().st_mode & 0o777 == 0o700
    assert settings.tls_folder.stat().st_mode & 0o777 == 0o700


def test_what_is_in_the_folder_is_served(settings: Settings, said: list[str]) -> None:
    running, config = serving(settings)
    assert meets(settings, config)
    running.renew()
    assert said == []
    certificates.issue(settings.tls_folder, ["fleet.invalid", *settings.names], SystemClock().now())
    running.renew()
    assert said == ["certificate_renewed"]
    (settings.tls_folder / "own-ca.key").unlink()
    certificates.issue(settings.tls_folder, ["fleet.invalid"], SystemClock().now())
    running.renew()
    assert meets(settings, config), "a new authority too"


def test_a_trouble_is_said_once(settings: Settings, said: list[str], tmp_path: Path) -> None:
    running, config = serving(settings)
    paths = [settings.tls_folder / name for name in ("server.crt", "server.key", "ca.crt")]
    given = [tmp_path / path.name for path in paths]
    for path, copy in zip(paths, given, strict=True):
        copy.write_bytes(path.read_bytes())
    certificates.bring(settings.tls_folder, *given, SystemClock().now())
    whole = paths[1].read_bytes()
    paths[1].write_text("rubbish")
    for _ in range(3):
        running.renew()
    assert said == ["certificate_not_renewed"]
    assert meets(settings, config), "what was served goes on"
    paths[1].write_bytes(whole)
    running.renew()
    assert said == ["certificate_not_renewed", "certificate_renewed"]


def test_the_end_of_one_from_elsewhere_is_said_once_a_day(settings: Settings, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    running, _ = serving(settings)
    monkeypatch.setattr(listening, "ends_soon", lambda _served, _now: "It ends.")
    for now in (2e9, 2e9 + 5, 2e9 + 86_399, 2e9 + 86_400):
        monkeypatch.setattr(server.SystemClock, "now", lambda _self, now=now: now)
        monkeypatch.setattr(listening, "certificate", lambda _settings, _clock: running._serves)
        running.renew()
    assert said == ["CERTIFICATE ENDS"] * 2


@pytest.mark.parametrize(("mode", "after"), [(0o755, 0o700), (0o770, 0o700), (0o700, 0o700), (0o1777, 0o1777)])
def test_claim_takes_away_what_others_may_do(tmp_path: Path, mode: int, after: int) -> None:
    tmp_path.chmod(mode)
    with home.claim(tmp_path, "a.lock"):
        assert tmp_path.stat().st_mode & 0o7777 == after
