"""The agent's settings, from the environment: ``FLEET_AGENT_<NAME>``."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Optional, Tuple
from urllib.parse import urlsplit

import gpu_inference

PREFIX = "FLEET_AGENT_"
PACKAGE = Path(gpu_inference.__file__).resolve().parent
BUILTIN_MODELS = PACKAGE / "builtin"
BUILTIN = "builtin"
"""In ``FLEET_AGENT_MODELS``: the models that come with this package, wherever it is installed."""

LOG_LEVELS = ("debug", "info", "warning", "error")
OFF = "off"
LEAST_KEY, MOST_KEY = 16, 200
REAL, SIMULATED = "real", "sim"
ENGINES = (REAL, SIMULATED)
PLANS_SETTING, PICTURES_SETTING = "FLEET_ENGINE_PLANS", "FLEET_ENGINE_PICTURES"
MOST_AT_ONCE = 8
BACKENDS = ("auto", "onnx", "torch", "tensorrt")


class SettingsError(Exception):
    """A setting has a value that cannot be used; the message is one sentence naming it."""


@dataclass(frozen=True)
class Settings:
    """See the README for what each does. Times in seconds, limits of cache and plans in bytes, of memory in MiB.

    ``threads`` 0 is one a core, ``batch`` 0 as many pictures at once as the backend says.
    ``sim_table`` and ``sim_factor`` (how many times slower than the table this node is) are of the simulated engine alone.
    """

    url: str = "http://127.0.0.1:8765"
    state_dir: Path = Path("~/.fleet/agent")
    token: str = ""
    token_file: Optional[Path] = None
    ca_file: Optional[Path] = None
    models: Tuple[Path, ...] = (BUILTIN_MODELS,)
    threads: int = 0
    log: str = "info"
    engine: str = REAL
    backend: str = "auto"
    cache: Optional[Path] = None
    cache_limit: int = 50 * 2**30
    plans_limit: int = 50 * 2**30
    engine_pictures: int = 1
    share: Optional[Tuple[str, int]] = None
    http: Optional[Tuple[str, int]] = ("127.0.0.1", 8080)
    http_key: str = field(default="", repr=False)
    http_wait: float = 60.0
    sim_table: Optional[Path] = None
    sim_factor: float = 1.0
    start_timeout: float = 60.0
    load_timeout: float = 300.0
    step_timeout: float = 60.0
    cancel_timeout: float = 5.0
    drain_seconds: float = 15.0
    spare_models: int = 1
    batch: int = 0
    memory_limit: Optional[float] = None

    @property
    def cache_dir(self) -> Path:
        """Folder of the stored models that were fetched."""
        return self.cache or self.state_dir / "cache"

    @property
    def plans_dir(self) -> Path:
        """Folder of the engines of TensorRT that were built on this node."""
        return self.state_dir / "plans"

    def read_token(self) -> str:
        """The enrolment token, or an empty text. Raises :class:`SettingsError` where its file cannot be read."""
        if self.token or self.token_file is None:
            return self.token
        try:
            return self.token_file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            raise SettingsError(f"The token file {self.token_file} cannot be read ({error}).") from error


def _path(text: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(text)))


def _number(name: str, text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise SettingsError(f"{PREFIX}{name} must be a number from {low:g} to {high:g}, and '{text:.60}' was given.")
    return value


def _address(name: str, text: str, such_as: str) -> Optional[Tuple[str, int]]:
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        if not colon or not 0 <= int(port) <= 65_535:
            raise ValueError
    except ValueError:
        raise SettingsError(f"{PREFIX}{name} must be an IP address and a port, such as {such_as}, and '{text:.60}' was given.") from None
    return str(address), int(port)


def _key(path: str) -> str:
    """The key in a file. Raises :class:`SettingsError` where there is none that could be one."""
    if not path:
        return ""
    try:
        key = _path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(f"{PREFIX}HTTP_KEY_FILE {path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    if not (LEAST_KEY <= len(key) <= MOST_KEY and key.isascii() and key.isprintable()) or " " in key:
        raise SettingsError(f"{PREFIX}HTTP_KEY_FILE {path} must hold one key of {LEAST_KEY} to {MOST_KEY} letters, digits and signs.")
    return key


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise SettingsError(f"{PREFIX}URL must be http(s)://host[:port] without user, password or query.")
    return text.rstrip("/")


def load_settings(environment: Mapping[str, str]) -> Settings:
    """Settings from ``environment``; what it lacks has its default. Raises :class:`SettingsError`."""

    def get(name: str, default: str) -> str:
        return environment.get(PREFIX + name) or default

    log = get("LOG", Settings.log).lower()
    if log not in LOG_LEVELS:
        raise SettingsError("{}LOG must be one of {}, and '{:.60}' was given.".format(PREFIX, ", ".join(LOG_LEVELS), log))
    engine, sim_table = get("ENGINE", REAL).lower(), get("SIM_TABLE", "")
    if engine not in ENGINES:
        raise SettingsError("{}ENGINE must be one of {}, and '{:.60}' was given.".format(PREFIX, ", ".join(ENGINES), engine))
    if engine == SIMULATED and not sim_table:
        raise SettingsError(f"{PREFIX}ENGINE is {SIMULATED}, so {PREFIX}SIM_TABLE must name the file of its cost table.")
    backend = get("BACKEND", Settings.backend).lower()
    if backend not in BACKENDS:
        raise SettingsError("{}BACKEND must be one of {}, and '{:.60}' was given.".format(PREFIX, ", ".join(BACKENDS), backend))
    limit = get("MEMORY_LIMIT_GIB", "")
    cache, http = get("CACHE", ""), get("HTTP", "127.0.0.1:8080").strip().lower()
    token_file, ca_file = get("TOKEN_FILE", ""), get("CA_FILE", "")
    models = tuple(BUILTIN_MODELS if text == BUILTIN else _path(text) for text in get("MODELS", "").split(os.pathsep) if text)
    return Settings(
        url=_url(get("URL", Settings.url)),
        state_dir=_path(get("STATE_DIR", str(Settings.state_dir))),
        token=get("TOKEN", "").strip(),
        token_file=_path(token_file) if token_file else None,
        ca_file=_path(ca_file) if ca_file else None,
        models=models or Settings.models,
        cache=_path(cache) if cache else None,
        cache_limit=int(_number("CACHE_LIMIT_GIB", get("CACHE_LIMIT_GIB", "50"), 0, 1_000_000) * 2**30),
        plans_limit=int(_number("PLANS_LIMIT_GIB", get("PLANS_LIMIT_GIB", "50"), 0, 1_000_000) * 2**30),
        engine_pictures=int(_number("ENGINE_PICTURES", get("ENGINE_PICTURES", "1"), 1, 8)),
        share=_address("SHARE", get("SHARE", "").strip(), "0.0.0.0:8081"),
        http=None if http == OFF else _address("HTTP", http, "127.0.0.1:8080"),
        http_key=_key(get("HTTP_KEY_FILE", "")),
        http_wait=_number("HTTP_WAIT", get("HTTP_WAIT", "60"), 0, 600),
        threads=int(_number("THREADS", get("THREADS", "0"), 0, 1024)),
        log=log,
        engine=engine,
        backend=backend,
        sim_table=_path(sim_table) if sim_table else None,
        sim_factor=_number("SIM_FACTOR", get("SIM_FACTOR", "1"), 0.001, 1000),
        start_timeout=_number("START_TIMEOUT", get("START_TIMEOUT", "60"), 1, 3600),
        load_timeout=_number("LOAD_TIMEOUT", get("LOAD_TIMEOUT", "300"), 1, 36000),
        step_timeout=_number("STEP_TIMEOUT", get("STEP_TIMEOUT", "60"), 0.1, 3600),
        cancel_timeout=_number("CANCEL_TIMEOUT", get("CANCEL_TIMEOUT", "5"), 0.1, 600),
        memory_limit=_number("MEMORY_LIMIT_GIB", limit, 0.05, 100_000) * 1024.0 if limit else None,
        spare_models=int(_number("SPARE_MODELS", get("SPARE_MODELS", "1"), 0, 100)),
        batch=int(_number("BATCH", get("BATCH", "0"), 0, MOST_AT_ONCE)),
        drain_seconds=_number("DRAIN_SECONDS", get("DRAIN_SECONDS", "15"), 0, 3600),
    )
