"""How values are written on the page. ``static/format.js`` writes them the same way; a browser test compares the two."""

from __future__ import annotations

EXCERPT = 200
"""Characters of a prompt in a list; the whole is a click away."""

NO_VALUE = "–"


def excerpt(text: str) -> str:
    """Return one line of at most :data:`EXCERPT` characters."""
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1].rstrip() + "…"


def percentage(value: float | None) -> str:
    """Return ``12%``."""
    return NO_VALUE if value is None else f"{int(value + 0.5)}%"


def celsius(value: float | None) -> str:
    """Return ``45 °C``."""
    return NO_VALUE if value is None else f"{int(value + 0.5)} °C"


def size(width: object, height: object) -> str:
    """Return ``1024 × 768``."""
    return f"{width} × {height}"


def counted(number: int, one: str, many: str) -> str:
    """Return ``1 picture`` or ``12,345 pictures``."""
    return f"{number:,} {one if number == 1 else many}"


def soon(seconds: float | None) -> str:
    """Return the predicted wait as ``starts in about 12 s``; an empty text where it is not known."""
    if seconds is None:
        return ""
    if seconds < 1:
        return "starts next"
    if seconds < 100:
        return f"starts in about {int(seconds + 0.5)} s"
    if seconds < 5_700:
        return f"starts in about {int(seconds / 60 + 0.5)} min"
    return f"starts in about {int(seconds / 3600 + 0.5)} h"


def moment(rfc3339: str | None) -> str:
    """Return ``2026-01-01 12:00 UTC``; the browser turns it into how long ago that was."""
    return f"{rfc3339[:10]} {rfc3339[11:16]} UTC" if rfc3339 else "never"
