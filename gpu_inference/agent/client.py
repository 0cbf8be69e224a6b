"""Calls to the control plane. What goes wrong has a class; the message is one sentence without credentials."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from pathlib import Path
from typing import Any, AsyncContextManager, AsyncIterator, Awaitable, Callable, Dict, Optional, Type, TypeVar, Union

import httpx
from pydantic import BaseModel

from gpu_inference.agent import logs
from gpu_inference.message import Message
from gpu_inference.protocol import (
    DIGEST_HEADER,
    Beat,
    BeatReply,
    Complete,
    EnrolReply,
    EnrolRequest,
    Fail,
    Held,
    LeaseReply,
    LeaseRequest,
    SourceReply,
    SourceRequest,
)
from gpu_inference.protocol_engines import EngineOffer, OfferReply

ROOT = "/api/agents/"
CONNECT_SECONDS = 5.0
REPLY_SECONDS = 15.0
BEAT_REPLY_SECONDS = 5.0
"""Well below the time after which a lease lapses, so that a beat that hangs is not the last."""

UPLOAD_SECONDS = 120.0
PREVIEW_SECONDS = 3.0
GIVE_SECONDS = 600.0
"""For the store to keep an engine of gigabytes, once it has come."""

_CHUNK_BYTES = 1024 * 1024
_MAX_REASON = 300

Reply = TypeVar("Reply", bound=BaseModel)
Result = TypeVar("Result")
Content = Union[bytes, AsyncIterator[bytes]]


class ApiError(Exception):
    """Base of what a call may raise."""


class Unreachable(ApiError):
    """No answer, or one that says to come again: worth another try. ``after`` is the least wait in seconds."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class Gone(ApiError):
    """410: the attempt is closed, or no longer this agent's."""


class Rejected(ApiError):
    """401: the credential or token is not accepted."""


class Refused(ApiError):
    """Another answer of 4xx, or one that is not understood: the same call would end the same way."""


class Backoff:
    """Waits that double up to ``most`` seconds, each drawn from its upper half, so that a fleet does not call in step."""

    def __init__(self, first: float = 0.25, most: float = 10.0) -> None:
        self._first, self._most, self._tries = first, most, 0

    def reset(self) -> None:
        """Begins anew, after a success."""
        self._tries = 0

    def next(self, at_least: float = 0.0) -> float:
        """Seconds to wait before the next try."""
        wait = min(self._most, self._first * 2.0 ** min(self._tries, 30))
        self._tries += 1
        return max(wait * random.uniform(0.5, 1.0), at_least)


def _reason(response: httpx.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        body = None
    said = body.get("detail") or body.get("error") or body.get("message") if isinstance(body, dict) else None
    return f"The control plane answered {response.status_code}{': ' + said[:_MAX_REASON] if isinstance(said, str) else '.'}"


def _retry_after(response: httpx.Response) -> float:
    try:
        return min(max(float(response.headers.get("Retry-After", "0")), 0.0), 30.0)
    except ValueError:
        return 0.0


class ApiClient:
    """The agent's end of :mod:`gpu_inference.protocol`. ``credential`` is set once it is known."""

    def __init__(self, url: str, ca_file: Optional[Path] = None) -> None:
        self._url = url
        self._http = _http(url, ca_file)
        self.credential = ""

    async def trust(self, ca_file: Path) -> None:
        """Trusts the authority in a PEM file from now on, and no other."""
        await self._http.aclose()
        self._http = _http(self._url, ca_file)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def enrol(self, request: EnrolRequest) -> EnrolReply:
        """Turns a token into a credential."""
        return await self._post("enrol", request, EnrolReply)

    async def lease(self, request: LeaseRequest) -> LeaseReply:
        """Asks for a job, for up to ``wait_seconds``."""
        return await self._post("lease", request, LeaseReply, request.wait_seconds + REPLY_SECONDS)

    async def beat(self, beat: Beat) -> BeatReply:
        """Gives a sign of life."""
        return await self._post("beat", beat, BeatReply, BEAT_REPLY_SECONDS)

    async def upload(self, held: Held, content: bytes, sha256: str) -> None:
        """Sends an attempt's output."""
        headers = {DIGEST_HEADER: sha256, "Content-Type": "application/octet-stream"}
        await self._call("PUT", f"uploads/{held.job_id}/{held.attempt}", content, headers, UPLOAD_SECONDS)

    async def preview(self, held: Held, step: int, jpeg: bytes) -> None:
        """Shows how far an attempt's picture is."""
        headers = {"Content-Type": "image/jpeg"}
        await self._call("PUT", f"previews/{held.job_id}/{held.attempt}?step={step}", jpeg, headers, PREVIEW_SECONDS)

    async def complete(self, message: Complete) -> None:
        """Ends an attempt whose output is uploaded."""
        await self._post("complete", message, Message)

    async def fail(self, message: Fail) -> None:
        """Ends an attempt that gave nothing."""
        await self._post("fail", message, Message)

    async def source(self, request: SourceRequest) -> SourceReply:
        """Asks where to fetch a file of a stored model from."""
        return await self._post("models/source", request, SourceReply)

    async def offer(self, message: EngineOffer) -> OfferReply:
        """Tells of an engine that was built."""
        return await self._post("engines", message, OfferReply)

    async def give(self, key: str, path: Path, sha256: str) -> None:
        """Sends an engine's bytes."""
        headers = {DIGEST_HEADER: sha256, "Content-Type": "application/octet-stream"}
        await self._call("PUT", f"engines/{key}", _chunks(path), headers, GIVE_SECONDS)

    def stream(self, path: str, headers: Dict[str, str], timeout: httpx.Timeout) -> AsyncContextManager[httpx.Response]:
        """Reads bytes of the control plane as they come; what answer it is, the caller looks."""
        return self._http.stream("GET", path, headers=dict(headers, Authorization="Bearer " + self.credential), timeout=timeout)

    async def _post(self, path: str, message: BaseModel, reply: Type[Reply], timeout: float = REPLY_SECONDS) -> Reply:
        body = message.model_dump_json().encode("utf-8")
        response = await self._call("POST", path, body, {"Content-Type": "application/json"}, timeout)
        try:
            return reply.model_validate(json.loads(response.content or b"{}"))
        except ValueError as error:
            raise Refused(f"The control plane's answer to {path} was not understood.") from error

    async def _call(self, method: str, path: str, content: Content, headers: Dict[str, str], timeout: float) -> httpx.Response:
        if self.credential:
            headers = dict(headers, Authorization="Bearer " + self.credential)
        try:
            response = await self._http.request(
                method, path, content=content, headers=headers, timeout=httpx.Timeout(timeout, connect=CONNECT_SECONDS)
            )
        except httpx.TransportError as error:
            raise Unreachable(f"The control plane does not answer ({type(error).__name__}).") from error
        status = response.status_code
        if 200 <= status < 300:
            return response
        if status == 410:
            raise Gone(_reason(response))
        if status == 401:
            raise Rejected(_reason(response))
        if status == 403:  # of an attempt: it is another's; of all else: the control plane's doors are set wrongly, and may be mended
            raise (
                Gone(_reason(response))
                if path in ("complete", "fail") or path.startswith(("uploads/", "previews/"))
                else Unreachable(_reason(response))
            )
        if status in (408, 425, 429) or status >= 500:
            raise Unreachable(_reason(response), _retry_after(response))
        raise Refused(_reason(response))


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    with path.open("rb") as stream:
        while True:
            chunk = await loop.run_in_executor(None, stream.read, _CHUNK_BYTES)
            if not chunk:
                return
            yield chunk


def _http(url: str, ca_file: Optional[Path]) -> httpx.AsyncClient:
    """The environment's proxies are not used: a control plane is on the node's own network."""
    verify: Any = ssl.create_default_context(cafile=str(ca_file)) if ca_file else url.startswith("https://")
    return httpx.AsyncClient(base_url=url + ROOT, verify=verify, trust_env=False, follow_redirects=False)


async def persist(call: Callable[[], Awaitable[Result]], what: str, abandoned: Callable[[], bool] = lambda: False) -> Optional[Result]:
    """Repeats ``call`` with back-off while the control plane is unreachable; None once ``abandoned`` says so."""
    backoff = Backoff()
    told = False
    while not abandoned():
        try:
            result = await call()
        except Unreachable as error:
            if not told:
                logs.warning("Waiting for the control plane.", what=what, reason=str(error))
                told = True
            await asyncio.sleep(backoff.next(error.after))
        else:
            return result
    return None
