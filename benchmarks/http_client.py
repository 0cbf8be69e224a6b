"""A small keep-alive HTTP client, so that a benchmark measures the server and not its own client."""

from __future__ import annotations

import asyncio
import json
from typing import Any


class Connection:
    """One connection; requests go one after the other."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    def close(self) -> None:
        self._writer.close()

    @staticmethod
    def prepare(method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> bytes:
        """Return a request's bytes, to be sent many times."""
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + data

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Return status and body. Answers must carry a Content-Length."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        return status, await self._reader.readexactly(length) if length else b""


async def rate(host: str, port: int, request: bytes, count: int, connections: int, expected: int) -> float:
    """Send ``count`` requests over so many connections and return requests a second. Raises where a status is not as expected."""
    loop = asyncio.get_running_loop()
    pool = [await Connection(host, port).open() for _ in range(connections)]
    left = count

    async def work(connection: Connection) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            status, body = await connection.send(request)
            if status != expected:
                raise RuntimeError(f"expected {expected}, got {status}: {body[:200]!r}")

    started = loop.time()
    await asyncio.gather(*(work(connection) for connection in pool))
    seconds = loop.time() - started
    for connection in pool:
        connection.close()
    return count / seconds
