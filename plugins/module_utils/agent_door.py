# Copyright: Fleet Commander contributors. Apache-2.0.
"""A picture asked of the agent's own HTTP, on the node's loopback: made by its engine, in its sandbox, by the model that is loaded."""

from __future__ import annotations

import http.client
import json
import time

DEFAULT = "127.0.0.1:8080"
LOOPBACK = ("127.0.0.1", "localhost")
PNG = b"\x89PNG"
WAIT_SECONDS = 5.0


class NotMade(Exception):
    """The engine made no picture; the text is a sentence."""


def picture(address: str, payload: dict[str, object], seconds: float) -> bytes | None:
    """Return the picture, or None where nobody answers there in time who can be asked without a key, or the engine has other work.

    It is by the model that is loaded, which stays so; else by the engine's first. Half of the time is waited for other work. Raises NotMade
    where the engine says why there is none; it says so of a step that takes too long, too.
    """
    host, _, port = (address or DEFAULT).rpartition(":")
    if host not in LOOPBACK or not port.isdigit():
        return None
    begun = time.monotonic()
    while True:
        left = max(seconds - (time.monotonic() - begun), 1.0)
        try:
            loaded = _text(_asked(int(port), "GET", "/models", None, left)[2], "loaded")
            asked = json.dumps({**payload, "model": loaded} if loaded else payload).encode("utf-8")
            status, kind, content = _asked(int(port), "POST", "/generate", asked, left)
        except (OSError, http.client.HTTPException):
            return None
        if status == 200 and kind == "image/png" and content.startswith(PNG):
            return content
        detail = _text(content, "detail")
        if status in (422, 502, 504) and detail:
            raise NotMade(detail)
        if status != 503 or not detail or time.monotonic() - begun + WAIT_SECONDS > seconds / 2:
            return None
        time.sleep(WAIT_SECONDS)


def _asked(port: int, method: str, path: str, body: bytes | None, seconds: float) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.headers.get_content_type(), answer.read()
    finally:
        connection.close()


def _text(content: bytes, name: str) -> str:
    """Return a text of the agent's answer; empty where there is none, or somebody else has answered."""
    try:
        found = json.loads(content.decode("utf-8"))[name]
    except (ValueError, KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""
