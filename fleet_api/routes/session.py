"""Chapter: session. Browsers sign in with a key, and get a cookie that no script can read."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from fleet_api.access.callers import found
from fleet_api.access.schemas import SessionView, SignIn
from fleet_api.deps import CallerNamed, Fleet
from fleet_api.errors import documented

router = APIRouter(prefix="/api/session", tags=["session"])

NEVER_KEPT = "no-store"


@router.post("", status_code=201, summary="Sign in", responses=documented(400, 401, 413))
async def sign_in(fleet: Fleet, request: Request, response: Response, body: SignIn) -> SessionView:
    """Exchange a key for a session cookie (HttpOnly, SameSite=Strict), and the token that changes must send along."""
    address = request.client.host if request.client else ""
    caller, session, seconds = await fleet.keys.sign_in(body.key, address)
    found(request, caller)
    cookie = fleet.settings.cookie
    if earlier := request.cookies.get(cookie):
        await fleet.keys.sign_out(earlier)
    secure = request.url.scheme == "https" or (fleet.settings.advertise_url or "").startswith("https:")  # by a proxy's TLS
    response.set_cookie(cookie, session, max_age=int(seconds), path="/", httponly=True, samesite="strict", secure=secure)
    response.headers["Cache-Control"] = NEVER_KEPT
    return SessionView.of(caller)


@router.get("", summary="Who am I")
async def who_am_i(response: Response, caller: CallerNamed) -> SessionView:
    """Return the caller's name and role."""
    response.headers["Cache-Control"] = NEVER_KEPT
    return SessionView.of(caller)


@router.delete("", summary="Sign out", status_code=204)
async def sign_out(fleet: Fleet, request: Request) -> Response:
    """End the session of the cookie."""
    if session := request.cookies.get(fleet.settings.cookie):
        await fleet.keys.sign_out(session)
    response = Response(status_code=204)
    response.delete_cookie(fleet.settings.cookie, path="/", httponly=True, samesite="strict")
    return response
