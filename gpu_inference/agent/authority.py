"""Whom the agent trusts: the certificate authority whose hash its enrolment token carries.

A token reads ``<secret>.<node id>.<SHA-256 of the authority>``. The authority is fetched once, over a connection that is not
trusted and that no secret goes over; only one with the right hash is kept, and trusted alone from then on.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
from typing import Optional

import httpx

from gpu_inference.agent import logs
from gpu_inference.agent.client import CONNECT_SECONDS, ROOT, ApiClient, Unreachable, persist
from gpu_inference.agent.files import write_private
from gpu_inference.agent.settings import Settings, SettingsError

FILE = "ca.pem"
_HEX_SHA256 = 64


async def trust(client: ApiClient, settings: Settings) -> None:
    """Makes the client trust the fleet's own authority, where a token names one or one was kept.

    Waits while the control plane is unreachable. Raises :class:`SettingsError` where the authority there is another one.
    """
    if not settings.url.startswith("https://") or settings.ca_file is not None:
        return
    kept, wanted = settings.state_dir / FILE, wanted_hash(settings.read_token())
    if wanted and (not kept.exists() or not _matches(kept.read_text(encoding="ascii"), wanted)):
        pem = await persist(lambda: _fetch(settings.url), "the certificate authority")
        if pem is None or not _matches(pem, wanted):
            raise SettingsError(
                "The control plane's certificate authority is not the one that the enrolment token names; make a new token."
            )
        write_private(kept, pem.encode("ascii"))
        logs.info("The control plane's certificate authority is known.", sha256=wanted)
    if kept.exists():
        await client.trust(kept)


def wanted_hash(token: str) -> str:
    """The authority's hash in a token, or an empty text."""
    last = token.rsplit(".", 1)[-1] if token.count(".") == 2 else ""
    return last if len(last) == _HEX_SHA256 else ""


async def _fetch(url: str) -> str:
    try:
        async with httpx.AsyncClient(verify=False, trust_env=False, timeout=CONNECT_SECONDS) as http:
            answer = await http.get(url + ROOT + "ca")
    except httpx.TransportError as error:
        raise Unreachable(f"The control plane does not answer ({type(error).__name__}).") from error
    if answer.status_code != 200:
        raise Unreachable(f"The control plane answered {answer.status_code} instead of its certificate authority.")
    return answer.text


def _matches(pem: str, wanted: str) -> bool:
    try:
        found: Optional[bytes] = ssl.PEM_cert_to_DER_cert(pem)
    except ValueError:
        found = None
    return found is not None and hmac.compare_digest(hashlib.sha256(found).hexdigest(), wanted)
