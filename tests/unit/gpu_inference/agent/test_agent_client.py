from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gpu_inference.agent.client import ApiClient, Backoff, Gone, Refused, Rejected, Unreachable, persist
from gpu_inference.protocol import Beat, Held

BEAT = Beat(incarnation="i")


class Answers:
    """Answers from a list; keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.next: list[Any] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.next.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
async def client(answers: Answers) -> AsyncIterator[ApiClient]:
    client = ApiClient("http://127.0.0.1:1/")
    await client._http.aclose()
    client._http = httpx.AsyncClient(base_url="http://127.0.0.1:1/api/agents/", transport=httpx.MockTransport(answers))
    client.credential = "secret"
    yield client
    await client.close()


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (httpx.Response(410, json={"detail": "Closed."}), Gone, "answered 410: Closed."),
        (httpx.Response(401), Rejected, "answered 401."),
        (httpx.Response(403, text="<html>"), Unreachable, "answered 403."),
        (httpx.Response(422, json={"detail": [{"msg": "x"}]}), Refused, "answered 422."),
        (httpx.Response(404, json={"error": "y" * 1000}), Refused, "y" * 300),
        (httpx.Response(302, headers={"Location": "http://192.0.2.1/"}), Refused, "answered 302."),
        (httpx.Response(500), Unreachable, "answered 500."),
        (httpx.Response(429, headers={"Retry-After": "7"}), Unreachable, "answered 429."),
        (httpx.Response(200, text="no json"), Refused, "answer to beat was not understood"),
        (httpx.Response(200, json={"stop": 5}), Refused, "not understood"),
        (httpx.ConnectError("refused"), Unreachable, "does not answer (ConnectError)"),
        (httpx.ReadTimeout("slow"), Unreachable, "does not answer (ReadTimeout)"),
    ],
)
async def test_each_answer_has_its_class(client: ApiClient, answers: Answers, answer: Any, kind: type[Exception], words: str) -> None:
    answers.next = [answer]
    with pytest.raises(kind) as caught:
        await client.beat(BEAT)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 400
    if isinstance(caught.value, Unreachable) and "429" in words:
        assert caught.value.after == 7
    assert len(answers.requests) == 1


async def test_an_upload_is_the_bytes_and_their_digest(client: ApiClient, answers: Answers) -> None:
    answers.next = [httpx.Response(200)]
    await client.upload(Held(job_id="j", attempt=3), b"bytes", "d" * 64)
    request = answers.requests[0]
    assert (request.method, request.url.path, request.content) == ("PUT", "/api/agents/uploads/j/3", b"bytes")
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.headers["X-Content-SHA256"] == "d" * 64


async def test_calls_are_repeated_until_they_are_answered(answers: Answers, client: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    answers.next = [httpx.ConnectError("x"), httpx.Response(503, headers={"Retry-After": "4"}), httpx.Response(200, json={})]
    reply = await persist(lambda: client.beat(BEAT), "beat")
    assert reply is not None
    assert len(slept) == 2
    assert slept[1] >= 4
    assert await persist(lambda: client.beat(BEAT), "beat", lambda: True) is None


def test_waits_double_within_bounds_and_differ() -> None:
    backoff = Backoff(0.25, 10.0)
    waits = [backoff.next() for _ in range(12)]
    for index, wait in enumerate(waits):
        most = min(10.0, 0.25 * 2**index)
        assert most / 2 <= wait <= most
    assert len(set(waits)) == 12
    backoff.reset()
    assert backoff.next() <= 0.25
    assert backoff.next(at_least=3) >= 3


async def test_the_environments_proxies_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:3128")
    monkeypatch.setenv("ALL_PROXY", "http://192.0.2.1:3128")
    reached = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        reached.set()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        direct = ApiClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await direct.beat(BEAT)
        await direct.close()
    assert reached.is_set()
