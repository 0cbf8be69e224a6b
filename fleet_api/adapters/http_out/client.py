"""The way out over HTTP: a name is resolved, every address is checked, and the connection goes to an address that was checked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping

import httpx

from fleet_api.adapters.http_out.resolve import addresses_of
from fleet_api.adapters.http_out.types import AddressRules, Answer, NotReached
from fleet_api.adapters.http_out.url import parts_of

CONNECT_SECONDS = 5.0
SECONDS = 15.0
"""From the first look at the name to the answer."""

MOST_READ = 4 * 1024
"""Bytes of an answer's body that are let come; nothing in it matters."""

MOST_ADDRESSES = 3
"""Addresses of one name that are tried, where nobody listens at the first."""


class HttpOutClient:
    """See :class:`HttpOut`. No proxy, no redirect, no cookie, and no connection is kept."""

    def __init__(
        self,
        rules: AddressRules,
        resolve: Callable[[str], Awaitable[list[str]]] = addresses_of,
        seconds: float = SECONDS,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        self._rules = rules
        self._resolve = resolve
        self._seconds = seconds
        self._connect_seconds = connect_seconds
        self._trust: ssl.SSLContext | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """See :class:`HttpOut`."""
        try:
            scheme, host, port = parts_of(url)
        except ValueError as error:
            raise NotReached(f"The address {error}.") from None
        where = f"{host}:{port}"
        try:
            async with asyncio.timeout(self._seconds):
                addresses = await self._checked(host, port)
                if scheme == "https" and self._trust is None:
                    self._trust = await asyncio.to_thread(ssl.create_default_context)
                return await self._first(url, host, addresses, headers, body)
        except TimeoutError:
            raise NotReached(f"{where} did not answer within {self._seconds:g} s.") from None
        except httpx.HTTPError as error:
            raise NotReached(_why(error, where)) from None

    async def _checked(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host, in the resolver's order. Raises NotReached if it may not be called at one of them."""
        if self._rules.closed:
            raise NotReached("This control plane calls no addresses; its setting is empty.")
        try:
            found = await self._resolve(host)
        except OSError as error:
            raise NotReached(f"No address was found for {host}: {error}.") from None
        for address in found:
            try:
                self._rules.check(address, port)
            except ValueError as error:
                raise NotReached(f"{host} has the address {address}, and may not be called: it {error}.") from None
        return found[:MOST_ADDRESSES]

    async def _first(self, url: str, host: str, addresses: list[str], headers: Mapping[str, str], body: bytes) -> Answer:
        """Return the answer of the first address where somebody listens."""
        for address in addresses[:-1]:
            try:
                return await self._send(url, host, address, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._send(url, host, addresses[-1], headers, body)

    async def _send(self, url: str, host: str, address: str, headers: Mapping[str, str], body: bytes) -> Answer:
        limits = httpx.Timeout(self._seconds, connect=self._connect_seconds)
        named = httpx.URL(url)
        own = {**headers, "Host": named.netloc.decode("ascii"), "Accept-Encoding": "identity"}
        to = named.copy_with(host=address)
        client = httpx.AsyncClient(verify=self._trust or False, timeout=limits, trust_env=False, follow_redirects=False)
        async with (
            client,
            client.stream("POST", to, headers=own, content=body, extensions={"sni_hostname": host}) as answer,
        ):
            read = 0
            async for piece in answer.aiter_raw():
                read += len(piece)
                if read >= MOST_READ:
                    break
            return Answer(answer.status_code, answer.headers.get("Retry-After"))


def _why(error: httpx.HTTPError, where: str) -> str:
    said = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in said or "certificate" in said.lower():
        return f"{where} shows a certificate that is not trusted here."
    if isinstance(error, httpx.TimeoutException):
        return f"{where} did not answer in time."
    if isinstance(error, httpx.ConnectError):
        return f"Nobody answers at {where}."
    return f"{where} hung up, or does not speak HTTP."
