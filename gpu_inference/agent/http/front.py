"""The agent's own door: ``/health``, ``/ready``, ``/models``, ``/generate``, ``/metrics``.

It answers while the control plane is away, too. Handlers run on threads; what they want of the agent is done on its event loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import select
import socket
import time
from typing import Any, Callable, Dict, Optional, Tuple, TypeVar
from urllib.parse import urlsplit

import psutil

from gpu_inference import __version__
from gpu_inference.agent import logs
from gpu_inference.agent.desk import Busy, Desk, Order
from gpu_inference.agent.engine_outcome import EngineFailure, Output
from gpu_inference.agent.engine_process import EngineProcess
from gpu_inference.agent.http.door import may_enter
from gpu_inference.agent.http.exposition import CONTENT_TYPE, exposition
from gpu_inference.agent.http.server import Address, Handler, Server
from gpu_inference.agent.telemetry import Telemetry
from gpu_inference.agent.turn import Turn

BODY_BYTES = 256 * 1024
"""Two prompts of 10,000 characters, each written as an escape, fit."""

LOOP_SECONDS = 5.0
_LOOK_SECONDS = 0.2
_NOT_UNDERSTOOD = ("bad_payload", "unknown_model", "unknown_lora")
_LATE = ("timeout", "step_timeout", "load_timeout", "start_timeout")
ROUTES = {"/health": "GET", "/ready": "GET", "/models": "GET", "/metrics": "GET", "/generate": "POST"}

Found = TypeVar("Found")


class Front:
    """What the door knows of the agent. ``credential`` is the agent's own, once it has one; ``enrolled`` whether it serves."""

    def __init__(self, engine: EngineProcess, turn: Turn, desk: Desk, telemetry: Telemetry, key: str = "") -> None:
        self._engine = engine
        self._turn = turn
        self._desk = desk
        self._telemetry = telemetry
        self._key = key
        self._begun = time.monotonic()
        self._loop = asyncio.get_event_loop()
        self._server: Optional[Server] = None
        self.credential = ""
        self.listens_on = ""

    def open(self, address: Address) -> Optional[int]:
        """Begins to answer; returns the port, or None where the address cannot be had, which is said in the log alone."""
        front = self

        class Door(Handler):
            def do_GET(self) -> None:  # noqa: N802
                front.serve(self)

            do_POST = do_HEAD = do_GET  # noqa: N815

        try:
            self._server = Server(address, Door, "door")
        except OSError as error:
            reason = f"{error.strerror or error}; another agent or program may have it"
            logs.warning("The agent's own HTTP cannot listen, and is left out.", address="{}:{}".format(*address), reason=reason)
            return None
        self.listens_on = address[0]
        self._server.run()
        logs.info("The agent answers HTTP here.", address=address[0], port=self._server.port)
        return self._server.port

    def close(self) -> None:
        """Stops to listen."""
        if self._server is not None:
            self._server.stop()

    # What follows runs on the handlers' threads.

    def serve(self, handler: Handler) -> None:
        """Answers one request."""
        path = urlsplit(handler.path).path
        method = ROUTES.get(path)
        if handler.command == "POST" or handler.headers.get("Content-Length") or handler.headers.get("Transfer-Encoding"):
            handler.close_connection = True  # what is not read of a body must not be taken for the next request
        if path != "/health" and not self._may_enter(handler):
            text = "This wants the agent's credential or its HTTP key: send it as 'Authorization: Bearer <key>'."
            handler.answer_json(401, {"detail": text}, {"WWW-Authenticate": "Bearer"})
        elif method is None:
            handler.answer_json(404, {"detail": "There is no such page; there are: {}.".format(", ".join(ROUTES))})
        elif method != ("GET" if handler.command == "HEAD" else handler.command):
            handler.answer_json(405, {"detail": f"{path} is asked for by {method}."}, {"Allow": method})
        else:
            try:
                getattr(self, "_" + path[1:])(handler)
            except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError, RuntimeError):
                if handler.answered:  # the caller takes nothing of it any more
                    handler.close_connection = True
                    return
                handler.answer_json(503, {"detail": "The agent is stopping, or too busy to answer."}, {"Retry-After": "5"})

    def _may_enter(self, handler: Handler) -> bool:
        headers = {name.lower(): value for name, value in reversed(handler.headers.items())}
        return may_enter(self.listens_on, str(handler.client_address[0]), headers, (self.credential, self._key))

    def _on_loop(self, what: Callable[[], Found]) -> Found:
        async def call() -> Found:
            return what()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(LOOP_SECONDS)

    def _health(self, handler: Handler) -> None:
        engine = {"alive": self._engine.alive, "model": self._engine.loaded_model}
        uptime = round(time.monotonic() - self._begun, 3)
        handler.answer_json(200, {"status": "ok", "version": __version__, "engine": engine, "uptime_seconds": uptime})

    def _ready(self, handler: Handler) -> None:
        reason = self._on_loop(self._why_not_ready)
        if reason is None:
            handler.answer_json(200, {"ready": True})
        else:
            handler.answer_json(503, {"ready": False, "detail": reason}, {"Retry-After": "5"})

    def _why_not_ready(self) -> Optional[str]:
        if self._turn.draining:
            return "The agent is stopping."
        return None if self._engine.alive else "No engine is up on this node."

    def _models(self, handler: Handler) -> None:
        found = self._on_loop(self._served)
        if found is None:
            handler.answer_json(503, {"detail": "No engine is up on this node."}, {"Retry-After": "5"})
        else:
            handler.answer_json(200, found)

    def _served(self) -> Optional[Dict[str, Any]]:
        hello, loaded = self._engine.hello, self._engine.loaded_model
        if hello is None or not self._engine.alive:
            return None
        models = [dict(model.model_dump(), loaded=model.name == loaded) for model in hello.models]
        return {"models": models, "loras": [lora.model_dump() for lora in hello.loras], "loaded": loaded, "samplers": hello.samplers}

    def _metrics(self, handler: Handler) -> None:
        handler.answer(200, self._on_loop(self._figures).encode("utf-8"), CONTENT_TYPE)

    def _figures(self) -> str:
        pid, loaded, size = self._engine.pid, self._engine.loaded_model, None
        try:
            size = float(psutil.Process(pid).memory_info().rss) if pid is not None else None
        except psutil.Error:
            size = None
        models = {"model": loaded} if loaded else {}
        return exposition(self._engine.tally, self._telemetry.recent(), size, self._engine.alive, self._turn.draining, models)

    def _generate(self, handler: Handler) -> None:
        payload, status, problem = _payload(handler)
        if payload is None:
            handler.answer_json(status, {"detail": problem})
            return
        order = self._on_loop(lambda: Order(payload))
        asked = time.monotonic()
        work = asyncio.run_coroutine_threadsafe(self._desk.picture(order), self._loop)
        try:
            output = self._await(handler, order, work)
        except Busy as busy:
            handler.answer_json(503, {"detail": str(busy)}, {"Retry-After": str(round(busy.after))})
        except EngineFailure as failure:
            code = 422 if failure.kind in _NOT_UNDERSTOOD else 504 if failure.kind in _LATE else 502
            if not order.gone.is_set():
                handler.answer_json(code, {"detail": str(failure), "kind": failure.kind})
        else:
            result = output.result
            told = {"X-Seed": result.get("seed"), "X-Model": result.get("model"), "X-Seconds": result.get("generation_time")}
            told["X-Total-Seconds"] = round(time.monotonic() - asked, 4)
            headers = {name: _printable(value) for name, value in told.items() if value is not None}
            handler.answer(200, output.png, "image/png", headers)

    def _await(self, handler: Handler, order: Order, work: concurrent.futures.Future[Output]) -> Output:
        """Waits for the picture, and has it given up as soon as its caller has gone."""
        while True:
            try:
                return work.result(_LOOK_SECONDS)
            except concurrent.futures.TimeoutError:
                if work.done():
                    return work.result()
            if _gone(handler.connection):
                self._loop.call_soon_threadsafe(self._desk.cancel, order)


def _printable(value: Any) -> str:
    return str(value).encode("ascii", "replace").decode("ascii").replace("\r", " ").replace("\n", " ")


def _gone(connection: socket.socket) -> bool:
    """Whether who called has closed the connection."""
    try:
        if not select.select([connection], [], [], 0)[0]:
            return False
        return connection.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return True


def _payload(handler: Handler) -> Tuple[Optional[Dict[str, Any]], int, str]:
    """The body as a job's payload, or a status and a sentence."""
    length = handler.headers.get("Content-Length", "")
    if handler.headers.get("Transfer-Encoding") or not (length.isascii() and length.isdigit()):
        return None, 411, "The body must be JSON, its length said in Content-Length."
    if len(length) > 12 or int(length) > BODY_BYTES:
        return None, 413, f"The body may have {BODY_BYTES} bytes."
    body = handler.body(int(length))
    if body is None:
        return None, 408, "The body did not come in time."
    try:
        payload = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None, 400, "The body is not JSON in UTF-8."
    if not isinstance(payload, dict):
        return None, 400, 'The body must be a JSON object with a job\'s payload, such as {"prompt": "a red circle"}.'
    return payload, 200, ""
