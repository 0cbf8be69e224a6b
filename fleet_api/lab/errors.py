"""What can go wrong with a lab."""

from __future__ import annotations

from fleet_api.errors import Conflict, InvalidValue, NotFound, Unavailable


class NoEngine(Unavailable):
    """No Docker Engine can be reached."""


class LabFailed(Unavailable):
    """The engine did not do what a lab needs; the sentence says what."""


class NoLab(NotFound):
    """No lab of this name runs."""


class LabDiffers(Conflict):
    """A lab of this name runs, made another way."""


class BadLab(InvalidValue):
    """A lab cannot be made with this value."""
