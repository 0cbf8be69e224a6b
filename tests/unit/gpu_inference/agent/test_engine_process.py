"""Supervision of children that misbehave: small scripts in an engine's place."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpu_inference.agent.batch import Order
from gpu_inference.agent.engine_outcome import EngineFailure, death_sentence
from gpu_inference.agent.engine_process import EngineProcess
from gpu_inference.agent.settings import Settings

PRELUDE = """
import os, socket, sys, time
from gpu_inference.engine import wire
sock = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
def send(**message): sock.sendall(wire.encode(message))
def hello(): send(type="hello", pid=os.getpid(), backend="onnx", devices=["cpu"], samplers=[], models=[])
"""

Engine = Callable[..., EngineProcess]


@pytest.fixture
def engine_of(tmp_path: Path) -> Engine:
    def make(script: str, **changes: float) -> EngineProcess:
        (tmp_path / "engine.py").write_text(PRELUDE + script)
        settings = Settings(**{"start_timeout": 10, "load_timeout": 10, "step_timeout": 10, "cancel_timeout": 10, **changes})  # type: ignore[arg-type]
        return EngineProcess(settings, [sys.executable, str(tmp_path / "engine.py")])

    return make


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[4]))


BEFORE: set[int] = set()


@pytest.fixture(autouse=True)
def _children_before() -> None:
    """Other tests of this process may have left helpers of their own."""
    BEFORE.clear()
    BEFORE.update(child.pid for child in psutil.Process().children())


def new_children() -> list[int]:
    return [child.pid for child in psutil.Process().children() if child.pid not in BEFORE]


async def failure_of(work: Awaitable[object]) -> EngineFailure:
    with pytest.raises(EngineFailure) as caught:
        await work
    return caught.value


def nothing(_step: int, _steps: int, _phase: str) -> None:
    """Progress that nobody watches."""


async def render(engine: EngineProcess, seconds: float = 30) -> EngineFailure:
    await engine.ensure_started()
    return await failure_of(engine.render("j/1", {}, nothing, seconds))


async def test_a_start_that_is_cancelled_as_the_child_begins_leaves_none(engine_of: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    start = asyncio.create_subprocess_exec

    async def start_and_be_cancelled(*words: Any, **given: Any) -> asyncio.subprocess.Process:
        child = await start(*words, **given)
        starting.cancel()
        return child

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_and_be_cancelled)
    engine = engine_of("time.sleep(60)")
    starting = asyncio.ensure_future(engine.ensure_started())
    with pytest.raises(asyncio.CancelledError):
        await starting
    await asyncio.wait_for(engine.kill(), 5)
    assert not new_children()


async def test_a_child_that_never_speaks_is_killed(engine_of: Engine) -> None:
    engine = engine_of("time.sleep(60)", start_timeout=1.0)
    failure = await failure_of(engine.ensure_started())
    assert str(failure) == "The engine did not start within 1 s."
    assert not new_children()


async def test_a_child_that_ends_at_once_gives_its_last_words(engine_of: Engine) -> None:
    engine = engine_of("raise RuntimeError('no graphics card')")
    failure = await failure_of(engine.ensure_started())
    assert failure.kind == "engine_died"
    assert "RuntimeError: no graphics card" in str(failure)
    assert "Traceback" not in str(failure)


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    engine = EngineProcess(Settings(), [str(tmp_path / "none")])
    assert "cannot be started" in str(await failure_of(engine.ensure_started()))


async def test_a_child_that_babbles_is_killed(engine_of: Engine) -> None:
    engine = engine_of("sock.sendall(b'GET / HTTP/1.1\\r\\n\\r\\n'); time.sleep(60)")
    await failure_of(engine.ensure_started())
    assert not new_children()


async def test_what_could_not_be_loaded_for_want_of_engines_is_remembered_until_it_is_loaded(engine_of: Engine) -> None:
    script = (
        "hello()\n"
        "for word in ('error', 'ready'):\n"
        "    job = wire.receive(sock).message['job']\n"
        "    if word == 'ready': send(type='loaded', job=job, model='sdxl')\n"
        "    send(type=word, job=job, error='No engine was built.', kind='not_built', retry=True)\n"
        "wire.receive(sock)"
    )
    engine = engine_of(script)
    await engine.ensure_started()
    assert (await failure_of(engine.load("sdxl"))).kind == "not_built"
    assert engine.unbuilt == {"sdxl"}
    await engine.load("sdxl")
    assert engine.unbuilt == set()
    await engine.kill()


async def test_a_load_that_hangs(engine_of: Engine) -> None:
    failure = await render(engine_of("hello(); time.sleep(60)", load_timeout=0.5))
    assert (failure.kind, str(failure), failure.retry) == ("load_timeout", "The model was not loaded within 0.5 s.", True)


async def test_a_step_that_hangs(engine_of: Engine) -> None:
    script = "hello()\nwire.receive(sock)\nsend(type='progress', job='j/1', step=1, steps=9, phase='denoising')\ntime.sleep(60)"
    engine = engine_of(script, step_timeout=0.5)
    told: list[tuple[int, int, str]] = []
    await engine.ensure_started()
    failure = await failure_of(engine.render("j/1", {}, lambda *what: told.append(what), 30))
    assert failure.kind == "step_timeout"
    assert told == [(1, 9, "denoising")]
    assert not engine.alive
    assert not new_children()


async def test_a_job_that_steps_on_for_ever(engine_of: Engine) -> None:
    script = "hello()\nwire.receive(sock)\nwhile True:\n send(type='progress', job='j/1', step=1, steps=9, phase='x')\n time.sleep(0.01)"
    failure = await render(engine_of(script), seconds=0.7)
    assert (failure.kind, str(failure)) == ("timeout", "The job took longer than it may.")


async def test_a_cancel_that_is_ignored(engine_of: Engine) -> None:
    script = "hello()\nwhile True:\n send(type='progress', job='j/1', step=1, steps=9, phase='x')\n time.sleep(0.05)"
    engine = engine_of(script, cancel_timeout=0.4)
    await engine.ensure_started()
    asyncio.get_running_loop().call_later(0.2, engine.cancel, "j/1")
    begun = time.monotonic()
    failure = await failure_of(engine.render("j/1", {}, nothing, 30))
    assert failure.kind == "cancelled"
    assert time.monotonic() - begun < 2


async def test_memory_that_runs_out(engine_of: Engine) -> None:
    script = (
        "hello()\nwire.receive(sock)\n"
        "send(type='error', job='j/1', error='The engine ran out of memory.', kind='out_of_memory', retry=True)\nsys.exit(70)"
    )
    engine = engine_of(script)
    failure = await render(engine)
    assert (failure.kind, failure.retry) == ("out_of_memory", True)
    await asyncio.wait_for(engine.ended.wait(), 5)
    first = engine.pid
    await engine.ensure_started()
    assert engine.pid not in (None, first)
    await engine.kill()


async def test_frames_of_an_earlier_job_are_not_this_ones(engine_of: Engine) -> None:
    script = (
        "hello()\nwire.receive(sock)\n"
        "for job in ('j/0', 'j/1'):\n sock.sendall(wire.encode({'type': 'result', 'job': job, 'result': {}}, job.encode()))\ntime.sleep(60)"
    )
    engine = engine_of(script)
    await engine.ensure_started()
    assert (await engine.render("j/1", {}, nothing, 30)).png == b"j/1"
    await engine.kill()
    assert engine.pid is None


async def test_a_payload_that_is_no_json(engine_of: Engine) -> None:
    engine = engine_of("hello(); time.sleep(60)")
    await engine.ensure_started()
    failure = await failure_of(engine.render("j/1", {"prompt": "x" * 5_000_000}, nothing, 30))
    assert (failure.kind, failure.retry) == ("bad_payload", False)
    await engine.kill()


async def test_starting_twice_at_once_is_one_child(engine_of: Engine) -> None:
    engine = engine_of("hello(); time.sleep(60)")
    await asyncio.gather(engine.ensure_started(), engine.ensure_started(), engine.wait_alive())
    assert new_children() == [engine.pid]
    await engine.kill()
    await engine.kill()


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (70, "out_of_memory", "ran out of memory"),
        (-9, "engine_died", "killed (SIGKILL)"),
        (-11, "engine_died", "ended by signal 11"),
        (1, "engine_died", "ended with code 1: ValueError: x"),
        (None, "engine_died", "ended with code None"),
    ],
)
def test_the_cause_of_death(code: int, kind: str, words: str) -> None:
    failure = death_sentence(code, "ValueError: x")
    assert failure.kind == kind
    assert words in str(failure)


TWO = """
hello()
frame = wire.receive(sock)
jobs = [job for job, _ in wire.orders(frame.message)]
for job in jobs: send(type="progress", job=job, step=0, steps=4, phase="denoising")
"""


async def both(engine: EngineProcess, *seconds: float) -> list[EngineFailure | None]:
    await engine.ensure_started()
    orders = [Order(f"j/{number}", {}, nothing, each) for number, each in enumerate(seconds)]
    asyncio.get_running_loop().call_later(0.3, engine.cancel, "j/0")
    await engine.render_batch(orders)
    failures = [order.outcome.exception() for order in orders]
    return [each for each in failures if each is None or isinstance(each, EngineFailure)]


SLOW_STEP = (
    TWO
    + """
time.sleep(1.5)
send(type="error", job=jobs[0], error="It was cancelled.", kind="cancelled", retry=False)
send(type="result", job=jobs[1], result={})
time.sleep(60)
"""
)


@pytest.mark.parametrize("first_seconds", [30, 0.5])
async def test_a_slow_step_is_not_broken_off_for_one_that_is_cancelled_or_late(engine_of: Engine, first_seconds: float) -> None:
    engine = engine_of(SLOW_STEP, cancel_timeout=0.2)
    first, second = await both(engine, first_seconds, 30)
    assert first is not None
    assert first.kind == "cancelled"
    assert second is None
    assert engine.alive
    await engine.kill()


async def test_a_slow_load_is_not_broken_off_for_one_that_is_late(engine_of: Engine) -> None:
    script = SLOW_STEP.replace('type="progress", job=job, step=0, steps=4, phase="denoising"', 'type="phase", job=job, phase="loading"')
    engine = engine_of(script, cancel_timeout=0.2)
    await engine.ensure_started()
    orders = [Order("j/0", {}, nothing, 0.3), Order("j/1", {}, nothing, 30)]
    await engine.render_batch(orders)
    failure = orders[0].outcome.exception()
    assert isinstance(failure, EngineFailure)
    assert failure.kind == "timeout"
    assert orders[1].outcome.exception() is None
    await engine.kill()


async def test_a_step_that_hangs_is_ended_though_one_was_cancelled(engine_of: Engine) -> None:
    failures = await both(engine_of(TWO + "time.sleep(60)", cancel_timeout=0.2, step_timeout=1.0), 30, 30)
    assert [each.kind for each in failures if each] == ["step_timeout"] * 2


async def test_a_batch_of_which_all_are_cancelled_is_ended_where_it_does_not_obey(engine_of: Engine) -> None:
    engine = engine_of(TWO + "time.sleep(60)", cancel_timeout=0.6)
    await engine.ensure_started()
    asyncio.get_running_loop().call_later(0.9, engine.cancel, "j/1")
    begun = time.monotonic()
    failures = await both(engine, 30, 30)
    assert [each.kind for each in failures if each] == ["cancelled"] * 2
    assert 1.4 < time.monotonic() - begun < 5, "the last one has its time to obey, too"


async def test_what_ended_before_the_engine_died_stays(engine_of: Engine) -> None:
    script = TWO + """send(type="error", job=jobs[0], error="No.", kind="bad_payload", retry=False); os._exit(9)"""
    first, second = await both(engine_of(script), 30, 30)
    assert first is not None
    assert second is not None
    assert (first.kind, second.kind) == ("bad_payload", "engine_died")


async def test_less_is_asked_for_where_the_memory_did_not_last(engine_of: Engine) -> None:
    script = TWO + "os._exit(70)"
    engine = engine_of(script.replace("hello()", "send(type='hello', pid=1, backend='x', devices=[], samplers=[], models=[], batch=4)"))
    failures = await both(engine, 30, 30)
    assert [each.kind for each in failures if each] == ["out_of_memory"] * 2
    assert engine.batch_limit == 1


async def test_a_batch_over_its_time_is_ended_with_the_last_of_it(engine_of: Engine) -> None:
    begun = time.monotonic()
    failures = await both(engine_of(TWO + "time.sleep(60)", cancel_timeout=0.4), 30, 0.6)
    assert time.monotonic() - begun < 5
    assert [each.kind for each in failures if each] == ["cancelled", "timeout"]
