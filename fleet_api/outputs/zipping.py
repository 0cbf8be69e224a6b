"""A zip archive as it is written: stored, not compressed (pictures are), and never whole in memory."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from fleet_api.outputs.models import Output

CHUNK_BYTES = 1024 * 1024
_OLDEST = 315_532_800.0  # 1980, where the time of zip begins


class _Sink:
    """A file that cannot be sought; what is written to it is taken from it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Keep bytes until they are taken."""
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing."""

    def take(self) -> bytes:
        """Return what was written since."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data


async def archive(outputs: list[Output], path: Callable[[Output], Awaitable[Path]]) -> AsyncIterator[bytes]:
    """Yield the bytes of an archive of these outputs, each under its key. Raises what ``path`` raises, which ends the download."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as packed:  # type: ignore[call-overload]
        for output in outputs:
            made = datetime.fromtimestamp(max(output.created_at, _OLDEST), UTC)
            entry = zipfile.ZipInfo(output.key, made.timetuple()[:6])
            entry.external_attr = 0o644 << 16
            with (await path(output)).open("rb") as source, packed.open(entry, "w") as target:
                while chunk := await asyncio.to_thread(source.read, CHUNK_BYTES):
                    target.write(chunk)
                    yield sink.take()
            yield sink.take()
    yield sink.take()
