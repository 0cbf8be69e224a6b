"""One engine child and its supervision.

The child is a process of its own on one end of a socket pair. It is ended by SIGKILL, never asked, where a step, a load
or a cancel takes longer than it may; the agent goes on and starts another. One batch at a time; all calls from one loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Set

from pydantic import ValidationError

from gpu_inference.agent import logs, oom
from gpu_inference.agent.allocation import tunables
from gpu_inference.agent.batch import Batch, Order, Progress, unseen
from gpu_inference.agent.cache import library_of
from gpu_inference.agent.engine_outcome import EngineFailure, Hello, Output, death_sentence
from gpu_inference.agent.settings import PACKAGE, PICTURES_SETTING, PLANS_SETTING, PREFIX, SIMULATED, Settings
from gpu_inference.agent.tally import Tally
from gpu_inference.agent.within import within
from gpu_inference.engine import wire

NOT_BUILT = "not_built"
_LONGEST_WORDS = 300
_TAIL = 8192


def engine_command(settings: Settings) -> List[str]:
    """How a child is started, but for its socket and parent."""
    if settings.engine == SIMULATED:
        table = str(settings.sim_table)
        command = [sys.executable, "-m", "gpu_inference.engine.sim", "--table", table, "--factor", str(settings.sim_factor)]
        return [*command, "--batch", str(settings.batch)]
    command = [sys.executable, "-m", "gpu_inference.engine.child", "--threads", str(settings.threads), "--backend", settings.backend]
    command += ["--spares", str(settings.spare_models), "--batch", str(settings.batch)]
    if settings.memory_limit is not None:
        command += ["--memory", str(settings.memory_limit)]
    for path in settings.models:
        command += ["--model", str(path)]
    return [*command, "--library", str(library_of(settings.cache_dir))]


class EngineProcess:
    """Starts, uses and ends the child.

    ``loaded_model``, ``loaded_device``, ``spare_models``, ``parked_models`` and ``hello`` are the last child's.
    """

    def __init__(self, settings: Settings, command: Optional[Sequence[str]] = None) -> None:
        self._settings = settings
        self._command = list(command or engine_command(settings))
        self._process: Optional[asyncio.subprocess.Process] = None
        self._writer: Optional[asyncio.StreamWriter] = None
        self._frames: asyncio.Queue[Optional[wire.Frame]] = asyncio.Queue()
        self._tasks: List[asyncio.Task[None]] = []
        self._starting = asyncio.Lock()
        self._batch: Optional[Batch] = None
        self._most: Optional[int] = None
        self._tail = b""
        self._condemned: Optional[EngineFailure] = None
        self._oom_kills = 0
        self.tally = Tally()
        self.hello: Optional[Hello] = None
        self.loaded_model: Optional[str] = None
        self.loaded_device: Optional[str] = None
        self.spare_models: List[str] = []
        self.parked_models: List[str] = []
        self.unbuilt: Set[str] = set()
        """The models that could not be loaded when that was last tried, as their engines of TensorRT were not built."""

        self.absent = False
        """Whether this node has no engine at all, and what it had before is not to be counted on."""

        self._up = asyncio.Event()
        self._rescanned = asyncio.Event()
        self.ended = asyncio.Event()
        self.ended.set()

    @property
    def alive(self) -> bool:
        """Whether a child is there and has said hello."""
        return self._process is not None and not self.ended.is_set() and self._writer is not None

    @property
    def pid(self) -> Optional[int]:
        """The child's process id."""
        return self._process.pid if self._process is not None and not self.ended.is_set() else None

    @property
    def batch_limit(self) -> int:
        """How many pictures to ask for at once; half of those for which the memory did not last."""
        said = self.hello.batch if self.hello is not None else 1
        return said if self._most is None else min(said, self._most)

    async def wait_alive(self) -> None:
        """Waits until a child has said hello."""
        await self._up.wait()

    async def ensure_started(self) -> None:
        """Starts a child where none is alive. Raises :class:`EngineFailure` where it does not come up in time."""
        async with self._starting:
            if not self.alive:
                await self.kill()
                await self._start()

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment.setdefault(PLANS_SETTING, str(self._settings.plans_dir))
        environment.setdefault(PICTURES_SETTING, str(self._settings.engine_pictures))
        environment = {**tunables(), **environment}
        reader, writer = await asyncio.open_connection(sock=ours)  # before the child: once that is there, nothing may be awaited here
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                "--fd",
                str(theirs.fileno()),
                "--parent",
                str(os.getpid()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                cwd=str(PACKAGE.parent),
                env=environment,
            )
        except BaseException as error:
            writer.close()
            if isinstance(error, OSError):
                raise EngineFailure(f"The engine cannot be started ({error.strerror}).") from error
            raise
        finally:
            theirs.close()
        self.ended, self.loaded_model, self._tail, self._condemned = asyncio.Event(), None, b"", None
        self.spare_models, self.parked_models, self.unbuilt = [], [], set()
        self._oom_kills = oom.kills()
        oom.offer(self._process.pid)
        self._frames = asyncio.Queue()
        self._tasks = [
            asyncio.ensure_future(self._pump(reader, self._frames)),
            asyncio.ensure_future(self._overhear(self._process)),
            asyncio.ensure_future(self._reap(self._process, writer, self.ended)),
        ]
        frame = await self._next(time.monotonic() + self._settings.start_timeout, "The engine did not start within %g s.", "start_timeout")
        try:
            self.hello = Hello.model_validate(frame.message)
        except ValidationError as error:
            await self.kill()
            raise EngineFailure("The engine did not introduce itself.") from error
        self._writer = writer
        self.tally.engine_starts += 1
        self._up.set()
        for problem in self.hello.problems:
            logs.warning("A model folder is left out.", reason=problem)
        hello, models = self.hello, [model.name for model in self.hello.models]
        logs.info("The engine is up.", pid=self._process.pid, backend=hello.backend, devices=hello.devices, models=models)

    async def _pump(self, reader: asyncio.StreamReader, frames: asyncio.Queue[Optional[wire.Frame]]) -> None:
        try:
            frame = await wire.read(reader)
            while frame is not None:
                if frame.type in ("phase", "progress"):
                    self.tally.phase(str(frame.message.get("phase")), int(frame.message.get("step") or 0), time.monotonic())
                elif frame.type == "loaded":
                    self._loaded(frame.message)
                elif frame.type == "library":
                    self._learn(frame.message)
                frames.put_nowait(frame)
                frame = await wire.read(reader)
        except wire.WireError as error:
            logs.error("The engine sent something else than a frame.", reason=str(error))
        finally:
            frames.put_nowait(None)

    def _loaded(self, message: Dict[str, Any]) -> None:
        """What is loaded has changed."""
        self._there(message.get("model"), message)
        self.loaded_device = message.get("device")
        if self.loaded_model is None:
            self.tally.unloaded()
            logs.info("No model is loaded now.")
        else:
            self.unbuilt.discard(self.loaded_model)
            self.tally.loaded(time.monotonic())
            logs.info("A model is loaded.", model=self.loaded_model)
        if "models" in message:
            self._introduce({name: message[name] for name in ("models", "batch") if name in message})

    def _there(self, model: Optional[str], message: Dict[str, Any]) -> None:
        self.loaded_model = model
        self.spare_models, self.parked_models = list(message.get("spare") or []), list(message.get("parked") or [])

    async def _overhear(self, process: asyncio.subprocess.Process) -> None:
        while process.stderr is not None:
            chunk = await process.stderr.read(1 << 16)
            if not chunk:
                return
            self._tail = (self._tail + chunk)[-_TAIL:]
            logs.warning("The engine says.", pid=process.pid, words=chunk.decode("utf-8", "replace")[-_TAIL:])

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._tail.decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1][:_LONGEST_WORDS] if lines else ""

    async def _reap(self, process: asyncio.subprocess.Process, writer: asyncio.StreamWriter, ended: asyncio.Event) -> None:
        await process.wait()
        writer.close()
        self._up.clear()
        self._there(None, {})
        ended.set()

    async def kill(self) -> None:
        """Ends the child by SIGKILL and waits until it is gone."""
        process, self._writer = self._process, None
        if process is None:
            return
        if process.returncode is None:
            try:
                process.kill()
            except ProcessLookupError:
                logs.info("The engine had ended already.", pid=process.pid)
        await self.ended.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._process, self._tasks = None, []

    def _send(self, message: Dict[str, Any]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(wire.encode(message))

    def preload(self) -> None:
        """Has the child load its default model, so that the first job need not wait for it."""
        self._send({"type": "load", "job": ""})

    def unload(self, what: str = wire.ALL, park: bool = False) -> None:
        """Has the child let go of what it has loaded, once it is not at work (:meth:`gpu_inference.engine.catalogue.Catalogue.close`)."""
        self._send({"type": "unload", "job": "", "what": what, "park": park})

    def condemn(self, failure: EngineFailure) -> None:
        """Ends the child now; what it was at has failed with this."""
        process = self._process
        if process is not None and process.returncode is None and self._condemned is None:
            logs.error("The engine is ended.", reason=str(failure), pid=process.pid)
            self._condemned = failure
            process.kill()

    async def load(self, model: str) -> None:
        """Has the child load ``model``. Raises :class:`EngineFailure` where it does not, or not in time."""
        self._drain()
        job = f"load {model}"
        self._send({"type": "load", "job": job, "model": model})
        due = time.monotonic() + self._settings.load_timeout
        while True:
            frame = await self._next(due, "The model was not loaded within %g s.", "load_timeout")
            if frame.message.get("job") != job:
                continue
            if frame.type == "ready":
                return
            if frame.type == "error":
                if frame.message["kind"] == NOT_BUILT:
                    self.unbuilt.add(model)
                raise EngineFailure(str(frame.message["error"]), str(frame.message["kind"]), bool(frame.message["retry"]))

    async def rescan(self) -> None:
        """Has the child look at its library again, between two jobs; returns when it has said what is there, or has ended.

        A child that is started later looks by itself.
        """
        if not self.alive:
            return
        self._rescanned.clear()
        self._send({"type": "rescan"})
        waits = [asyncio.ensure_future(self._rescanned.wait()), asyncio.ensure_future(self.ended.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def problem_of(self, kind: str, name: str) -> Optional[str]:
        """Why the child does not serve what is in its library; None where it does, or where there is no child to ask."""
        if not self.alive or self.hello is None:
            return None
        there = [each.name for each in (self.hello.loras if kind == "lora" else self.hello.models)]
        return None if name in there else " ".join(self.hello.problems)[-400:] or "The engine does not serve it."

    def _learn(self, message: Dict[str, Any]) -> None:
        if self._introduce(message):
            self._there(message.get("loaded"), message)
        self._rescanned.set()

    def _introduce(self, message: Dict[str, Any]) -> bool:
        """Takes in what has changed of the child's introduction; whether it was understood."""
        try:
            self.hello = Hello.model_validate(dict(self.hello.model_dump() if self.hello is not None else {}, **message))
        except ValidationError:
            logs.error("The engine's word on its library was not understood.")
            return False
        return True

    def cancel(self, job: str) -> None:
        """Ends ``job`` at its next step; a child that does not obey in time is killed by :meth:`render_batch`."""
        if self._batch is not None and self._batch.cancel(job, time.monotonic() + self._settings.cancel_timeout):
            self._send({"type": "cancel", "job": job})
            self._wake()

    def _wake(self) -> None:
        self._frames.put_nowait(wire.Frame({"type": "wake"}, b""))

    async def _next(self, due: float, late: str, kind: str) -> wire.Frame:
        """The next frame. Kills the child and raises :class:`EngineFailure` when it is late or its end is reached."""
        try:
            frame = await within(self._frames.get(), max(0.0, due - time.monotonic()))
        except asyncio.TimeoutError as error:
            logs.error("The engine is killed.", reason=kind, pid=self.pid)
            await self.kill()
            limit = getattr(self._settings, kind, 0.0)
            raise EngineFailure(late % limit if "%" in late else late, "cancelled" if kind == "cancel_timeout" else kind) from error
        if frame is None:
            process = self._process
            await self._gone()
            code = process.returncode if process is not None else None
            raise self._condemned or death_sentence(code, self._last_words(), oom.kills() > self._oom_kills)
        return frame

    async def _gone(self) -> None:
        """Waits a moment for a child whose stream has ended to end too, its last words read, and sees to it."""
        _, staying = await asyncio.wait(self._tasks, timeout=2.0) if self._tasks else ((), ())
        if staying:
            logs.error("The engine closed its stream and stayed.", pid=self.pid)
        await self.kill()

    async def render(
        self, job: str, payload: Dict[str, Any], progress: Progress, seconds: float, preview: Callable[[int, bytes], None] = unseen
    ) -> Output:
        """Renders ``payload`` within ``seconds``; ``preview`` is given steps and JPEGs where it asks for some.

        Raises :class:`EngineFailure`; a cancel is one of kind ``cancelled``.
        """
        order = Order(job, payload, progress, seconds, preview)
        await self.render_batch([order])
        return order.outcome.result()

    async def render_batch(self, orders: Sequence[Order]) -> None:
        """Renders pictures together; returns when each has ended, in its own way."""
        self._drain()
        self.tally.begin()
        batch = self._batch = Batch(orders, time.monotonic())
        loop = asyncio.get_running_loop()
        alarms = [loop.call_later(order.seconds, self._wake) for order in orders] if len(batch.orders) > 1 else []
        try:
            self._send(batch.message())
            await self._follow(batch)
        except wire.WireError as error:
            batch.fail(EngineFailure(f"The payload cannot be passed on. {error}", "bad_payload", False))
        except EngineFailure as failure:
            if failure.kind == "out_of_memory" and len(batch.open()) > 1:
                self._most = len(batch.open()) // 2
            batch.fail(failure)
        finally:
            self._batch = None
            for alarm in alarms:
                alarm.cancel()

    async def _follow(self, batch: Batch) -> None:
        limits = self._settings
        loading = limits.load_timeout, "The model was not loaded within %g s.", "load_timeout"
        stepping = limits.step_timeout, "A step took longer than %g s.", "step_timeout"
        seconds, late, kind = loading
        due = time.monotonic() + seconds
        while batch.open():
            for job in batch.overdue(time.monotonic()):
                self.cancel(job)
            frame = await self._next(*min([(due, late, kind), *batch.limits(limits.cancel_timeout)]))
            heard = batch.heed(frame)
            if heard is not None and heard != "preview":
                seconds, late, kind = loading if heard == "phase" else stepping
                due = time.monotonic() + seconds

    def _drain(self) -> None:
        while not self._frames.empty():
            frame = self._frames.get_nowait()
            if frame is None:
                self._frames.put_nowait(None)
                return
