"""Kinds of files that are outputs, by the ending of their names."""

from __future__ import annotations

from pathlib import PurePosixPath

TYPES = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif",
    ".mp4": "video/mp4", ".webm": "video/webm",
}  # fmt: skip
CACHED = "max-age=31536000, immutable"
"""An output never changes."""


def media_type(name: str) -> str | None:
    """Return the media type of a file; None for one that is no output."""
    return TYPES.get(PurePosixPath(name).suffix.lower())


def is_picture(name: str) -> bool:
    """Say whether a file has a thumbnail."""
    return (media_type(name) or "").startswith("image/")
