"""The part of the SDK about outputs: where they are, the gallery, and bringing them here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx

from fleet_api.client_nodes import path

LONG_SECONDS = 24 * 3600.0
"""A sync answers when it is done."""


class _Calls(Protocol):
    _http: httpx.Client

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]: ...
    def _reaching(self) -> Any: ...
    def _checked(self, answer: httpx.Response) -> httpx.Response: ...


class OutputCalls:
    """Mixed into :class:`fleet_api.client.FleetClient`. Each call raises what its ``_json`` raises."""

    def output_stats(self: _Calls) -> dict[str, Any]:
        """Return what is in the local folder and in the S3 store."""
        return self._json("GET", "/api/outputs/stats")

    def gallery(self: _Calls, **wanted: Any) -> dict[str, Any]:
        """Return a page of outputs, newest first: ``q``, ``model``, ``lora``, ``node``, ``since``, ``until``, ``starred``, ``deleted``."""
        return self._json("GET", "/api/vision/gallery", params={name: value for name, value in wanted.items() if value is not None})

    def sync_outputs(self: _Calls) -> dict[str, Any]:
        """Send what the S3 store lacks, and wait for it."""
        return self._json("POST", "/api/outputs/sync", timeout=LONG_SECONDS)

    def clean_outputs(self: _Calls, max_age_hours: float, dry_run: bool) -> dict[str, Any]:
        """Delete local files that the S3 store has, and wait for it."""
        asked = {"max_age_hours": max_age_hours, "dry_run": dry_run}
        return self._json("POST", "/api/outputs/cleanup", params=asked, timeout=LONG_SECONDS)

    def move_outputs(self: _Calls) -> dict[str, Any]:
        """Send everything and delete the local files, and wait for it."""
        return self._json("POST", "/api/outputs/move-all-to-s3", timeout=LONG_SECONDS)

    def output_detail(self: _Calls, filename: str) -> dict[str, Any]:
        """Return everything that is known of an output."""
        return self._json("GET", f"/api/vision/gallery/{path(filename)}")

    def star_output(self: _Calls, filename: str, on: bool) -> dict[str, Any]:
        """Give an output a star, or take it."""
        return self._json("PUT" if on else "DELETE", f"/api/vision/gallery/{path(filename)}/star")

    def delete_output(self: _Calls, filename: str, now: bool) -> dict[str, Any]:
        """Put an output into the bin, or delete it for good."""
        return self._json("DELETE", f"/api/vision/outputs/{path(filename)}", params={"now": now})

    def restore_output(self: _Calls, filename: str) -> dict[str, Any]:
        """Take an output out of the bin."""
        return self._json("POST", f"/api/vision/gallery/{path(filename)}/restore")

    def save_output(self: _Calls, filename: str, target: Path) -> int:
        """Write an output to a file, whole or not at all; return its bytes. Raises OSError."""
        with _saving(self, "GET", f"/api/vision/outputs/{path(filename)}", None) as chunks:
            return _write(chunks, target)

    def save_outputs(self: _Calls, filenames: list[str], target: Path) -> int:
        """Write a zip archive of outputs to a file, whole or not at all; return its bytes. Raises OSError."""
        with _saving(self, "POST", "/api/vision/gallery/zip", {"filenames": filenames}) as chunks:
            return _write(chunks, target)


@contextmanager
def _saving(calls: _Calls, method: str, address: str, body: dict[str, Any] | None) -> Iterator[Iterator[bytes]]:
    with calls._reaching(), calls._http.stream(method, address, json=body) as answer:
        if answer.is_error:
            answer.read()
        yield calls._checked(answer).iter_bytes(1024 * 1024)


def _write(chunks: Iterator[bytes], target: Path) -> int:
    partial = target.with_name(f".{target.name}.part")
    size = 0
    try:
        with partial.open("wb") as file:
            for chunk in chunks:
                size += file.write(chunk)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return size
