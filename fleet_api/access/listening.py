"""How the API can be reached, and what to say loudly about it at start."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fleet_api.access import addresses, certificates
from fleet_api.access.certificates import Certificate
from fleet_api.kit import home
from fleet_api.kit.clock import Clock
from fleet_api.settings import Settings

if TYPE_CHECKING:
    import uvicorn

ALL_ADDRESSES = ("0.0.0.0", "::")
DAY, WARN_DAYS = 86_400.0, 30


def certificate(settings: Settings, clock: Clock) -> Certificate | None:
    """Make or renew the certificate where the listener speaks TLS, and return it. Raises Unavailable."""
    if settings.scheme != "https":
        return None
    home.make(settings.home)
    return certificates.ensure(settings.tls_folder, addresses.own_names(settings.names), clock.now())


def secure(config: uvicorn.Config, settings: Settings) -> None:
    """Let a server speak TLS with the certificate of the data folder. Raises Unavailable."""
    if not config.loaded:
        config.load()
    if config.ssl is None:
        config.ssl = certificates.context(settings.tls_folder)
    else:
        certificates.load(config.ssl, settings.tls_folder)


def ends_soon(served: Certificate | None, now: float) -> str:
    """Return a sentence about a certificate from elsewhere that is near its end; nobody renews it but who brought it."""
    if served is None or not served.brought or served.not_after - now > WARN_DAYS * DAY:
        return ""
    when = f"{datetime.fromtimestamp(served.not_after, UTC):%Y-%m-%d %H:%M} UTC"
    ends = f"ends at {when}" if served.not_after > now else f"ended at {when}, and clients refuse it"
    return f"The certificate brought from elsewhere {ends}; bring a new one with 'fleet tls use'."


def public_url(settings: Settings, port: int) -> str:
    """Return the address by which others reach the API."""
    if settings.advertise_url:
        return settings.advertise_url
    return _url(settings, addresses.main_address() if settings.host in ALL_ADDRESSES else settings.host, port)


def local_url(settings: Settings, port: int, served: Certificate | None) -> str:
    """Return the address by which programs on this machine reach the API; one that a certificate from elsewhere names, if there is one."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    if served is not None and served.brought and host not in served.names:
        advertised = urlsplit(settings.advertise_url or "").hostname
        host = advertised or next((name for name in served.names if "*" not in name), host)
    return _url(settings, host, port)


def loud(settings: Settings) -> list[str]:
    """Return the sentences about doors that were opened by name."""
    found = []
    if settings.auth == "off":
        found.append("auth is off: whoever can reach this address may do everything, without a key.")
    if settings.exposed and settings.tls == "off":
        found.append("tls is off: keys and pictures cross the network in the clear.")
    if "*" in settings.allowed_hosts:
        found.append("allowed_hosts has *: a page of any site can reach this by a name that points here.")
    if "*" in settings.allowed_origins:
        found.append("allowed_origins has *: a page of any site may call the API from its visitors' browsers.")
    return found


def _url(settings: Settings, host: str, port: int) -> str:
    return f"{settings.scheme}://{'[' + host + ']' if ':' in host else host}:{port}"
