"""``fleet simulate``: what it prints, draws and refuses."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.support.command import Command

KEYS = {"jobs", "mean_s", "p50_s", "p95_s", "p99_s", "max_s", "switches", "makespan_s", "priorities"}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Two models in turn, one second after the other, each job 10 s."""
    path = tmp_path / "trace.csv"
    rows = [f"{number},{'ab'[number % 2]},10,{10 if number == 5 else 0}" for number in range(6)]
    path.write_text("\n".join(["arrival_s,model,seconds,priority", *rows]) + "\n")
    return path


def test_figures_as_json(fleet: Command, trace: Path) -> None:
    found = fleet.json("simulate", str(trace), "--nodes", "2")
    assert set(found) >= KEYS
    # Each node loads a model, the first from 0, the second from 1: three jobs each follow.
    assert (found["jobs"], found["switches"], found["makespan_s"]) == (6, 2, 61)
    # Latencies: a's from 0, 2, 4 end at 40, 50, 60; b's from 1, 3, 5 at 51, 61 and, with its priority, 41.
    assert (found["mean_s"], found["p50_s"], found["max_s"]) == (48, 48, 58)
    assert list(found["priorities"]) == ["10", "0"]
    assert found["priorities"]["10"] == {"jobs": 1, "mean_s": 36, "p50_s": 36, "p95_s": 36, "p99_s": 36, "max_s": 36}
    assert (found["policy"], found["nodes"], found["switch_seconds"]) == ("smart", 2, 30)


def test_policies_and_seconds_of_a_switch(fleet: Command, trace: Path) -> None:
    smart = fleet.json("simulate", str(trace), "--nodes", "1")
    plain = fleet.json("simulate", str(trace), "--nodes", "1", "--policy", "fifo")
    # a; b, for the priority, and what else wants b; a again.
    assert smart["switches"] == 3
    # First come, first served loads for each change: a, then b with its priority, a, b, a, b.
    assert plain["switches"] == 5
    assert smart["mean_s"] < plain["mean_s"]
    free = [fleet.json("simulate", str(trace), "--nodes", "1", "--switch-seconds", "0", "--policy", policy) for policy in ("smart", "fifo")]
    assert free[0]["mean_s"] == free[1]["mean_s"]


def test_a_table_for_people(fleet: Command, trace: Path) -> None:
    shown = fleet("simulate", str(trace), "--nodes", "2", "--speeds", "1,2").stdout
    assert "MEAN S" in shown
    assert "2 switches" in shown
    assert shown.count("\n") == 1 + 3 + 1  # heads, all and two priorities, switches


def test_a_picture(fleet: Command, trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.svg"
    assert str(out) in fleet("simulate", str(trace), "--nodes", "2", "--plot", str(out)).stdout.replace("\n", "")
    root = ElementTree.fromstring(out.read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert sum(rect.get("height") == "14" for rect in root.iter("{http://www.w3.org/2000/svg}rect")) == 6 + 2 * 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nodes", "2", "--speeds", "1"], "names 1 speeds for 2 nodes"),
        (["--nodes", "2", "--speeds", "1,fast"], "must be numbers separated by commas, not '1,fast'"),
        (["--nodes", "2", "--speeds", "1,0"], "must each be more than 0"),
        (["--nodes", "2", "--speeds", "1,-1"], "must each be more than 0"),
        (["--nodes", "2", "--speeds", "1,nan"], "must each be more than 0"),
        (["--nodes", "2", "--speeds", "1,inf"], "must each be more than 0"),
        (["--nodes", "2", "--speeds", ""], "must be numbers separated by commas, not ''"),
        (["--nodes", "0"], "Invalid value for '--nodes'"),
        (["--nodes", "2", "--switch-seconds", "-1"], "Invalid value for '--switch-seconds'"),
        (["--nodes", "2", "--switch-seconds", "nan"], "Invalid value for '--switch-seconds'"),
        (["--nodes", "2", "--switch-seconds", "inf"], "must be a finite number of seconds"),
        (["--nodes", "2", "--policy", "guess"], "'guess' is not one of"),
        ([], "Missing option '--nodes'"),
    ],
)
def test_bad_options_are_refused(fleet: Command, trace: Path, words: list[str], said: str) -> None:
    assert said in spoken(fleet, "simulate", str(trace), *words)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "The trace lacks the column arrival_s"),
        (b"arrival_s,model,seconds\n", "The trace holds no job"),
        (b"arrival_s,model,seconds,node\n0,a,1,x\n", "unknown column 'node'"),
        (b"arrival_s,model,seconds\n0,a,long\n", "Line 2 of the trace: seconds must be a number, not 'long'"),
        (b"arrival_s,model,seconds\n0,\xff,1\n", "is not UTF-8 text"),
    ],
)
def test_a_bad_trace_is_refused_with_its_line(fleet: Command, tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    assert said in spoken(fleet, "simulate", str(path), "--nodes", "1")


def test_a_trace_that_is_not_there(fleet: Command, tmp_path: Path) -> None:
    assert "does not exist" in spoken(fleet, "simulate", str(tmp_path / "none.csv"), "--nodes", "1")


def test_a_picture_that_cannot_be_written(fleet: Command, trace: Path, tmp_path: Path) -> None:
    assert "cannot be written" in spoken(fleet, "simulate", str(trace), "--nodes", "1", "--plot", str(tmp_path / "no" / "out.svg"))


def test_a_spreadsheets_file_is_read(fleet: Command, tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    path.write_bytes("\ufeffarrival_s,model,seconds\r\n0,a,8\r\n".encode())
    assert fleet.json("simulate", str(path), "--nodes", "1")["makespan_s"] == 38


def spoken(fleet: Command, *words: str) -> str:
    """Return what a refused command says, as one line without the frame around it."""
    said = fleet(*words, code=2).stderr
    return " ".join("".join(" " if each in "│╭╮╰╯─" else each for each in said).split())
