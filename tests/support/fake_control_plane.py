"""A control plane small enough to read: enough of the agent protocol to test an agent against, on a loopback port."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "enrolment-token-for-tests"
CREDENTIAL = "credential-for-tests"


@dataclass
class Job:
    """A job and all that was said of it."""

    job_id: str
    payload: dict[str, Any]
    job_type: str = "image_gen"
    timeout_seconds: float = 60.0
    state: str = "queued"
    attempt: int = 0
    incarnation: str = ""
    request_id: str = ""
    steps: list[int] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    result: dict[str, Any] | None = None
    output: bytes = b""
    completions: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    stop_asked: bool = False
    beats: list[float] = field(default_factory=list)


class FakeControlPlane:
    """Use as a context manager. ``interfere`` may answer a call (method, path) with a status instead."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.beats: list[dict[str, Any]] = []
        self.calls: list[tuple[str, str, str]] = []
        self.leases: list[dict[str, Any]] = []
        self.previews: list[tuple[str, bytes]] = []
        self.uploads: dict[str, bytes] = {}
        self.enrolments: list[dict[str, Any]] = []
        self.credential = CREDENTIAL
        self.tokens = {TOKEN}
        self.interfere: Callable[[str, str], int | None] | None = None
        self.grant_seconds = 0.0
        self.batches = True
        self.changed = threading.Condition()
        self._polls: dict[str, int] = {}
        self._closing = False
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    def __enter__(self) -> FakeControlPlane:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Starts to listen, on the same port as before if it was open before."""
        plane = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

            def do_POST(self) -> None:
                plane._answer(self)

            do_PUT = do_POST  # noqa: N815

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._closing = False
        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stops to listen; polls that are open end."""
        with self.changed:
            self._closing = True
            self.changed.notify_all()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def submit(self, job_id: str, **payload: Any) -> Job:
        """Queues an image job."""
        defaults = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 4, "seed": 1, "scheduler": "euler"}
        return self.add(Job(job_id, {**defaults, **payload}))

    def add(self, job: Job) -> Job:
        """Queues ``job``."""
        with self.changed:
            self.jobs[job.job_id] = job
            self.changed.notify_all()
        return job

    def stop(self, job: Job) -> None:
        """Cancels ``job``."""
        with self.changed:
            job.stop_asked = True
            self.changed.notify_all()

    def wait(self, condition: Callable[[], Any], seconds: float = 20.0, what: str = "") -> Any:
        """Waits until ``condition`` is true."""
        with self.changed:
            end = time.monotonic() + seconds
            while True:
                value = condition()
                if value:
                    return value
                left = end - time.monotonic()
                assert left > 0, f"did not happen within {seconds} s: {what}; jobs: {self.jobs}"
                self.changed.wait(min(left, 0.2))

    def finished(self, job: Job, seconds: float = 20.0) -> Job:
        """Waits until ``job`` is completed."""
        self.wait(lambda: job.state == "completed", seconds, f"{job.job_id} completed")
        return job

    def ended(self, job: Job, seconds: float = 20.0) -> Job:
        """Waits until ``job`` is completed, failed or cancelled."""
        self.wait(lambda: job.state not in ("queued", "leased"), seconds, f"{job.job_id} ended")
        return job

    # What follows runs in the server's threads.

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        path = handler.path.rpartition("/api/agents/")[2]
        authorised = handler.headers.get("Authorization") == f"Bearer {self.credential}"
        with self.changed:
            self.calls.append((handler.command, path, handler.headers.get("Authorization", "")))
            status, reply = 401, {"detail": "Unknown credential."}
            forced = self.interfere(handler.command, path) if self.interfere else None
            if self._closing:
                handler.close_connection = True
                return
            if forced is not None:
                status, reply = forced, {"detail": "Interference."}
            elif path == "enrol":
                status, reply = self._enrol(json.loads(body))
            elif authorised and path.startswith("previews/"):
                self.previews.append((path, body))
                status, reply = 200, {}
            elif authorised and path.startswith("uploads/"):
                status, reply = self._upload(path, body, handler.headers.get("X-Content-SHA256", ""))
            elif authorised:
                status, reply = getattr(self, "_" + path)(json.loads(body))
            self.changed.notify_all()
            if self._closing:
                handler.close_connection = True
                return
        content = json.dumps(reply).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def _enrol(self, message: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if message["token"] not in self.tokens:
            return 401, {"detail": "The token is not known."}
        self.enrolments.append(message)
        return 200, {"node_id": "node-1", "credential": self.credential}

    def _free_old(self, incarnation: str) -> None:
        for job in self.jobs.values():
            if job.state == "leased" and job.incarnation != incarnation:
                job.state = "queued"

    def _stops(self, incarnation: str) -> list[dict[str, Any]]:
        held = [job for job in self.jobs.values() if job.state == "leased" and job.incarnation == incarnation and job.stop_asked]
        return [{"job_id": job.job_id, "attempt": job.attempt} for job in held]

    def _lease(self, message: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.leases.append(message)
        self._free_old(message["incarnation"])
        end = time.monotonic() + message["wait_seconds"]
        mine = self._polls[message["incarnation"]] = self._polls.get(message["incarnation"], 0) + 1
        self.changed.notify_all()
        while not self._closing:
            stop = self._stops(message["incarnation"])
            current = mine == self._polls[message["incarnation"]]  # a newer poll ends an older one
            job = self._next(message) if message["want_job"] and current else None
            if job is not None and self.grant_seconds:
                due = time.monotonic() + self.grant_seconds
                while time.monotonic() < due:
                    self.changed.wait(0.05)
            if job is not None or stop:
                more = self._companions(job, message) if job is not None else []
                return 200, {"lease": self._lease_of(job) if job else None, "companions": more, "stop": stop}
            if time.monotonic() >= end or not current:
                break
            self.changed.wait(0.2)
        return 200, {"lease": None, "load": None, "stop": []}

    def _next(self, message: dict[str, Any]) -> Job | None:
        for job in self.jobs.values():
            if job.state == "leased" and job.request_id == message["request_id"]:
                return job
        for job in self.jobs.values():
            if job.state == "queued":
                job.state, job.incarnation, job.request_id = "leased", message["incarnation"], message["request_id"]
                job.attempt += 1
                return job
        return None

    def _companions(self, first: Job, message: dict[str, Any]) -> list[dict[str, Any]]:
        """The other jobs of a batch: those that this very request was given, else as many of those that wait as it takes."""
        jobs = [job for job in self.jobs.values() if job.state == "leased" and job.request_id == message["request_id"] and job is not first]
        while self.batches and len(jobs) + 1 < message["batch_limit"] and (job := self._next({**message, "request_id": uuid.uuid4().hex})):
            job.request_id = message["request_id"]
            jobs.append(job)
        return [self._lease_of(job) for job in jobs]

    def _lease_of(self, job: Job) -> dict[str, Any]:
        return {
            "job_id": job.job_id,
            "attempt": job.attempt,
            "job_type": job.job_type,
            "payload": job.payload,
            "timeout_seconds": job.timeout_seconds,
        }

    def _beat(self, message: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.beats.append(message)
        self._free_old(message["incarnation"])
        for held in message["holding"]:
            job = self.jobs.get(held["job_id"])
            if job is not None and job.attempt == held["attempt"]:
                job.beats.append(time.monotonic())
                job.steps.append(held["step"])
                job.phases.append(held["phase"])
        return 200, {"stop": self._stops(message["incarnation"])}

    def _upload(self, path: str, body: bytes, digest: str) -> tuple[int, dict[str, Any]]:
        _, job_id, attempt = path.split("/")
        job = self.jobs.get(job_id)
        if job is None or job.attempt != int(attempt) or job.state not in ("leased", "completed"):
            return 410, {"detail": "The attempt is closed."}
        if hashlib.sha256(body).hexdigest() != digest:
            return 422, {"detail": "The digest differs."}
        self.uploads[digest] = body
        return 200, {}

    def _complete(self, message: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        job = self.jobs.get(message["job_id"])
        if job is None or job.attempt != message["attempt"] or job.state not in ("leased", "completed"):
            return 410, {"detail": "The attempt is closed."}
        if job.state == "leased":
            job.state, job.result, job.output = "completed", message["result"], self.uploads[message["sha256"]]
            job.completions += 1
        return 200, {}

    def _fail(self, message: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        job = self.jobs.get(message["job_id"])
        if job is None or job.attempt != message["attempt"] or job.state != "leased":
            return 410, {"detail": "The attempt is closed."}
        job.failures.append(message)
        job.state = "queued" if message["retry"] and not job.stop_asked else "cancelled" if job.stop_asked else "failed"
        return 200, {}
