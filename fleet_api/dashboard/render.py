"""From view to HTML. Autoescape is on for everything; an unknown name is an error, not an empty text."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from fleet_api.dashboard import wording
from fleet_api.dashboard.assets import assets
from fleet_api.dashboard.page import Page
from fleet_api.dashboard.rows import JobRow, NodeRow, PictureRow
from fleet_api.version import __version__


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fleet_api.dashboard", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(assets=assets(), version=__version__, counted=wording.counted)
    return environment


def render(page: Page) -> str:
    """Return the first page."""
    blanks = {"node": NodeRow.blank(), "job": JobRow.blank(), "picture": PictureRow.blank()}
    return _environment().get_template("page.html").render(page=page, blank=blanks)


def render_sign_in() -> str:
    """Return the page that asks for a key."""
    return _environment().get_template("sign_in.html").render()
