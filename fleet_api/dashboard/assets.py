"""The page's modules and styles, read and compressed once; what is not in memory is not served."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "static"
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
WORTH_IT = 200
"""Smaller files are not compressed."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    content_type: str
    body: bytes
    packed: bytes | None
    etag: str


@dataclass(frozen=True, slots=True)
class Assets:
    """Every file by name. ``version`` is made of all contents, so that an address never changes its meaning."""

    version: str
    files: dict[str, Asset]

    @property
    def root(self) -> str:
        """The address that all files are under."""
        return f"/dashboard/{self.version}"

    def modules(self) -> list[str]:
        """Return the names of the ES modules, for the browser to fetch at once."""
        return [name for name in self.files if name.endswith(".js") and name != "theme.js"]


def read(folder: Path) -> Assets:
    """Read a folder's files."""
    files = {path.name: _asset(path) for path in sorted(folder.iterdir()) if path.suffix in TYPES}
    whole = hashlib.sha256(b"".join(name.encode() + asset.etag.encode() for name, asset in files.items()))
    return Assets(whole.hexdigest()[:12], files)


@cache
def assets() -> Assets:
    """Return the files that come with the package."""
    return read(FOLDER)


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    packed = gzip.compress(body, 9, mtime=0) if len(body) > WORTH_IT else None
    return Asset(TYPES[path.suffix], body, packed, f'"{hashlib.sha256(body).hexdigest()[:24]}"')
