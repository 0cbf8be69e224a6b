"""The way out over HTTP against real receivers: it goes where it was checked, and nowhere else."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from fleet_api.access import certificates
from fleet_api.adapters.http_out import resolve
from fleet_api.adapters.http_out.client import HttpOutClient
from fleet_api.adapters.http_out.types import Answer, NotReached
from fleet_api.callbacks.addresses import CallbackRules
from fleet_api.kit.clock import SystemClock
from tests.support.receiver import raw_receiver, receiver, unused_port

LOOPBACK = CallbackRules(["127.0.0.0/8", "::1/128"], True, {8765}, lambda: ["127.0.0.1"])


def answering(*answers: list[str]) -> Any:
    """Return a resolver that answers with each of these in turn, and then with the last."""
    left = list(answers)

    async def addresses_of(host: str) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return addresses_of


def client(*answers: list[str], rules: CallbackRules = LOOPBACK, seconds: float = 5.0) -> HttpOutClient:
    return HttpOutClient(rules, answering(*(answers or (["127.0.0.1"],))), seconds=seconds, connect_seconds=1.0)


async def refusal(out: HttpOutClient, url: str) -> str:
    with pytest.raises(NotReached) as refused:
        await out.post(url, {}, b"{}")
    return str(refused.value)


async def test_the_name_is_kept_and_the_checked_address_is_called() -> None:
    with receiver(statuses=[201], headers={"Retry-After": "7", "Set-Cookie": "a=b"}) as there:
        out = client()
        for _ in range(2):
            answer = await out.post(f"http://app.invalid:{there.port}/hook?x=1", {"webhook-id": "msg_1"}, b'{"a":1}')
            assert answer == Answer(201, "7")
        got = there.got[-1]
        assert (got.path, got.body, got.headers["host"]) == ("/hook?x=1", b'{"a":1}', f"app.invalid:{there.port}")
        assert got.headers["webhook-id"] == "msg_1"
        assert "cookie" not in got.headers


async def test_an_answer_that_changes_between_check_and_call_changes_nothing() -> None:
    """DNS rebinding: the second answer would be this machine, but nobody asks twice for one attempt."""
    with receiver() as there:
        url = f"http://app.invalid:{there.port}/"
        out = client(["203.0.113.7"], ["127.0.0.1"], rules=CallbackRules(["0.0.0.0/0"], True, {8765}, list), seconds=0.3)
        out._send = _never  # type: ignore[method-assign]
        assert "did not answer" in await refusal(out, url)
        assert "must not be a loopback address" in await refusal(out, url), "each attempt is checked anew"
        assert there.got == []


async def _never(_url: str, _host: str, address: str, *_: Any) -> Answer:
    assert address == "203.0.113.7"
    raise TimeoutError


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"], ["::1"], ["203.0.113.7", "127.0.0.1"], ["203.0.113.7", "169.254.169.254"], ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"], ["2002:7f00:1::"], ["0.0.0.0"], ["203.0.113.7", "fe80::1%eth0"],
    ],
)  # fmt: skip
async def test_one_bad_address_of_a_name_is_enough(answers: list[str]) -> None:
    with receiver() as there:
        out = client(answers, rules=CallbackRules(["0.0.0.0/0", "::/0"], True, {8765}, list))
        assert "may not be called: it must not be" in await refusal(out, f"http://app.invalid:{there.port}/")
        assert there.got == []


async def test_our_own_listener_is_refused_by_any_name() -> None:
    assert "own address" in await refusal(client(), "http://app.invalid:8765/api/vision/jobs/stop-all")


async def test_where_all_is_closed_no_name_is_looked_up() -> None:
    async def looked_up(host: str) -> list[str]:
        raise AssertionError(host)

    out = HttpOutClient(CallbackRules([], True, {8765}, list), looked_up)
    assert "calls no addresses" in await refusal(out, "http://app.invalid/")


async def test_the_next_address_is_tried_where_nobody_listens_at_the_first() -> None:
    with receiver() as there:
        assert (await client(["127.0.0.9", "127.0.0.1"]).post(f"http://app.invalid:{there.port}/", {}, b"{}")).status == 204
        assert len(there.got) == 1


async def test_redirects_are_not_followed() -> None:
    with receiver() as secret, receiver(statuses=[307], headers={"Location": "http://127.0.0.1:1/"}) as there:
        there.headers["Location"] = secret.url
        assert (await client().post(there.url, {}, b"{}")).status == 307
        assert secret.got == []


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as there, receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await client().post(f"http://app.invalid:{there.port}/", {}, b"{}")).status == 204
        assert proxy.got == []


async def test_nobody_there() -> None:
    port = unused_port()
    assert await refusal(client(), f"http://app.invalid:{port}/") == f"Nobody answers at app.invalid:{port}."


async def test_a_receiver_that_says_nothing_is_left() -> None:
    with receiver(pause=3) as there:
        started = time.monotonic()
        assert "did not answer" in await refusal(client(seconds=0.4), there.url)
        assert time.monotonic() - started < 2


async def test_a_receiver_that_trickles_is_left() -> None:
    def trickle(caller: socket.socket) -> None:
        caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            caller.sendall(b"x")
            time.sleep(0.05)

    with raw_receiver(trickle) as port:
        started = time.monotonic()
        assert "did not answer" in await refusal(client(seconds=0.5), f"http://app.invalid:{port}/")
        assert time.monotonic() - started < 2


async def test_an_endless_answer_is_not_read_to_its_end() -> None:
    sent = 0

    def pour(caller: socket.socket) -> None:
        nonlocal sent
        caller.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            caller.sendall(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
            sent += 65_536

    with raw_receiver(pour) as port:
        assert (await client().post(f"http://app.invalid:{port}/", {}, b"{}")).status == 200
        await asyncio.sleep(0.2)
        assert sent < 20_000_000


async def test_what_is_no_http_is_a_sentence() -> None:
    with raw_receiver(lambda caller: caller.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")) as port:
        assert "does not speak HTTP" in await refusal(client(), f"http://app.invalid:{port}/")
    with raw_receiver(lambda caller: caller.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 500_000 + b"\r\n\r\n")) as port:
        assert "does not speak HTTP" in await refusal(client(), f"http://app.invalid:{port}/")


async def test_certificates_are_checked_against_the_name(tmp_path: Path) -> None:
    made = certificates.sign_for(tmp_path / "tls", ["app.invalid"], SystemClock().now())
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    with receiver(tls=served) as there:
        out = client()
        assert "not trusted" in await refusal(out, f"https://app.invalid:{there.port}/")
        out._trust = ssl.create_default_context(cafile=str(tmp_path / "authority"))
        assert (await out.post(f"https://app.invalid:{there.port}/", {}, b"{}")).status == 204
        assert "not trusted" in await refusal(out, f"https://other.invalid:{there.port}/")
        assert "not trusted" in await refusal(out, f"https://127.0.0.1:{there.port}/")


async def test_names_are_resolved_on_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: Any, **__: Any) -> list[Any]:
        time.sleep(0.5)
        return []

    assert await resolve.addresses_of("127.0.0.1") == ["127.0.0.1"]
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr(resolve, "RESOLVE_SECONDS", 0.1)
    with pytest.raises(OSError, match="in time"):
        await resolve.addresses_of("app.invalid")
    out = HttpOutClient(LOOPBACK)
    assert await refusal(out, "http://app.invalid/") == "No address was found for app.invalid: no name server answered in time."
