"""What engines say while they build and push."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_api.services.builds.build import explained
from fleet_api.services.builds.told import Refused, Told, plain


def read(told: Told, *pieces: Any) -> list[str]:
    return [line for piece in pieces for line in told.read(piece)] + list(told.finish())


def test_steps_and_lines() -> None:
    told = Told()
    lines = read(
        told,
        {"stream": "Step 1/4 : FROM base\n"}, {"stream": " ---> 0123\n"}, {"stream": "Step 2/4 : RUN make"}, {"stream": "\n"},
        {"stream": "one\ntwo"}, {"stream": " more\n"}, {"stream": "Step 4/4 : a program's own words\n"},
    )  # fmt: skip
    assert lines == ["Step 1/4 : FROM base", " ---> 0123", "Step 2/4 : RUN make", "one", "two more", "Step 4/4 : a program's own words"]
    assert (told.step, told.steps, told.instruction, told.part) == (2, 4, "RUN make", 0.25)


def test_a_programs_words_are_no_image() -> None:
    told = Told()
    read(told, {"stream": "Step 1/2 : FROM base\n"}, {"stream": "Successfully built 0123456789ab\n"})
    assert told.image_id == ""
    read(told, {"stream": "Step 2/2 : RUN x\n"}, {"aux": {"ID": "sha256:abc"}}, {"stream": "Successfully built 0123456789ab\n"})
    assert told.image_id == "sha256:abc"


def test_errors() -> None:
    with pytest.raises(Refused, match=r"^it returned 3$"):
        read(Told(), {"errorDetail": {"message": "it returned 3."}, "error": "x"})
    with pytest.raises(Refused, match=r"^x$"):
        read(Told(), {"error": "x"})


@pytest.mark.parametrize("piece", [None, 5, [], "x", {}, {"stream": 5}, {"status": None}, {"aux": "x"}, {"stream": "\x00\x1b[2J\n"}])
def test_rubbish_is_nothing(piece: Any) -> None:
    told = Told()
    assert read(told, piece) == []
    assert (told.step, told.image_id) == (0, "")


def test_a_push() -> None:
    told = Told()
    lines = read(
        told,
        {"status": "The push refers to repository [r:5000/x]"}, {"status": "Preparing", "id": "a"}, {"status": "Preparing", "id": "b"},
        {"status": "Pushing", "id": "a", "progress": "[=> ]"}, {"status": "Pushing", "id": "a"}, {"status": "Pushed", "id": "a"},
        {"aux": {"Tag": "v1", "Digest": "sha256:d", "Size": 5}},
    )  # fmt: skip
    assert lines == ["The push refers to repository [r:5000/x]", "a: Pushed"]
    assert (told.digest, told.pushed_part) == ("sha256:d", 0.5)


def test_plain() -> None:
    assert plain("\x1b[31mred\x1b[0m 10%\r 20%\r 100%\r\n") == " 100%"
    assert plain("a\u202eb\x07") == "ab"
    assert len(plain("x" * 10_000)) == 4_000


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("x509: certificate signed by unknown authority", "let that engine trust the registry"),
        ("no basic auth credentials", "FLEET_REGISTRY_CREDENTIAL"),
        ("dial tcp 192.0.2.1:5000: connect: connection refused", "see that the registry runs"),
        ("unsupported", "unsupported"),
    ],
)
def test_why_a_push_failed(reason: str, hint: str) -> None:
    assert hint in explained(reason)
