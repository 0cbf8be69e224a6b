"""The engine child as a real process on a socket pair."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gpu_inference.engine import wire
from gpu_inference.engine.metadata import read_metadata
from tests.support.tiny_model import make_tiny_lora, make_tiny_model

ROOT = Path(__file__).resolve().parents[4]
PAYLOAD = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 4, "seed": 5, "scheduler": "euler_a"}


class Engine:
    """One child and our end of its socket."""

    def __init__(self, *models: Path) -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(20)
        command = [sys.executable, "-m", "gpu_inference.engine.child", "--threads", "1", "--parent", str(os.getpid())]
        for model in models:
            command += ["--model", str(model)]
        self.process = subprocess.Popen([*command, "--fd", str(theirs.fileno())], pass_fds=[theirs.fileno()], cwd=str(ROOT))
        theirs.close()

    def send(self, **message: Any) -> None:
        self.sock.sendall(wire.encode(message))

    def next(self) -> wire.Frame:
        frame = wire.receive(self.sock)
        assert frame is not None
        return frame

    def until(self, *types: str) -> tuple[wire.Frame, list[wire.Frame]]:
        """The first frame of one of ``types``, and those before it."""
        before: list[wire.Frame] = []
        while True:
            frame = self.next()
            if frame.type in types:
                return frame, before
            before.append(frame)

    def render(self, job: str, **changes: Any) -> wire.Frame:
        self.send(type="render", job=job, payload={**PAYLOAD, **changes})
        return self.until("result", "error")[0]

    def close(self) -> None:
        self.sock.close()
        try:
            self.process.wait(5)
        finally:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def engine_of() -> Iterator[Callable[..., Engine]]:
    made: list[Engine] = []

    def make(*models: Path) -> Engine:
        made.append(Engine(*models))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def test_it_introduces_itself_renders_and_tells_every_step(engine_of: Callable[..., Engine], tiny_model: Path, tmp_path: Path) -> None:
    engine = engine_of(tiny_model, tmp_path)
    hello = engine.next().message
    assert hello["type"] == "hello"
    assert hello["pid"] == engine.process.pid
    assert [model["name"] for model in hello["models"]] == ["tiny"]
    assert hello["samplers"] == ["euler", "euler_a", "dpm++_2m", "dpm++_2m_karras", "ddim", "lms", "heun", "dpm_fast"]
    assert "holds no model" in hello["problems"][0]
    engine.send(type="render", job="a", payload=PAYLOAD)
    result, before = engine.until("result", "error")
    assert [frame.type for frame in before[:2]] == ["phase", "loaded"]
    assert before[1].message["device"] == "cpu"
    told = [(frame.message["step"], frame.message["phase"]) for frame in before if frame.type == "progress"]
    assert told == [(0, "encoding"), *[(step, "denoising") for step in range(4)], (4, "decoding"), (4, "saving")]
    assert result.message["result"]["seed"] == 5
    data = read_metadata(result.blob)
    assert data is not None
    assert data["prompt"] == "a red circle"


def test_the_same_seed_is_the_same_picture_in_another_child(engine_of: Callable[..., Engine], tiny_model: Path) -> None:
    first = engine_of(tiny_model)
    first.next()
    blobs = [first.render("a").blob, first.render("b").blob]
    second = engine_of(tiny_model)
    second.next()
    blobs.append(second.render("c").blob)
    assert len(blobs[0]) > 100
    assert len(set(blobs)) == 1


def test_a_cancel_ends_within_one_step(engine_of: Callable[..., Engine], slow_model: Path) -> None:
    engine = engine_of(slow_model)
    engine.next()
    engine.send(type="render", job="a", payload={**PAYLOAD, "steps": 150})
    while engine.until("progress")[0].message["step"] < 2:
        pass
    engine.send(type="cancel", job="a")
    error, after = engine.until("error", "result")
    assert error.message["kind"] == "cancelled"
    assert error.message["retry"] is False
    # One frame may have been on its way already.
    assert len(after) <= 2
    assert engine.render("b").type == "result"


def test_a_cancel_that_comes_first_or_for_another_job(engine_of: Callable[..., Engine], tiny_model: Path) -> None:
    engine = engine_of(tiny_model)
    engine.next()
    engine.send(type="cancel", job="a")
    engine.send(type="cancel", job="other")
    assert engine.render("a").message.get("kind") == "cancelled"
    assert engine.render("b").type == "result"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"guidance_scale": float("nan")}, "bad_payload"),
        ({"width": 7}, "bad_payload"),
        ({"steps": 0}, "bad_payload"),
        ({"prompt": "x" * 10001}, "bad_payload"),
        ({"scheduler": "plms"}, "bad_payload"),
        ({"model": "sdxl"}, "unknown_model"),
        ({"lora": "night"}, "unknown_lora"),
        ({"lora_strength": 5}, "bad_payload"),
    ],
)
def test_a_bad_payload_is_a_sentence_and_no_end(
    engine_of: Callable[..., Engine], tiny_model: Path, changes: dict[str, Any], kind: str
) -> None:
    engine = engine_of(tiny_model)
    engine.next()
    message = engine.render("a", **changes).message
    assert message["kind"] == kind
    assert message["retry"] is False
    assert message["error"].endswith(".")
    assert "\n" not in message["error"]
    assert engine.render("b").type == "result"


def test_loading_ahead_loads_the_default(engine_of: Callable[..., Engine], tiny_model: Path, slow_model: Path) -> None:
    engine = engine_of(tiny_model, slow_model)
    engine.next()
    engine.send(type="load", job="")
    assert engine.until("loaded")[0].message["model"] == "tiny"
    engine.send(type="render", job="a", payload={**PAYLOAD, "model": "slow", "steps": 1})
    assert engine.until("loaded")[0].message["model"] == "slow"
    engine.until("result")
    engine.send(type="load", job="")
    engine.send(type="render", job="b", payload={**PAYLOAD, "steps": 1, "model": "slow"})
    assert "loaded" not in [frame.type for frame in engine.until("result")[1]]


def test_it_switches_models_and_loras_as_jobs_name_them(engine_of: Callable[..., Engine], tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "a")
    make_tiny_model(tmp_path / "b", seed=1, name="other")
    make_tiny_lora(tmp_path / "loras" / "night.safetensors")
    engine = engine_of(tmp_path)
    hello = engine.next().message
    assert [model["name"] for model in hello["models"]] == ["tiny", "other"]
    assert [(lora["name"], lora["base_model"]) for lora in hello["loras"]] == [("night", "tiny")]

    def picture(**changes: Any) -> bytes:
        frame = engine.render("a", **changes)
        assert frame.type == "result", frame.message
        with Image.open(io.BytesIO(frame.blob)) as image:
            return image.tobytes()

    plain, night = picture(), picture(lora="night")
    other = picture(model="other")
    assert len({plain, night, other}) == 3
    message = engine.render("a", model="other", lora="night").message
    assert message["kind"] == "bad_payload"
    assert "is for the model 'tiny'" in message["error"]
    assert picture(model="tiny", lora="night") == night
    assert picture(lora="night", lora_strength=0) == plain
    assert picture(model="other") == other


@pytest.mark.parametrize(("scheduler", "calls"), [("heun", [0, 0, 1, 1, 2, 2, 3]), ("dpm_fast", [0, 1, 2, 3])])
def test_a_step_of_several_calls_is_told_at_each(
    engine_of: Callable[..., Engine], tiny_model: Path, scheduler: str, calls: list[int]
) -> None:
    engine = engine_of(tiny_model)
    engine.send(type="render", job="a", payload={**PAYLOAD, "scheduler": scheduler})
    told = [frame.message for frame in engine.until("result")[1] if frame.type == "progress"]
    assert [message["step"] for message in told if message["phase"] == "denoising"] == calls


def test_it_ends_with_its_stream(engine_of: Callable[..., Engine], slow_model: Path) -> None:
    engine = engine_of(slow_model)
    engine.next()
    engine.send(type="render", job="a", payload={**PAYLOAD, "steps": 150})
    engine.until("progress")
    engine.sock.close()
    assert engine.process.wait(3) == 0


def test_it_stops_when_told(engine_of: Callable[..., Engine], tiny_model: Path) -> None:
    engine = engine_of(tiny_model)
    engine.next()
    engine.send(type="stop")
    assert engine.process.wait(3) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's word of a parent's end is Linux's")
def test_it_dies_with_its_parent_even_while_it_computes(slow_model: Path, tmp_path: Path) -> None:
    """The parent keeps no stream for itself here, so that only the kernel can tell the child."""
    script = (
        "import os, socket, subprocess, sys, time\n"
        "ours, theirs = socket.socketpair()\n"
        "os.set_inheritable(ours.fileno(), True)\n"
        "command = [sys.executable, '-m', 'gpu_inference.engine.child', '--parent', str(os.getpid()), '--fd', str(theirs.fileno())]\n"
        f"child = subprocess.Popen([*command, '--model', {str(slow_model)!r}], pass_fds=[theirs.fileno(), ours.fileno()])\n"
        "ours.recv(1)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=str(ROOT))
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait(5)
        end = time.monotonic() + 5
        while Path(f"/proc/{child}").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
            assert time.monotonic() < end, "the child outlived its parent"
            time.sleep(0.02)
    finally:
        parent.kill()
        parent.wait()
        assert parent.stdout is not None
        parent.stdout.close()
