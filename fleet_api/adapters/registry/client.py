"""A registry over HTTPS: its catalogue page by page, tags some at a time. Bounded in time, pages and bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from fleet_api.adapters.registry.types import Access, RegistryAway, RegistryRefuses
from fleet_api.errors import FleetError, Unavailable
from fleet_api.kit.allowed import AllowedNetworks

SECONDS = 15.0
CONNECT_SECONDS = 5.0
PAGE = 500
MOST_PAGES = 200
LARGEST = 8 * 1024 * 1024
AT_ONCE = 8
NAME = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
NEXT = re.compile(r'<(?P<target>[^>]*)>\s*;\s*rel="?next"?')
CATALOGUE = "/v2/_catalog"


class HttpRegistry:
    """See :class:`Registry`. It follows no redirect, and calls only the address that was allowed."""

    def __init__(self, access: Access, allowed: AllowedNetworks) -> None:
        self._access = access
        self._allowed = allowed

    async def names(self) -> list[str]:
        """See :class:`Registry`."""
        found: list[str] = []
        target = f"{CATALOGUE}?n={PAGE}"
        async with self._calling() as client:
            for _ in range(MOST_PAGES):
                body, following = await self._page(client, target)
                found += [name for name in _listed(body, "repositories") if len(name) <= 255 and NAME.fullmatch(name)]
                if following is None:
                    break
                target = following
        return found

    async def tags(self, names: list[str]) -> dict[str, list[str]]:
        """See :class:`Registry`."""
        room = asyncio.Semaphore(AT_ONCE)
        async with self._calling() as client:

            async def of(name: str) -> list[str]:
                async with room:
                    body, _ = await self._page(client, f"/v2/{name}/tags/list", or_gone=True)
                return sorted(tag for tag in _listed(body, "tags") if TAG.fullmatch(tag))

            return dict(zip(names, await asyncio.gather(*(of(name) for name in names)), strict=True))

    @asynccontextmanager
    async def _calling(self) -> AsyncIterator[httpx.AsyncClient]:
        access = self._access
        host, _, port = access.address.rpartition(":")
        try:
            async with asyncio.timeout(SECONDS):
                address = await self._reachable(host)
                limits = httpx.Timeout(SECONDS, connect=CONNECT_SECONDS)
                client = httpx.AsyncClient(
                    base_url=f"https://{f'[{address}]' if ':' in address else address}:{port}",
                    headers={"Host": access.address, "Accept": "application/json"},
                    auth=httpx.BasicAuth(access.username, access.password) if access.username else None,
                    verify=self._trust(), timeout=limits, trust_env=False, follow_redirects=False,
                )  # fmt: skip
                async with client:
                    yield client
        except TimeoutError:
            raise RegistryAway(
                f"The registry {access.address} did not answer within {SECONDS:g} s; see that it runs, and try again."
            ) from None
        except httpx.HTTPError as error:
            raise RegistryAway(self._why(error)) from None

    async def _reachable(self, host: str) -> str:
        try:
            return await self._allowed.resolve(host)
        except FleetError as error:  # the caller did not name the address, so it is no fault of the caller's
            raise RegistryAway(f"The registry {self._access.address} cannot be called: {error.detail}") from None

    def _trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._access.authority is not None:
            try:
                context.load_verify_locations(self._access.authority)
            except (OSError, ssl.SSLError):
                raise Unavailable(
                    f"{self._access.authority} is not the certificate of an authority; run the playbook 'registry' again."
                ) from None
        return context

    async def _page(self, client: httpx.AsyncClient, target: str, or_gone: bool = False) -> tuple[dict[str, Any], str | None]:
        host = self._access.address.rpartition(":")[0]
        async with client.stream("GET", target, extensions={"sni_hostname": host}) as answer:
            if answer.status_code == 404 and or_gone:
                return {}, None
            self._check(answer)
            content = bytearray()
            async for piece in answer.aiter_bytes():
                content += piece
                if len(content) > LARGEST:
                    raise RegistryAway(
                        f"The registry {self._access.address} answers with more than {LARGEST:,} bytes at once; is it a registry?"
                    )
        with contextlib.suppress(ValueError, RecursionError):
            body = json.loads(bytes(content))
            if isinstance(body, dict):
                return body, _following(answer.headers.get("Link", ""))
        raise RegistryAway(f"What answers at {self._access.address} is no registry: its answer is not JSON.")

    def _check(self, answer: httpx.Response) -> None:
        address = self._access.address
        if answer.status_code in (401, 403):
            who = f"the sign-in of {self._access.username!r}" if self._access.username else "callers without a sign-in"
            raise RegistryRefuses(f"The registry {address} refuses {who}; set FLEET_REGISTRY_CREDENTIAL to a credential that it knows.")
        if answer.status_code != 200:
            raise RegistryAway(f"The registry {address} answered with status {answer.status_code}; see that it is one, and its log.")

    def _why(self, error: httpx.HTTPError) -> str:
        address, said = self._access.address, str(error)
        if "CERTIFICATE_VERIFY_FAILED" in said or "certificate" in said.lower():
            return f"The registry {address} shows a certificate that is not trusted here; run the playbook 'registry' on this data folder."
        if isinstance(error, httpx.TimeoutException):
            return f"The registry {address} did not answer in time; see that it runs, and try again."
        return f"No registry answers at {address}; see that it runs there: systemctl status docker-registry."


def _following(link: str) -> str | None:
    """Return the path of the next page; None where there is none, or where it leads elsewhere."""
    found = NEXT.search(link)
    target = found["target"] if found else ""
    return target if target.startswith(f"{CATALOGUE}?") else None


def _listed(body: dict[str, Any], name: str) -> list[str]:
    found = body.get(name)
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
