"""The first page at ``/``, and the files it needs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from fleet_api.access.callers import Role, caller_of
from fleet_api.dashboard.assets import assets
from fleet_api.dashboard.page import assemble
from fleet_api.dashboard.render import render, render_sign_in
from fleet_api.deps import Fleet
from fleet_api.errors import NotFound

router = APIRouter(include_in_schema=False)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
FILE_HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept-Encoding",
}


@router.get("/")
async def first_page(fleet: Fleet, request: Request) -> Response:
    """Return the page to who may look, and the sign-in to others."""
    caller = caller_of(request)
    if caller is not None and caller.role >= Role.VIEWER:
        return HTMLResponse(render(await assemble(fleet, caller)), headers=PAGE_HEADERS)
    if fleet.settings.cookie in request.cookies:  # of a session that has ended: without it, somebody on this machine needs no key
        answer = RedirectResponse("/", 303, headers=PAGE_HEADERS)
        answer.delete_cookie(fleet.settings.cookie, path="/", httponly=True, samesite="strict")
        return answer
    return HTMLResponse(render_sign_in(), headers=PAGE_HEADERS)


@router.get("/dashboard/{version}/{path:path}")
async def file(
    version: str, path: str, accept_encoding: Annotated[str, Header()] = "", if_none_match: Annotated[str, Header()] = ""
) -> Response:
    """Return a file of the page; an address of another version is gone, so that old and new are never mixed."""
    asset = assets().files.get(path) if version == assets().version else None
    if asset is None:
        raise NotFound("There is no such file of the page; load the page again.")
    headers = {**FILE_HEADERS, "ETag": asset.etag}
    if asset.etag in if_none_match:
        return Response(status_code=304, headers=headers)
    if asset.packed is not None and "gzip" in accept_encoding.lower():
        return Response(asset.packed, media_type=asset.content_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(asset.body, media_type=asset.content_type, headers=headers)
