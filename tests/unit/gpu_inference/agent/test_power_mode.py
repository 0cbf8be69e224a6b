"""The power mode, as ``nvpmodel -q`` prints it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_inference.agent.telemetry import power_mode


@pytest.mark.parametrize(
    ("script", "mode"),
    [
        ("echo 'NV Power Mode: MODE_15W'; echo 2", "MODE_15W"),
        ("echo 'NVPM WARN: something'; echo 'NV Power Mode: MAXN'; echo 0", "MAXN"),
        ("exit 1", None),
    ],
)
def test_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, mode: str | None) -> None:
    tool = tmp_path / "nvpmodel-of-the-test"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert power_mode(tool.name) == mode


def test_another_machine_has_none() -> None:
    assert power_mode("no-such-tool") is None
