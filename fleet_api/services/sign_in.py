"""How engines sign in to the registry of an image that they are told to run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from docker.auth import encode_header

SignIn = Callable[[str], Awaitable[dict[str, str] | None]]
"""Returns the sign-in for an image; None where none is wanted."""


async def headers_for(sign_in: SignIn | None, image: str) -> dict[str, str]:
    """Return the header with which every node of the swarm may fetch an image."""
    auth = await sign_in(image) if sign_in else None
    return {"X-Registry-Auth": encode_header(auth).decode()} if auth else {}
