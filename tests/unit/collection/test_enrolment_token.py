"""A token that the manager makes is shown to nobody; why it made none is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
CANARY = "fleet-token_canary"


def asked(program: Path) -> str:
    """Return all that Ansible says of the task, at its most talkative."""
    words = [
        str(BIN / "ansible"), "localhost", "-i", "localhost,", "-c", "local", "-vvv", "-e", f"ansible_python_interpreter={sys.executable}",
        "-m", "fleet.commander.fleet_enrolment_token", "-a", f"node_id=agx0 program={program}",
    ]  # fmt: skip
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_a_token_is_shown_to_nobody(tmp_path: Path) -> None:
    program = tmp_path / "fleet"
    program.write_text(f'#!/bin/sh\necho \'{{"token": "{CANARY}"}}\'\n')
    program.chmod(0o755)
    said = asked(program)
    assert "CHANGED" in said
    assert CANARY not in said


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'fleet: the database is away' >&2; exit 1", "the database is away"),
        ("echo hello", "its command answered something else"),
        (None, "run the playbook control_plane on it first"),
    ],
)
def test_why_there_is_none_is_told(tmp_path: Path, script: str | None, why: str) -> None:
    program = tmp_path / "fleet"
    if script is not None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    said = " ".join(asked(program).split())
    assert "The manager made no enrolment token for agx0" in said
    assert why in said
