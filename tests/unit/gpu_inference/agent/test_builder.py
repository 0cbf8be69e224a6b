"""The agent's side of a build, with a program of the test's in the place of what builds."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpu_inference.agent import leases
from gpu_inference.agent.builder import Builder
from gpu_inference.agent.client import ApiError, Unreachable
from gpu_inference.agent.engine_outcome import Hello
from gpu_inference.agent.engines_shared import NotGiven
from gpu_inference.agent.settings import Settings
from gpu_inference.agent.turn import Turn
from gpu_inference.protocol_engines import BuildLora, BuildOrder

ORDER = BuildOrder(id="one", model="sdxl")
PROGRAM = """
import json, os, sys, time
words, there = sys.argv[2:], {there}
open({pid!r} + ".words", "a").write(" ".join(words[:words.index("--parent")]) + chr(10))
if words[0] == "wanted":
    for name in ("text_encoder", "unet"):
        print(json.dumps(dict(key=name, there=name in there, said=dict(network=name))), flush=True)
else:
    print("a word that is no JSON", flush=True)
    print(json.dumps(dict(done=1, all=2, what="unet")), flush=True)
    open({pid!r}, "w").write(str(os.getpid()))
    {then}
"""


class Engine:
    alive = True
    loaded_model: str | None = "sdxl"

    def unload(self) -> None:
        self.loaded_model = None

    async def rescan(self) -> None:
        await asyncio.sleep(0)


class Share:
    """The store has ``has``."""

    def __init__(self, has: Sequence[str] = ()) -> None:
        self.has, self.given = list(has), list[str]()
        self.fails: Exception | None = None

    async def fetch(self, key: str, _said: Any, _pinned: Any) -> bool:
        if self.fails is not None:
            raise self.fails
        return key in self.has

    async def give(self, key: str, _said: Any) -> bool:
        if isinstance(self.fails, ApiError):
            raise self.fails
        self.given.append(key)
        return True


class House:
    def __init__(self, folder: Path, then: str = "pass", there: Sequence[str] = (), has: Sequence[str] = ()) -> None:
        self.pid = folder / "pid"
        self.engine, self.turn, self.share = Engine(), Turn(), Share(has)
        program = folder / "program.py"
        program.write_text(PROGRAM.format(there=json.dumps(list(there)), pid=str(self.pid), then=then))
        command = [sys.executable, str(program), "engines"]
        self.builder = Builder(
            Settings(state_dir=folder), self.engine, self.turn, self.share, asyncio.Event(), command  # type: ignore[arg-type]
        )  # fmt: skip

    def words(self) -> list[str]:
        return self.pid.with_name("pid.words").read_text().splitlines()

    async def reached(self, *states: str, seconds: float = 10.0) -> Any:
        due = time.monotonic() + seconds
        while self.builder.report is None or self.builder.report.state not in states:
            assert time.monotonic() < due, self.builder.report
            await asyncio.sleep(0.01)
        return self.builder.report

    async def at_work(self) -> psutil.Process:
        due = time.monotonic() + 10
        while not (self.pid.exists() and self.pid.read_text()):
            assert time.monotonic() < due
            await asyncio.sleep(0.01)
        return psutil.Process(int(self.pid.read_text()))


async def test_what_is_lacking_is_built_and_given(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.builder.heed(ORDER)
    report = await house.reached("done", "failed")
    assert (report.state, report.built, report.fetched, report.done, report.total, report.error) == ("done", 2, 0, 2, 2, "")
    assert house.share.given == ["text_encoder", "unet"]
    assert house.engine.loaded_model is None, "what is loaded would take the builder's memory"
    assert (house.turn.taken, house.turn.reserved.is_set()) == (False, False)
    house.builder.heed(ORDER)
    assert house.builder.report is report, "the same order is not begun again"
    house.builder.heed(None)
    assert house.builder.report is None
    assert house.words() == ["wanted sdxl", "build sdxl --lines"]


async def test_loras_of_an_order_go_to_what_builds(tmp_path: Path) -> None:
    house = House(tmp_path)
    loras = [BuildLora(name="ink", strength=0.6), BuildLora(name="-film by night", strength=-1)]
    house.builder.heed(BuildOrder(id="one", model="sdxl", loras=loras))
    assert (await house.reached("done", "failed")).state == "done"
    words = "--lora=ink:0.6 --lora=-film by night:-1.0"
    assert house.words() == [f"wanted sdxl {words}", f"build sdxl --lines {words}"]


def test_who_builds_says_that_it_heeds_loras(monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = Engine()
    engine.hello, engine.absent = Hello(pid=1, backend="onnx", devices=[], samplers=[], models=[]), False
    for there in (True, False):
        monkeypatch.setattr(leases, "can_build", lambda there=there: there)
        found = leases.capabilities(engine)
        assert found is not None
        assert (found.builds, found.builds_loras) == (there, there)


async def test_what_another_node_built_is_fetched(tmp_path: Path) -> None:
    house = House(tmp_path, there=["text_encoder"], has=["unet"], then="raise SystemExit('it must not build')")
    house.builder.heed(ORDER)
    report = await house.reached("done", "failed")
    assert (report.state, report.built, report.fetched) == ("done", 0, 1)


@pytest.mark.parametrize("fails", [NotGiven("The connection broke."), Unreachable("The control plane does not answer.")])
async def test_a_store_that_is_away_costs_time_and_not_the_engines(tmp_path: Path, fails: Exception) -> None:
    house = House(tmp_path, has=["unet"])
    house.share.fails = fails
    house.builder.heed(ORDER)
    report = await house.reached("done", "failed")
    assert (report.state, report.built, report.fetched) == ("done", 2, 0)


async def test_no_job_is_asked_for_meanwhile_and_one_at_work_ends_first(tmp_path: Path) -> None:
    house = House(tmp_path)
    assert await house.turn.take(asyncio.Event())
    house.builder.heed(ORDER)
    await asyncio.sleep(0.2)
    await house.reached("waiting")
    assert house.turn.reserved.is_set()
    assert (house.builder.report.state, house.builder.building) == ("waiting", False)  # type: ignore[union-attr]
    house.turn.leave()
    await house.reached("done")


@pytest.mark.parametrize("how", ["not ordered any more", "another order", "the agent stops"])
async def test_what_builds_is_gone_at_once_where_it_is_not_wanted(tmp_path: Path, how: str) -> None:
    house = House(tmp_path, then="time.sleep(60)")
    house.builder.heed(ORDER)
    child = await house.at_work()
    due = time.monotonic() + 10
    while house.builder.report.what != "unet":  # type: ignore[union-attr]
        assert time.monotonic() < due
        await asyncio.sleep(0.01)
    begun = time.monotonic()
    if how == "the agent stops":
        await house.builder.close()
    else:
        house.builder.heed(None if how.startswith("not") else BuildOrder(id="two", model="sdxl"))
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() - begun < 1.0
        await asyncio.sleep(0.01)
    if how == "another order":
        house.pid.unlink()
        await house.at_work()
        assert house.builder.report.id == "two"  # type: ignore[union-attr]
    await house.builder.close()
    assert (house.turn.taken, house.turn.reserved.is_set(), house.builder.building) == (False, False, False)


@pytest.mark.parametrize(
    ("then", "error"),
    [
        ("sys.exit('TensorRT did not build an engine of unet.')", "TensorRT did not build an engine of unet."),
        ("os.kill(os.getpid(), 11)", "What builds engines was ended by signal 11: no reason was given"),
        ("sys.stderr.write('x' * 300_000 + chr(10) + 'the last line' + chr(10)); sys.exit(1)", "the last line"),
        ("print('{' * 100_000); sys.exit('no words')", "no words"),
    ],
)  # fmt: skip
async def test_a_failure_is_one_sentence_and_the_agent_lives(tmp_path: Path, then: str, error: str) -> None:
    house = House(tmp_path, then=then)
    house.builder.heed(ORDER)
    report = await house.reached("failed", "done")
    assert (report.state, report.error) == ("failed", error)
    assert (house.turn.taken, house.turn.reserved.is_set()) == (False, False)
    house.builder.heed(BuildOrder(id="two", model="sdxl"))
    await house.reached("failed")


async def test_jobs_go_on_while_engines_are_fetched_and_given(tmp_path: Path) -> None:
    house = House(tmp_path, has=["text_encoder", "unet"])
    assert await house.turn.take(asyncio.Event()), "a job is at work all the time"
    house.builder.heed(ORDER)
    report = await house.reached("done", "failed")
    assert (report.state, report.fetched, house.turn.reserved.is_set()) == ("done", 2, False)


async def test_what_says_nothing_any_more_is_ended(tmp_path: Path) -> None:
    house = House(tmp_path, then="time.sleep(60)")
    house.builder._silent_seconds = 1.0
    house.builder.heed(ORDER)
    report = await house.reached("failed")
    assert report.error == "What builds engines said nothing for 1 s, and was ended."
    assert not psutil.pid_exists(int(house.pid.read_text()))


async def test_a_program_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.builder._command = [str(tmp_path / "nothing")]
    house.builder.heed(ORDER)
    report = await house.reached("failed")
    assert report.error == f"The engines cannot be kept ({os.strerror(2)})."
