"""Engines of TensorRT between nodes of one kind: one builds them, the control plane's store keeps them, the others fetch them."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any, Dict, Sequence

import httpx

from gpu_inference.agent import logs
from gpu_inference.agent.client import ApiClient, Unreachable
from gpu_inference.building.plan_folder import CHUNK_BYTES, SUFFIX, PlanFolder, sha256_of
from gpu_inference.protocol import DIGEST_HEADER
from gpu_inference.protocol_engines import EngineOffer

TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class NotGiven(Exception):
    """The store's engine could not be had whole."""


class EngineShare:
    """``plans`` is the node's own folder of engines."""

    def __init__(self, client: ApiClient, plans: PlanFolder) -> None:
        self._client = client
        self._plans = plans

    async def fetch(self, key: str, said: Dict[str, Any], pinned: Sequence[str] = ()) -> bool:
        """Brings an engine into the folder; False where the store has none. What is ``pinned`` makes no room for it.

        Raises :class:`NotGiven`, :class:`OSError`.
        """
        path = self._path(key)
        try:
            async with self._client.stream("engines/" + key, {"Accept-Encoding": "identity"}, TIMEOUT) as response:
                if response.status_code == 404:
                    return False
                if response.status_code != 200:
                    raise NotGiven(f"The control plane answered {response.status_code}.")
                size = int(response.headers.get("Content-Length", "0"))
                part = self._plans.room_for(path, size, [self._path(each) for each in pinned])
                try:
                    digest = await _receive(response, part)
                    if digest != response.headers.get(DIGEST_HEADER, "").lower():
                        raise NotGiven("What came is not the engine: its SHA-256 differs.")
                    self._plans.adopt(path, said, part)
                finally:
                    if part.exists():
                        part.unlink()
        except (httpx.HTTPError, ValueError) as error:
            raise NotGiven(f"The connection broke ({type(error).__name__}).") from error
        return True

    async def give(self, key: str, said: Dict[str, Any]) -> bool:
        """Offers an engine, and sends it where it is wanted. Raises :class:`gpu_inference.agent.client.ApiError`, :class:`OSError`."""
        path = self._path(key)
        loop = asyncio.get_running_loop()
        sha256 = await loop.run_in_executor(None, sha256_of, path)
        reply = await self._client.offer(EngineOffer(key=key, said=said, size=path.stat().st_size, sha256=sha256))
        if not reply.wanted:
            logs.info("An engine is not wanted by the store.", network=said.get("network"), reason=reply.reason)
            return False
        try:
            await self._client.give(key, path, sha256)
        except Unreachable:  # once more, as a control plane that restarts does
            await self._client.give(key, path, sha256)
        return True

    def _path(self, key: str) -> Path:
        return self._plans.folder / (key + SUFFIX)


async def _receive(response: httpx.Response, part: Path) -> str:
    loop, digest = asyncio.get_running_loop(), hashlib.sha256()

    with part.open("wb") as stream:

        def write(chunk: bytes) -> None:
            stream.write(chunk)
            digest.update(chunk)

        async for chunk in response.aiter_bytes(CHUNK_BYTES):
            await loop.run_in_executor(None, write, chunk)
    return digest.hexdigest()
