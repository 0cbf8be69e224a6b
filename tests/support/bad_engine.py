"""An engine that does what a job's prompt says: ``hang``, ``crash``, ``leak``, ``burst``, or a picture of the simulated engine.

``BAD_ENGINE_BATCH`` is how many pictures it makes at once.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from typing import Any

from gpu_inference.engine import wire
from gpu_inference.engine.sim import picture

STEPS = 5
LEAK_MIB, BURST_MIB = 8, 2048


class Engine:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.kept: list[bytearray] = []
        self.batch = int(os.environ.get("BAD_ENGINE_BATCH", "1"))

    def send(self, blob: bytes = b"", **message: Any) -> None:
        self.sock.sendall(wire.encode(message, blob))

    def run(self) -> None:
        models = [{"name": name, "native_size": 64} for name in ("sim-a", "sim-b")]
        told = {"backend": "bad", "devices": ["none"], "samplers": ["euler"], "models": models, "batch": self.batch}
        self.send(type="hello", pid=os.getpid(), **told)
        while True:
            frame = wire.receive(self.sock)
            if frame is None:
                return
            job = str(frame.message.get("job", ""))
            if frame.type == "load":
                self.send(type="loaded", job=job, model=frame.message.get("model") or "sim-a")
                self.send(type="ready", job=job)
            elif frame.type == "render":
                self.render(wire.orders(frame.message))

    def render(self, orders: list[tuple[str, dict[str, Any]]]) -> None:
        self.send(type="loaded", job=orders[0][0], model="sim-a")
        for step in range(STEPS):
            for job, _ in orders:
                self.send(type="progress", job=job, step=step, steps=STEPS, phase="denoising")
            time.sleep(0.02)
            for _, payload in orders if step == 2 else ():
                getattr(self, str(payload["prompt"]), lambda: None)()
        for job, payload in orders:
            result = {
                "seed": payload.get("seed", 0), "model": "sim-a", "sampler": "euler", "steps": STEPS, "width": 64, "height": 64,
                "native_width": 8, "native_height": 8, "generation_time": 0.1, "batch": len(orders),
            }  # fmt: skip
            self.send(picture(0, payload), type="result", job=job, result=result)

    def hang(self) -> None:
        time.sleep(600)

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def leak(self) -> None:
        while True:
            self.kept.append(bytearray(os.urandom(1)) * (LEAK_MIB << 20))
            time.sleep(0.05)

    def burst(self) -> None:
        """With its agent held still, which else would be quicker than the kernel."""
        os.kill(os.getppid(), signal.SIGSTOP)
        self.kept.append(bytearray(b"x") * (BURST_MIB << 20))


if __name__ == "__main__":
    Engine(socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))).run()
