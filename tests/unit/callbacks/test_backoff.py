"""When a message goes out again."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from fleet_api.callbacks import backoff
from fleet_api.callbacks.states import DeliveryState, Outcome, after, read

NOW = 1_800_000_000.0


def test_waits_grow_over_about_a_day_and_end() -> None:
    waits = [backoff.wait(failures, chance=0.5) for failures in range(1, 11)]
    assert waits[:6] == [5, 30, 120, 600, 1_800, 3_600]
    assert 22 < sum(wait or 0 for wait in waits) / 3_600 < 26
    assert backoff.wait(11) is None


@pytest.mark.parametrize("failures", range(1, 11))
def test_jitter_is_a_fifth_either_way(failures: int) -> None:
    middle = backoff.wait(failures, chance=0.5) or 0
    assert backoff.wait(failures, chance=0) == pytest.approx(0.8 * middle)
    assert backoff.wait(failures, chance=1) == pytest.approx(1.2 * middle)
    drawn = {backoff.wait(failures) for _ in range(20)}
    assert len(drawn) > 10
    assert all(0.8 * middle <= (each or 0) <= 1.2 * middle <= backoff.LONGEST for each in drawn)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120), (" 7 ", 7), ("0", 0), (formatdate(NOW + 90, usegmt=True), 90), (formatdate(NOW - 90, usegmt=True), 0),
        (None, None), ("", None), ("soon", None), ("-5", None), ("1.5", None), ("٣", None), ("9" * 400, 999_999_999),
        ("Wed, 99 Nov 2026 99:99:99 GMT", None), ("Wed, 25 Nov 999999 10:00:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert backoff.retry_after(header, NOW) == seconds


def test_what_a_receiver_asks_for_is_waited_for_within_limits() -> None:
    assert backoff.wait(1, told=60, chance=0.5) == 60
    assert backoff.wait(5, told=60, chance=0.5) == 1_800, "no sooner than planned"
    assert backoff.wait(1, told=1e9, chance=0.5) == backoff.LONGEST_TOLD


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (200, DeliveryState.DELIVERED), (204, DeliveryState.DELIVERED), (299, DeliveryState.DELIVERED), (301, DeliveryState.RETRYING),
        (307, DeliveryState.RETRYING), (400, DeliveryState.RETRYING), (404, DeliveryState.RETRYING), (410, DeliveryState.GAVE_UP),
        (429, DeliveryState.RETRYING), (500, DeliveryState.RETRYING), (199, DeliveryState.RETRYING),
    ],
)  # fmt: skip
def test_only_2xx_is_a_success_and_410_is_the_end(status: int, state: DeliveryState) -> None:
    outcome = read(status, None)
    assert after(outcome, 1)[0] == state
    assert outcome.taken == (state == DeliveryState.DELIVERED)
    assert outcome.error is None or outcome.error.endswith(".")


def test_the_last_failure_gives_up() -> None:
    assert after(Outcome(error="Nobody answers."), 10)[0] == DeliveryState.RETRYING
    assert after(Outcome(error="Nobody answers."), 11) == (DeliveryState.GAVE_UP, None)
