"""The simulated engine, for tests and trials: ``python -m gpu_inference.engine.sim --fd N --parent PID --table FILE``.

It speaks as :mod:`gpu_inference.engine.child` does and takes the time that the cost table says (:mod:`gpu_inference.engine.sim_table`),
but computes nothing: its pictures are 8 x 8 pixels of one colour. It needs no package that a node without an engine lacks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import random
import signal
import socket
import struct
import sys
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Set, Tuple

from gpu_inference.engine import wire
from gpu_inference.engine.errors import BadRequest, Cancelled, EngineError, ModelError
from gpu_inference.engine.parent import die_with_parent
from gpu_inference.engine.sim_table import SimModel, SimTable, read_table
from gpu_inference.protocol import ImageResult

BACKEND = "sim"
SIDE = 8
MOST_STEPS, MOST_SIDE = 100_000, 65_536
MAX_SEED = 2**63 - 1
EXIT_TABLE = 3


def payload_digest(payload: Dict[str, Any]) -> str:
    """The SHA-256 of a job's payload, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True, separators=(",", ":")).encode("utf-8")).hexdigest()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def picture(seed: int, payload: Dict[str, Any]) -> bytes:
    """A PNG that carries seed and payload digest as text, and has the digest's colour."""
    digest = payload_digest(payload)
    row = b"\x00" + bytes.fromhex(digest[:6]) * SIDE
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)),
            _chunk(b"tEXt", f"sim\x00seed={seed} payload={digest}".encode("latin-1")),
            _chunk(b"IDAT", zlib.compress(row * SIDE)),
            _chunk(b"IEND", b""),
        )
    )


def _whole(payload: Dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = payload.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRequest(f"The value of {name} must be a whole number from {low} to {high}.")
    return value


@dataclass(frozen=True)
class Task:
    """A picture that is to take its time."""

    job: str
    payload: Dict[str, Any]
    model: SimModel
    sampler: str
    size: Tuple[int, int]
    steps: int
    seed: int


class Sim:
    """Serves one socket until it ends. ``factor`` is how many times slower than the table this node is.

    ``batch`` pictures are made at once; 0 leaves that to the table.
    """

    def __init__(self, sock: socket.socket, table: SimTable, factor: float = 1.0, batch: int = 0) -> None:
        self._sock = sock
        self._table = table
        self._factor = factor
        self._batch = batch or table.batch
        self._loaded: Optional[str] = None
        self._frames: queue.Queue[wire.Frame] = queue.Queue()
        self._cancelled: Set[str] = set()
        self._stirred = threading.Event()

    def run(self) -> int:
        """Works through the frames; returns the process's exit code."""
        self._send(
            {
                "type": "hello",
                "pid": os.getpid(),
                "backend": BACKEND,
                "backends": [BACKEND],
                "devices": ["none"],
                "samplers": list(self._table.samplers),
                "batch": self._batch,
                "models": [model.info().model_dump() for model in self._table.models],
            }
        )
        threading.Thread(target=self._listen, name="listen", daemon=True).start()
        while True:
            frame = self._frames.get()
            if frame.type == "stop":
                return 0
            self._serve(frame)

    def _listen(self) -> None:
        try:
            while True:
                frame = wire.receive(self._sock)
                if frame is None:
                    os._exit(0)
                if frame.type == "cancel":
                    self._cancelled.add(str(frame.message.get("job")))
                    self._stirred.set()
                else:
                    self._frames.put(frame)
        except ConnectionError:
            os._exit(0)
        except (OSError, wire.WireError):
            os._exit(1)

    def _send(self, message: Dict[str, Any], blob: bytes = b"") -> None:
        self._sock.sendall(wire.encode(message, blob))

    def _serve(self, frame: wire.Frame) -> None:
        job = str(frame.message.get("job", ""))
        try:
            if frame.type == "load":
                name = frame.message.get("model")
                if name is not None or self._loaded is None:
                    self._load([job], self._table.model(str(name or "")))
                    self._send({"type": "ready", "job": job})
            elif frame.type == "unload":
                self._loaded = None
                self._send({"type": "loaded", "job": job, "model": None})
            elif frame.type == "render":
                self._render(wire.orders(frame.message))
        except EngineError as error:
            self._fail(job, error)
        finally:
            self._cancelled.difference_update(each for each, _ in wire.orders(frame.message))
            self._stirred.clear()

    def _fail(self, job: str, error: EngineError) -> None:
        self._send({"type": "error", "job": job, "error": str(error), "kind": error.kind, "retry": error.retry})

    def _heed(self, jobs: List[str]) -> None:
        """Ends those that are cancelled."""
        for job in [each for each in jobs if each in self._cancelled]:
            jobs.remove(job)
            self._fail(job, Cancelled("The job was cancelled."))

    def _pass(self, jobs: List[str], seconds: float) -> None:
        """Lets time pass; jobs that are cancelled end at once, and with the last of them the time."""
        due = time.monotonic() + seconds * self._factor
        while True:
            self._heed(jobs)
            left = due - time.monotonic()
            if left <= 0 or not jobs:
                return
            self._stirred.wait(left)
            self._stirred.clear()

    def _load(self, jobs: List[str], model: SimModel) -> None:
        if self._loaded == model.name:
            return
        for job in jobs:
            self._send({"type": "phase", "job": job, "phase": "loading"})
        self._loaded = None
        first = jobs[0]
        self._pass(jobs, model.load_seconds)
        if jobs:
            self._loaded = model.name
            self._send({"type": "loaded", "job": first, "model": model.name})

    def _render(self, orders: List[Tuple[str, Dict[str, Any]]]) -> None:
        """Pictures of one kind at once, kind after kind, and of each as many as the table says."""
        kinds: Dict[Tuple[Any, ...], List[Task]] = {}
        for job, payload in orders:
            try:
                task = self._task(job, payload)
                kinds.setdefault((task.model, task.sampler, task.size, task.steps), []).append(task)
            except EngineError as error:
                self._fail(job, error)
        for tasks in kinds.values():
            for first in range(0, len(tasks), self._batch):
                self._make(tasks[first : first + self._batch])

    def _task(self, job: str, payload: Dict[str, Any]) -> Task:
        model = self._table.model(str(payload.get("model") or ""))
        sampler = str(payload.get("scheduler") or self._table.samplers[0])
        if sampler not in self._table.samplers:
            names = ", ".join(self._table.samplers)
            raise BadRequest(f"The scheduler '{sampler:.60}' is not in the simulated engine's table; there are: {names}.")
        width, height = (_whole(payload, name, model.native_size, 1, MOST_SIDE) for name in ("width", "height"))
        steps, seed = _whole(payload, "steps", 20, 1, MOST_STEPS), _whole(payload, "seed", 0, 0, MAX_SEED)
        return Task(job, payload, model, sampler, (width, height), steps, seed)

    def _make(self, tasks: List[Task]) -> None:
        jobs, first, number = [task.job for task in tasks], tasks[0], len(tasks)
        self._load(jobs, first.model)
        begun = time.monotonic()
        draw = random.Random(payload_digest(first.payload))
        for step in range(first.steps):
            for job in jobs:
                self._send({"type": "progress", "job": job, "step": step, "steps": first.steps, "phase": "denoising"})
            jitter = 1.0 + self._table.jitter * draw.uniform(-1.0, 1.0)
            self._pass(jobs, first.model.step_seconds(*first.size) * self._table.together(len(jobs)) * jitter)
            if not jobs:
                return
        for task in tasks:
            if task.job not in jobs:
                continue
            self._send({"type": "progress", "job": task.job, "step": task.steps, "steps": task.steps, "phase": "saving"})
            result = ImageResult(
                seed=task.seed, model=task.model.name, sampler=task.sampler, steps=task.steps, width=task.size[0], height=task.size[1],
                native_width=SIDE, native_height=SIDE, generation_time=round(time.monotonic() - begun, 4), scaled=True, batch=number,
                warnings=["This picture is simulated."],
            )  # fmt: skip
            self._send({"type": "result", "job": task.job, "result": result.model_dump()}, picture(task.seed, task.payload))


def main(arguments: Optional[List[str]] = None) -> int:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="gpu_inference.engine.sim")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--factor", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=0)
    options = parser.parse_args(arguments)
    die_with_parent(options.parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        table = read_table(options.table)
    except ModelError as error:
        print(error, file=sys.stderr)
        return EXIT_TABLE
    sys.stderr.write("This engine is simulated: it makes no pictures, and takes the time that its cost table says.\n")
    try:
        return Sim(socket.socket(fileno=options.fd), table, options.factor, options.batch).run()
    except (BrokenPipeError, ConnectionResetError):
        return 0


if __name__ == "__main__":
    sys.exit(main())
