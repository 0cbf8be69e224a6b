# Copyright: Fleet Commander contributors. Apache-2.0.
"""A picture asked of the agent's own HTTP, on the node's loopback: made by its engine, in its sandbox, by the model that is loaded."""

from __future__ import annotations

import http.client
import json
import time

DEFAULT = "127.0.0.1:8080"
LOOPBACK = ("127.0.0.1", "localhost", "0.0.0.0")
PNG = b"\x89PNG"
WAIT_SECONDS = 5.0


class NotMade(Exception):
    """The engine made no picture; the text is a sentence."""


def picture(address: str, payload: dict[str, object], seconds: float) -> bytes | None:
    """Return the picture, or None where nobody answers there who can be asked, or the engine has other work all the time.

    Half of the time is waited for other work. Raises NotMade where the engine says why there is none.
    """
    host, _, port = (address or DEFAULT).rpartition(":")
    if host not in LOOPBACK or not port.isdigit():
        return None
    begun = time.monotonic()
    while True:
        left = seconds - (time.monotonic() - begun)
        try:
            status, kind, content = _asked(int(port), json.dumps(payload).encode("utf-8"), max(left, 1.0))
        except TimeoutError:
            raise NotMade(f"it took longer than {seconds:.0f} s.") from None
        except (OSError, http.client.HTTPException):
            return None
        if status == 200 and kind == "image/png" and content.startswith(PNG):
            return content
        detail = _detail(content)
        if status in (422, 502, 504) and detail:
            raise NotMade(detail)
        if status != 503 or not detail or time.monotonic() - begun + WAIT_SECONDS > seconds / 2:
            return None
        time.sleep(WAIT_SECONDS)


def _asked(port: int, body: bytes, seconds: float) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("POST", "/generate", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.headers.get_content_type(), answer.read()
    finally:
        connection.close()


def _detail(content: bytes) -> str:
    """Return the agent's own sentence; empty where it is somebody else who answers."""
    try:
        found = json.loads(content.decode("utf-8"))["detail"]
    except (ValueError, KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""
