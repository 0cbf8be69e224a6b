"""Names to addresses, on threads of their own: a name server that is silent must hold up nobody else's work in threads."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

RESOLVE_SECONDS = 5.0
LINGERING = 64
"""So many look-ups may be on their way; a thread cannot be stopped, and one whose answer nobody waits for any more still counts."""

_room = threading.BoundedSemaphore(LINGERING)


async def addresses_of(host: str) -> list[str]:
    """Return every address of a name, each once. Raises OSError where there is none, or nobody told in time."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[list[str]] = loop.create_future()
    if not _room.acquire(blocking=False):
        raise OSError("too many names are being looked up")

    def tell(found: list[str] | None) -> None:
        if not told.done():
            told.set_result(found or [])

    def look_up() -> None:
        found: list[str] | None = None
        try:
            answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(str(address[0]) for *_, address in answers))
        except (OSError, UnicodeError):
            pass
        finally:
            _room.release()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(tell, found)

    threading.Thread(target=look_up, name="resolve", daemon=True).start()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            addresses = await told
    except TimeoutError:
        raise OSError("no name server answered in time") from None
    if not addresses:
        raise OSError("no address is known")
    return addresses
