"""Every setting, from ``FLEET_*`` variables or ``fleet.toml`` in the data folder. Variables win."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import posixpath
import re
import socket
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from fleet_api.access.origin import as_sent, host_name, is_loopback, normal_origins
from fleet_api.kit.allowed import PRIVATE
from fleet_api.storage.buckets import is_fleets

Switch = Annotated[
    Literal["on", "off"], BeforeValidator(lambda value: {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value)
]
Auth = Annotated[
    Literal["on", "off", "always"],
    BeforeValidator(lambda value: {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value),
]
Names = Annotated[list[str], NoDecode]
Ports = Annotated[list[Annotated[int, Field(ge=1, le=65_535)]], NoDecode]


def default_home() -> Path:
    """Return ``FLEET_HOME``, or ``~/.fleet``."""
    return Path(os.environ.get("FLEET_HOME") or "~/.fleet").expanduser()


class Settings(BaseSettings):
    """The control plane's settings."""

    model_config = SettingsConfigDict(env_prefix="FLEET_", extra="ignore")

    home: Path = Field(default_factory=default_home, description="The data folder")
    host: str = Field("127.0.0.1", description="Address to listen on; any but loopback is exposed, and wants keys and TLS")
    port: int = Field(8765, ge=0, le=65535, description="Port of the API; 0 takes a free one")
    auth: Auth = Field("on", description="off: whoever reaches the listener may do everything; always: keys on loopback too")
    tls: Switch = Field("on", description="off: an exposed listener speaks plain HTTP")
    advertise_url: str | None = Field(None, description="What nodes call, such as https://manager.example.invalid:8765")
    allowed_hosts: Names = Field([], description="Further names that callers may use for this control plane; * allows every name")
    allowed_origins: Names = Field([], description="Origins of browser apps that may call the API; * allows every origin")
    allowed_networks: Names = Field(list(PRIVATE), description="Networks that this machine may call: nodes over SSH, scans")
    callback_networks: Names = Field(
        ["0.0.0.0/0", "::/0"], description="Networks that callbacks of jobs may go to; one within loopback or link-local opens that"
    )
    callback_private: Switch = Field("on", description="off: callbacks go to no private network but those named in callback_networks")
    scan_ports: Ports = Field([22, 8080, 2375, 2376, 2377, 5000, 7946, 8765, 9100], min_length=1, description="Ports that a scan looks at")
    docker_host: str = Field("unix:///var/run/docker.sock", description="The Docker Engine of this machine, as unix://<path of its socket>")
    registry: str | None = Field(None, description="Host and port of the image registry; else the one that the playbook 'registry' made")
    registry_credential: str | None = Field(
        None, max_length=100, description="A credential of the vault for it; else what the playbook made"
    )
    s3_endpoint: str | None = Field(
        None, description="Where the S3 store is, such as http://192.0.2.10:9010; else the one that the playbook 'storage' made"
    )
    s3_region: str = Field("us-east-1", pattern=r"^[a-z0-9-]{1,40}$", description="Region of the S3 store")
    s3_credential: str | None = Field(
        None, max_length=100, description="A credential of the vault for it: user name and password are access key and secret"
    )
    s3_public_url: str | None = Field(None, description="What the addresses of public outputs begin with; else s3_endpoint")
    sync_minutes: float = Field(15, gt=0, le=1440, description="Minutes between two syncs of outputs to the S3 store")
    keep_local_hours: float = Field(24, ge=0, description="Outputs older than this go from the local folder once the S3 store has them")
    s3_networks: Names = Field(["0.0.0.0/0", "::/0"], description="Networks that the S3 store may be in")
    build_roots: Names = Field([], description="Folders of this machine that images may be built from, with all that is in them")
    build_context_limit: int = Field(2 * 1024**3, ge=1024, description="Largest build context, in bytes")
    swarm_manager: str = Field(
        "local", pattern=r"^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$", description="Where a swarm is looked for at first: local, or a node's id"
    )
    mount_roots: Names = Field(
        ["/mnt", "/srv", "/data"], description="Folders of nodes that containers and services may mount, with all that is in them"
    )
    vault_key_file: Path | None = Field(None, description="A file of the vault's master keys, one a line; else they are in the data folder")
    create_per_minute: float = Field(600, gt=0, description="How often one key may create (jobs, keys) a minute")
    exec_per_minute: float = Field(300, gt=0, description="How often one key may run a command on nodes a minute")
    exec_burst: int = Field(20, ge=1, description="How often one key may run a command on nodes at once")
    create_burst: int = Field(200, ge=1, description="How often one key may create at once")
    default_model: str = Field("fleet-shapes", description="Model used where a request names none")
    queue_limit: int = Field(100_000, ge=1, description="Jobs that may wait; more are answered 429")
    body_limit: int = Field(1024 * 1024, ge=1024, description="Largest request body in bytes, uploads aside")
    upload_limit: int = Field(64 * 1024 * 1024, ge=1024, description="Largest output an agent may upload, in bytes")
    model_limit: int = Field(40 * 1024**3, ge=1024, description="Largest model or LoRA that may be uploaded, in bytes")
    engine_store_limit: int = Field(100 * 1024**3, ge=0, description="Bytes of TensorRT's engines that the store keeps; 0 keeps none")
    generate_timeout: float = Field(600, gt=0, description="Seconds that a synchronous generate may take")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    keep_jobs_days: float | None = Field(90, gt=0, description="Ended jobs older than this are deleted; their pictures stay")
    keep_jobs: int | None = Field(1_000_000, ge=1, description="Beyond so many ended jobs the oldest are deleted")
    doctor_schedule: str = Field("0 4 * * *", description="When every node is examined: a crontab line in UTC, or off", max_length=100)
    operations_limit: int = Field(4, ge=1, le=64, description="Operations (plays on nodes) that run at once")
    keep_operations_days: float | None = Field(90, gt=0, description="Ended operations older than this are deleted, with their events")
    keep_operations: int | None = Field(10_000, ge=1, description="Beyond so many ended operations the oldest are deleted")
    backup_target: str | None = Field(
        None,
        max_length=500,
        description="Where backups are kept: a folder, or s3://bucket/prefix in the S3 store; else backups in the data folder",
    )
    backup_schedule: str = Field("30 3 * * *", description="When a backup is made: a crontab line in UTC, or off", max_length=100)
    backup_keep: int = Field(14, ge=1, le=10_000, description="How many backups are kept; the oldest go once a newer one is verified")
    backup_outputs: Switch = Field("off", description="on: backups by the clock hold the finished pictures too")
    keep_audit_days: float | None = Field(365, gt=0, description="Audit entries older than this are deleted")
    keep_audit: int | None = Field(2_000_000, ge=1, description="Beyond so many audit entries the oldest are deleted")

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("host")
    @classmethod
    def _address(cls, value: str) -> str:
        if value == "localhost":
            return "127.0.0.1"
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            raise ValueError("must be an IP address of this machine; 0.0.0.0 is all of them") from None

    @field_validator(
        "allowed_hosts", "allowed_origins", "allowed_networks", "callback_networks", "s3_networks", "scan_ports", "mount_roots",
        "build_roots",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _listed(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("docker_host")
    @classmethod
    def _socket(cls, value: str) -> str:
        if not value.startswith("unix:///"):
            raise ValueError("must be unix:// and the absolute path of a socket, such as unix:///var/run/docker.sock")
        return value

    @field_validator("registry")
    @classmethod
    def _registry(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?:[1-9][0-9]{0,4}", value):
            raise ValueError("must be a host and a port, such as 192.0.2.10:5000")
        return value

    @field_validator("mount_roots", "build_roots")
    @classmethod
    def _folders(cls, value: list[str]) -> list[str]:
        if any(not each.startswith("/") or ".." in each.split("/") or posixpath.normpath(each) == "/" for each in value):
            raise ValueError("must be absolute folders such as /mnt, separated by commas, and not the root")
        return [posixpath.normpath(each) for each in value]

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: list[str]) -> list[str]:
        return sorted(normal_origins(value))

    @field_validator("allowed_networks", "callback_networks", "s3_networks")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        try:
            return [str(ipaddress.ip_network(text, strict=False)) for text in value]
        except ValueError:
            raise ValueError("must be networks such as 192.0.2.0/24, separated by commas") from None

    @field_validator("doctor_schedule", "backup_schedule")
    @classmethod
    def _crontab(cls, value: str) -> str:
        from fleet_api.operations.schedule import check_crontab  # 40 ms, and only here

        return check_crontab(value) if value not in ("0 4 * * *", "30 3 * * *") else value

    @field_validator("backup_target")
    @classmethod
    def _target(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"s3://[a-z0-9][a-z0-9-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?|/.+", value):
            raise ValueError("must be an absolute folder such as /srv/backups, or s3://bucket/prefix")
        if value is not None and is_fleets(value):
            raise ValueError("must be a bucket for backups alone; the fleet's own are read by others, or emptied")
        return value

    @field_validator("advertise_url", "s3_endpoint", "s3_public_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("must be an address such as https://manager.example.invalid:8765")
        return value.rstrip("/") if value else None

    @property
    def exposed(self) -> bool:
        """Whether others than this machine can reach the listener."""
        return not is_loopback(self.host)

    @property
    def scheme(self) -> str:
        """``https`` for an exposed listener, unless ``tls`` is off."""
        return "https" if self.exposed and self.tls == "on" else "http"

    @property
    def reachable(self) -> bool:
        """Whether nodes have an address to call."""
        return self.exposed or self.advertise_url is not None

    @property
    def names(self) -> frozenset[str]:
        """Names, beside the address reached, by which callers may call this control plane."""
        own = socket.gethostname().lower()
        allowed = {as_sent(name) for name in self.allowed_hosts}
        found = {own, own.split(".")[0], f"{own.split('.')[0]}.local", *allowed}
        if self.advertise_url:
            found.add(host_name(urlsplit(self.advertise_url).netloc))
        return frozenset(found if self.exposed else allowed)

    @property
    def cookie(self) -> str:
        """Name of the sign-in cookie: of this data folder alone, as cookies do not tell one port of a host from another."""
        return f"fleet_session_{hashlib.sha256(str(self.home).encode()).hexdigest()[:8]}"

    @property
    def tls_folder(self) -> Path:
        """Folder of the certificate authority and the certificate."""
        return self.home / "tls"

    @property
    def vault_folder(self) -> Path:
        """Folder of the vault's master keys."""
        return self.home / "vault"

    @property
    def idempotency_key_file(self) -> Path:
        """File of the key with which hashes of callers' requests are made."""
        return self.home / "idempotency.key"

    @property
    def registry_folder(self) -> Path:
        """Folder of the registry's certificate and sign-in."""
        return self.home / "registry"

    @property
    def storage_folder(self) -> Path:
        """Folder of what the playbook ``storage`` noted of the object store."""
        return self.home / "storage"

    @property
    def models(self) -> Path:
        """Folder of the buckets of models and LoRAs where there is no S3 store."""
        return self.home / "models"

    @property
    def model_uploads(self) -> Path:
        """Folder of models and LoRAs on their way in."""
        return self.home / "uploads"

    @property
    def engine_uploads(self) -> Path:
        """Folder of engines of TensorRT on their way in."""
        return self.home / "engine-uploads"

    @property
    def model_imports(self) -> Path:
        """Folder of checkpoints that are being imported."""
        return self.home / "model-imports"

    @property
    def operation_locks(self) -> Path:
        """Folder of the lock files of operations at work."""
        return self.home / "operations"

    @property
    def logs(self) -> Path:
        """Folder of the logs that ``fleet up`` writes."""
        return self.home / "logs"

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
