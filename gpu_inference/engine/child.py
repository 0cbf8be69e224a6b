"""The engine child: ``python -m gpu_inference.engine.child --fd N --model FOLDER [--model FOLDER] [--library FOLDER] [--threads N]
[--backend NAME] [--spares N] [--memory MIB] [--batch N]``.

Each folder is a model or a library of models and LoRAs (:mod:`gpu_inference.engine.library`); that of ``--library`` may be empty, or
not be there, and is looked at again when the agent says so.

Started by the agent with one end of a socket pair. The main thread renders, a second one listens: a ``cancel`` takes
effect at the next step, and the end of the stream, which means that the agent is gone, ends the process at once.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from gpu_inference.engine import wire
from gpu_inference.engine.backends import BACKENDS, DEFAULT_BACKEND, devices, gpu_present, installed, most_unloaded, usual_backend
from gpu_inference.engine.batch import USUAL_PICTURES, Part
from gpu_inference.engine.catalogue import Catalogue
from gpu_inference.engine.errors import EngineError, OutOfMemory, Unexpected, said
from gpu_inference.engine.manifest import ModelFolder
from gpu_inference.engine.parent import die_with_parent
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.places import host_room, place_of
from gpu_inference.engine.preview import Previewer
from gpu_inference.engine.request import RenderRequest, parse_request
from gpu_inference.engine.samplers import SAMPLERS
from gpu_inference.engine.shelf import Shelf

EXIT_OUT_OF_MEMORY = 70
FELT_BY_ALL = "engine_died"


class Child:
    """Serves one socket until it ends."""

    def __init__(self, sock: socket.socket, catalogue: Catalogue, backend: str = DEFAULT_BACKEND, pictures: int = 0) -> None:
        """``pictures`` are to be made at once, where the backend can; 0 leaves that to it."""
        self._sock = sock
        self._pictures = pictures
        self._open: List[str] = []
        self._backend = backend
        self._catalogue = catalogue
        self._frames: queue.Queue[wire.Frame] = queue.Queue()
        self._cancelled: Set[str] = set()
        self._shed = False
        """Whether parked models are to go at the next step: who is at work is not to be ended for what only waits."""

    def run(self) -> int:
        """Works through the frames; returns the process's exit code."""
        self._send(
            {
                "type": "hello",
                "pid": os.getpid(),
                "backend": usual_backend() if self._backend == DEFAULT_BACKEND else self._backend,
                "backends": installed(),
                "devices": devices(),
                "samplers": list(SAMPLERS),
                "batch": self._batch(),
                **self._library(),
            }
        )
        threading.Thread(target=self._listen, name="listen", daemon=True).start()
        while True:
            frame = self._frames.get()
            if frame.type == "stop":
                return 0
            try:
                self._serve(frame)
            except OutOfMemory:
                return EXIT_OUT_OF_MEMORY

    def _listen(self) -> None:
        try:
            while True:
                frame = wire.receive(self._sock)
                if frame is None:
                    os._exit(0)
                self.take(frame)
        except ConnectionError:
            os._exit(0)
        except (OSError, wire.WireError):
            os._exit(1)

    def take(self, frame: wire.Frame) -> None:
        """Notes what is of use to the work that goes on; the rest waits for its turn."""
        if frame.type == "cancel":
            self._cancelled.add(str(frame.message.get("job")))
            return
        self._shed = self._shed or frame.message.get("what") == wire.PARKED
        self._frames.put(frame)

    def _send(self, message: Dict[str, Any], blob: bytes = b"") -> None:
        self._sock.sendall(wire.encode(message, blob))

    def _library(self) -> Dict[str, Any]:
        return {
            "loras": [info.model_dump() for info in self._catalogue.lora_infos()],
            "models": [info.model_dump() for info in self._catalogue.infos()],
            "problems": self._catalogue.problems,
            "loaded": self._catalogue.loaded,
            "spare": self._catalogue.spare,
            "parked": self._catalogue.parked,
        }

    def _pipeline(self, jobs: Sequence[str], name: Optional[str]) -> Pipeline:
        before = self._there()
        if not self._catalogue.is_warm(name):
            for job in jobs:
                self._send({"type": "phase", "job": job, "phase": "loading"})
        try:
            return self._catalogue.pipeline(name)
        finally:
            if self._there() != before:
                self._tell(jobs[0])

    def _there(self) -> Dict[str, Any]:
        return {"model": self._catalogue.loaded, "spare": self._catalogue.spare, "parked": self._catalogue.parked}

    def _tell(self, job: str = "") -> None:
        """Says what is loaded, now that this has changed."""
        models = [info.model_dump() for info in self._catalogue.infos()]
        told = {**self._there(), "models": models, "batch": self._batch()}
        device = None if self._catalogue.backend is None else self._catalogue.backend.device
        self._send({"type": "loaded", "job": job, "device": device, **told})

    def _serve(self, frame: wire.Frame) -> None:
        job = str(frame.message.get("job", ""))
        try:
            if frame.type == "load":
                self._preload(job, frame.message.get("model"))
            elif frame.type == "unload":
                self._shed = False
                self._catalogue.close(str(frame.message.get("what", wire.ALL)), bool(frame.message.get("park")))
                self._tell()
            elif frame.type == "rescan":
                self._catalogue.scan()
                self._send({"type": "library", **self._library()})
            elif frame.type == "render":
                self._render(wire.orders(frame.message))
        except Exception as problem:
            self._fail_rest(frame, said(problem))
        finally:
            self._cancelled.difference_update(each for each, _ in wire.orders(frame.message))

    def _preload(self, job: str, name: Optional[str]) -> None:
        """Loads a model; the default one only where a job has not loaded another meanwhile."""
        if name is not None or self._catalogue.loaded is None:
            self._pipeline([job], name)
            self._send({"type": "ready", "job": job})

    def _render(self, orders: List[Tuple[str, Dict[str, Any]]]) -> None:
        """Makes pictures, together where they go together; says of each what became of it."""
        self._open = [job for job, _ in orders]
        together: Dict[Tuple[Any, ...], List[Tuple[str, RenderRequest]]] = {}
        for job, payload in orders:
            try:
                request = parse_request(payload)
                self._catalogue.applied(request)
            except Exception as problem:  # of this one alone
                self._fail(job, said(problem))
            else:
                together.setdefault((request.model, *request.loras), []).append((job, request))
        for asked in together.values():
            loras = self._catalogue.applied(asked[0][1])
            pipeline = self._pipeline([job for job, _ in asked], asked[0][1].model)
            for place, outcome in pipeline.render_batch([self._part(job, request) for job, request in asked], loras):
                job = asked[place][0]
                if isinstance(outcome, EngineError):
                    self._fail(job, outcome)
                    if isinstance(outcome, OutOfMemory):
                        raise outcome
                else:
                    self._open.remove(job)
                    self._send({"type": "result", "job": job, "result": outcome.result.model_dump()}, outcome.png)

    def _part(self, job: str, request: RenderRequest) -> Part:
        def progress(step: int, steps: int, phase: str) -> None:
            if self._shed:
                self._shed = False
                self._catalogue.close(wire.PARKED)
                self._tell()
            self._send({"type": "progress", "job": job, "step": step, "steps": steps, "phase": phase})

        def show(step: int, jpeg: bytes) -> None:
            self._send({"type": "preview", "job": job, "step": step}, jpeg)

        preview = Previewer(request.preview_every, show) if request.preview_every else None
        return Part(request, progress, lambda: job in self._cancelled, preview)

    def _batch(self) -> int:
        """How many pictures at once are worth it with what is loaded, or what may be."""
        backend = self._catalogue.backend
        most = backend.most_pictures if backend is not None else most_unloaded(self._backend)
        usual = backend.usual_pictures if backend is not None else USUAL_PICTURES if gpu_present() else 1
        return min(self._pictures or usual, most)

    def _fail_rest(self, frame: wire.Frame, error: EngineError) -> None:
        """What was asked for has failed: all of a batch of which nothing was said yet. Raises where the process is not to go on."""
        jobs = list(self._open) if frame.type == "render" else [str(frame.message.get("job", ""))]
        if isinstance(error, Unexpected) and len(jobs) > 1:
            error.kind = FELT_BY_ALL  # one of them may be at fault, and the others are not to pay for it
        for job in jobs:
            self._fail(job, error)
        if isinstance(error, OutOfMemory):
            raise error

    def _fail(self, job: str, error: EngineError) -> None:
        if job in self._open:
            self._open.remove(job)
        self._send({"type": "error", "job": job, "error": str(error), "kind": error.kind, "retry": error.retry})


def main(arguments: Optional[List[str]] = None) -> int:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="gpu_inference.engine.child")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--model", type=Path, action="append", default=[])
    parser.add_argument("--library", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--backend", choices=[DEFAULT_BACKEND, *BACKENDS], default=DEFAULT_BACKEND)
    parser.add_argument("--spares", type=int, default=0)
    parser.add_argument("--memory", type=float, default=None, metavar="MIB", help="how much this process may have")
    parser.add_argument("--batch", type=int, default=0, help="how many pictures to make at once; 0 leaves that to the backend")
    options = parser.parse_args(arguments)
    die_with_parent(options.parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    def load(folder: ModelFolder) -> Pipeline:
        return Pipeline.load(folder, options.threads, options.backend)

    shelf = Shelf(load, options.spares, place_of(options.backend, options.memory), host_room(options.memory))
    catalogue = Catalogue(options.model, load, options.library, shelf)
    try:
        return Child(socket.socket(fileno=options.fd), catalogue, options.backend, options.batch).run()
    except (BrokenPipeError, ConnectionResetError):
        return 0


if __name__ == "__main__":
    sys.exit(main())
