"""Every setting, from ``FLEET_*`` variables or ``fleet.toml`` in the data folder. Variables win."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource


def default_home() -> Path:
    """Return ``FLEET_HOME``, or ``~/.fleet``."""
    return Path(os.environ.get("FLEET_HOME") or "~/.fleet").expanduser()


class Settings(BaseSettings):
    """The control plane's settings."""

    model_config = SettingsConfigDict(env_prefix="FLEET_", extra="ignore")

    home: Path = Field(default_factory=default_home, description="The data folder")
    host: str = Field("127.0.0.1", description="Address to listen on; loopback only until keys are set up")
    port: int = Field(8765, ge=0, le=65535, description="Port of the API; 0 takes a free one")
    default_model: str = Field("fleet-shapes", description="Model used where a request names none")
    queue_limit: int = Field(100_000, ge=1, description="Jobs that may wait; more are answered 429")
    body_limit: int = Field(1024 * 1024, ge=1024, description="Largest request body in bytes, uploads aside")
    upload_limit: int = Field(64 * 1024 * 1024, ge=1024, description="Largest output an agent may upload, in bytes")
    generate_timeout: float = Field(600, gt=0, description="Seconds that a synchronous generate may take")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("host")
    @classmethod
    def _loopback(cls, value: str) -> str:
        if value == "localhost":
            return "127.0.0.1"
        try:
            loopback = ipaddress.ip_address(value).is_loopback
        except ValueError:
            raise ValueError("must be an IP address") from None
        if not loopback:
            raise ValueError("must be a loopback address: there are no keys yet, so the API does not listen on a network")
        return value

    @property
    def database(self) -> Path:
        """Path of the SQLite file."""
        return self.home / "fleet.db"

    @property
    def outputs(self) -> Path:
        """Folder of finished pictures."""
        return self.home / "outputs"

    @property
    def agent_home(self) -> Path:
        """State folder of the agent that ``fleet up`` starts."""
        return self.home / "agent"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read in the order: arguments, environment, ``fleet.toml`` in the data folder."""
        given = getattr(init_settings, "init_kwargs", {}).get("home")
        home = Path(given).expanduser() if given else default_home()
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, home / "fleet.toml")
