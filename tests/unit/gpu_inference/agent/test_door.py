"""Who may come in at the agent's own door."""

from __future__ import annotations

import pytest

from gpu_inference.agent.http.door import host_of, is_loopback, may_enter

KEYS = ("", "credential-of-the-agent", "key-of-the-file!")
LOCAL = {"host": "127.0.0.1:8080"}


@pytest.mark.parametrize(
    ("name", "loopback"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True), ("localhost", True), ("a.localhost", True),
        ("192.0.2.1", False), ("0.0.0.0", False), ("localhost.evil.invalid", False), ("", False), ("2130706433", False),
    ],
)  # fmt: skip
def test_loopback(name: str, loopback: bool) -> None:
    assert is_loopback(name) is loopback


def test_the_name_in_a_host_header() -> None:
    assert host_of("LocalHost.:8080") == "localhost"
    assert host_of("[::1]:8080") == "::1"
    assert host_of("http://[::1]:3000") == "::1"
    assert host_of("[::1") == ""
    assert host_of("null") == "null"


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:8080"])
def test_no_key_is_wanted_where_all_is_loopback(host: str) -> None:
    assert may_enter("127.0.0.1", "127.0.0.1", {"host": host}, KEYS)
    assert may_enter("127.0.0.1", "127.0.0.1", {"host": host, "origin": "http://localhost:3000"}, KEYS)


@pytest.mark.parametrize(
    ("listens_on", "caller", "more"),
    [
        ("0.0.0.0", "127.0.0.1", {}),
        ("127.0.0.1", "192.0.2.7", {}),
        ("127.0.0.1", "127.0.0.1", {"host": "rebound.invalid:8080"}),
        ("127.0.0.1", "127.0.0.1", {"host": ""}),
        ("127.0.0.1", "127.0.0.1", {"origin": "https://site.invalid"}),
        ("127.0.0.1", "127.0.0.1", {"origin": "null"}),
        ("127.0.0.1", "127.0.0.1", {"x-forwarded-for": "127.0.0.1"}),
        ("127.0.0.1", "127.0.0.1", {"via": "1.1 proxy"}),
    ],
)
def test_else_a_key_is_wanted(listens_on: str, caller: str, more: dict[str, str]) -> None:
    headers = {**LOCAL, **more}
    assert not may_enter(listens_on, caller, headers, KEYS)
    for key in KEYS[1:]:
        assert may_enter(listens_on, caller, {**headers, "authorization": f"Bearer {key}"}, KEYS)


@pytest.mark.parametrize(
    "shown", ["", "Bearer ", "Bearer wrong", "Basic credential-of-the-agent", "credential-of-the-agent", "Bearer \u00e9"]
)
def test_a_bad_key_is_refused_on_loopback_too(shown: str) -> None:
    assert not may_enter("127.0.0.1", "127.0.0.1", {**LOCAL, "authorization": shown}, KEYS)
    assert not may_enter("127.0.0.1", "127.0.0.1", {**LOCAL, "authorization": shown}, ("", ""))
