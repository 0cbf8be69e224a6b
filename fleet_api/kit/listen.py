"""A listening socket, or the sentence why there is none."""

from __future__ import annotations

import errno
import socket

from fleet_api.errors import PortBusy, Unavailable


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises PortBusy and Unavailable with a sentence."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortBusy(f"Port {port} on {host} is in use; stop what listens there, or set FLEET_PORT to another.") from None
        raise Unavailable(f"Cannot listen on {host}:{port}: {error.strerror}.") from None
    return listener
