"""The benchmark on a GPU, with a program of the test's in the place of what measures."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks import gpu_sdxl, run

ROW = {"load_seconds": 1.0, "first_seconds": 1.0, "seconds": 0.5, "pictures_per_second": 2.0}
PROGRAM = """
import json, pathlib, subprocess, sys, time
what = sys.argv[1]
if what == {slow!r}:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    pathlib.Path({pids!r}).write_text(str(other.pid))
    time.sleep(60)
if what == "torch":
    seen = json.loads(pathlib.Path({output!r}).read_text())["rows"]
    assert list(seen) == ["diffusers", "diffusers compiled"], seen
    sys.exit("no room on the device")
print(json.dumps({row!r}))
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(slow: str) -> Path:
        program, output = tmp_path / "program.py", tmp_path / "rows.json"
        program.write_text(PROGRAM.format(slow=slow, pids=str(tmp_path / "pid"), output=str(output), row=ROW))
        monkeypatch.setattr(gpu_sdxl, "COMMAND", (sys.executable, str(program)))
        monkeypatch.setattr(gpu_sdxl, "device", lambda: "NVIDIA H200")
        monkeypatch.setattr(gpu_sdxl.importlib.util, "find_spec", lambda _name: None)
        return output

    return make


def test_each_row_is_written_as_it_comes_and_none_takes_more_than_its_part(bench: Any, tmp_path: Path) -> None:
    output, begun = bench("compiled"), time.monotonic()
    gpu_sdxl.report(output=output, limit=8.0)
    assert time.monotonic() - begun < 8.0
    kept = json.loads(output.read_text())
    assert kept["device"] == "NVIDIA H200"
    rows = kept["rows"]
    assert list(rows) == list(gpu_sdxl.ROWS)
    assert rows["diffusers"] == ROW
    assert rows["diffusers compiled"]["error"].endswith("s, which is all that it may take")
    assert rows["ours, torch"] == {"error": "no room on the device"}
    assert rows["ours, TensorRT"] == {"error": "TensorRT is not installed"}
    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, "what it began ends with it"


def test_a_model_that_cannot_be_made_is_told(bench: Any) -> None:
    output = bench("make")
    found = gpu_sdxl.report(output=output, limit=1.0)
    assert found["error"].startswith("the model: ended after")
    assert json.loads(output.read_text()) == found


def test_a_run_of_all_says_what_is_left_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for there, reason in ((True, "there is no GPU"), (False, "torch and diffusers are not installed")):
        monkeypatch.setattr(gpu_sdxl.importlib.util, "find_spec", lambda _name, there=there: there or None)
        monkeypatch.setattr(gpu_sdxl, "device", lambda: "CPU")
        found: dict[str, Any] = {}
        run.on_a_gpu(found)
        assert capsys.readouterr().out.strip() == f"SDXL in full size on a GPU: left out, as {reason}"
        assert found == {}


def test_the_documents_say_that_it_has_not_run() -> None:
    text = (Path(gpu_sdxl.__file__).parent.parent / "docs" / "hardware.md").read_text()
    [row] = [line for line in text.splitlines() if "benchmarks.gpu_sdxl" in line]
    assert f"{gpu_sdxl.GOAL_SECONDS} s" in row
    assert f"{gpu_sdxl.GOAL_RATE} pictures/s" in row
    assert ("never run on a GPU" in row) is not gpu_sdxl.RESULT.exists()
