"""The talk with sudo: however its words are cut up, the password is given once and only where it was asked for."""

from __future__ import annotations

import shlex
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fleet_api.adapters.ssh.become import Sudo, ending

NOISE = st.binary(max_size=40)


def pieces(text: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(places)]


def talk(sudo: Sudo, chunks: list[bytes]) -> tuple[bytes, list[str]]:
    kept, answers = b"", []
    for chunk in chunks:
        part, answer = sudo.feed(chunk)
        kept += part
        if answer is not None:
            answers.append(answer)
    return kept, answers


@given(NOISE, NOISE, st.lists(st.integers(0, 500), max_size=8))
def test_asked_and_let_in(lecture: bytes, output: bytes, cuts: list[int]) -> None:
    sudo = Sudo("secret")
    asking, then = lecture + sudo._prompt.encode(), b"\n" + sudo._begin.encode() + output
    assert talk(sudo, [*pieces(asking, cuts), *pieces(then, cuts)]) == (output, ["secret"])
    assert sudo.started


@given(NOISE, st.lists(st.integers(0, 500), max_size=8))
def test_not_asked(output: bytes, cuts: list[int]) -> None:
    sudo = Sudo("secret")
    assert talk(sudo, pieces(sudo._begin.encode() + output, cuts)) == (output, [])


@given(st.lists(st.integers(0, 500), max_size=8))
def test_asked_twice(cuts: list[int]) -> None:
    sudo = Sudo("secret")
    text = sudo._prompt.encode() + b"\nSorry, try again.\n" + sudo._prompt.encode()
    kept, answers = talk(sudo, pieces(text, cuts))
    assert (kept, sudo.started, sudo.why()) == (b"", False, "its password is wrong")
    assert answers in (["secret"], []), "none, where both questions come at once"


def test_a_command_cannot_ask() -> None:
    sudo = Sudo("secret")
    talk(sudo, [sudo._begin.encode()])
    assert talk(sudo, [sudo._prompt.encode()]) == (sudo._prompt.encode(), [])


def test_why_not() -> None:
    for said, why in (
        (b"jetson is not in the sudoers file.\n", "sudo does not allow it"),
        (b"sh: 1: sudo: not found\n", "sudo is not installed there"),
        (b"env: 'sudo': No such file or directory\n", "sudo is not installed there"),
        (b"sudo: sorry, you must have a tty to run sudo\n", "sudo wants a terminal there (requiretty)"),
        (b"something else\n", "sudo says: something else"),
        (b"", "sudo says: sudo ended without a word"),
    ):
        sudo = Sudo(None)
        talk(sudo, [said])
        assert sudo.why() == why
    sudo = Sudo(None)
    talk(sudo, [sudo._prompt.encode()])
    assert sudo.why() == "sudo wants a password, and the credential has none"


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=60))
def test_the_command_arrives_as_it_was(command: str) -> None:
    sudo = Sudo(None)
    words = shlex.split(sudo.command(command))
    assert words[-1].endswith("\n" + command)
    assert words[:3] == ["env", "LC_ALL=C", "sudo"]


def test_what_ends_it_does_not_end_itself() -> None:
    sudo = Sudo(None)
    assert f"FLEET_RUN={sudo.mark}" in ending(sudo.mark)
    assert sudo.mark not in Sudo(None).command(ending("other"))
