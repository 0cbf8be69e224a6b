"""Supervision of children that misbehave: small scripts in an engine's place."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

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
