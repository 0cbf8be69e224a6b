from __future__ import annotations

from pathlib import Path

import pytest

from gpu_inference.agent.settings import BUILTIN_MODELS, SettingsError, load_settings


def test_the_defaults() -> None:
    settings = load_settings({})
    assert settings.url == "http://127.0.0.1:8765"
    assert settings.models == (BUILTIN_MODELS,)
    assert settings.state_dir == Path.home() / ".fleet" / "agent"
    assert (settings.step_timeout, settings.cancel_timeout, settings.threads) == (60, 5, 0)


def test_every_setting_is_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(" secret \n")
    settings = load_settings(
        {
            "FLEET_AGENT_URL": "https://manager:8765/",
            "FLEET_AGENT_STATE_DIR": str(tmp_path / "state"),
            "FLEET_AGENT_TOKEN_FILE": str(tmp_path / "token"),
            "FLEET_AGENT_CA_FILE": str(tmp_path / "ca.pem"),
            "FLEET_AGENT_MODELS": f"{tmp_path / 'a'}:{tmp_path / 'b'}",
            "FLEET_AGENT_THREADS": "3",
            "FLEET_AGENT_LOG": "DEBUG",
            "FLEET_AGENT_STEP_TIMEOUT": "1.5",
        }
    )
    assert settings.url == "https://manager:8765"
    assert settings.read_token() == "secret"
    assert settings.models == (tmp_path / "a", tmp_path / "b")
    assert (settings.threads, settings.log, settings.step_timeout) == (3, "debug", 1.5)
    assert settings.ca_file == tmp_path / "ca.pem"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("URL", "ftp://x", "URL must be"),
        ("URL", "http://user:password@x", "without user, password"),
        ("THREADS", "many", "THREADS must be a number from 0 to 1024, and 'many' was given"),
        ("THREADS", "nan", "THREADS must be"),
        ("STEP_TIMEOUT", "0", "STEP_TIMEOUT must be"),
        ("HTTP", "localhost:8080", "HTTP must be an IP address and a port, such as 127.0.0.1:8080"),
        ("HTTP", "127.0.0.1", "HTTP must be an IP address and a port"),
        ("HTTP_KEY_FILE", "/nowhere/key", "HTTP_KEY_FILE /nowhere/key cannot be read"),
        ("DRAIN_SECONDS", "-1", "DRAIN_SECONDS must be a number from 0 to 3600"),
        ("LOG", "loud", "LOG must be one of debug, info, warning, error"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as caught:
        load_settings({"FLEET_AGENT_" + name: value})
    assert "password@" not in str(caught.value)


def test_the_agents_own_http(tmp_path: Path) -> None:
    file = tmp_path / "key"
    assert load_settings({}).http == ("127.0.0.1", 8080)
    assert load_settings({"FLEET_AGENT_HTTP": "OFF"}).http is None
    assert load_settings({"FLEET_AGENT_HTTP": "[::]:80"}).http == ("::", 80)
    file.write_text("0123456789abcdef\n")
    settings = load_settings({"FLEET_AGENT_HTTP_KEY_FILE": str(file)})
    assert settings.http_key == "0123456789abcdef"
    assert settings.http_key not in repr(settings)
    for bad in ("short", "with a space in it", "\u00e9" * 20, ""):
        file.write_text(bad)
        with pytest.raises(SettingsError, match="must hold one key of 16 to 200"):
            load_settings({"FLEET_AGENT_HTTP_KEY_FILE": str(file)})


def test_a_token_file_that_is_not_there_is_no_token(tmp_path: Path) -> None:
    assert load_settings({"FLEET_AGENT_TOKEN_FILE": str(tmp_path / "none")}).read_token() == ""
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings({"FLEET_AGENT_TOKEN_FILE": str(tmp_path)}).read_token()
