"""The process of one operation: runs a playbook under ansible-runner and tells of it on standard output, one JSON object a line.

It is a subreaper that holds the operation's lock file, so that nothing of the play outlives it unseen. Its order comes as the first
line of standard input; the word ``cancel``, or the end of standard input (the control plane is gone), ends the play:
SIGINT to Ansible, whose workers end with it, and after :data:`GRACE_SECONDS` SIGKILL to all that is left. Nothing secret passes here.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from fleet_api.adapters.ansible.events import told
from fleet_api.kit.descendants import descendants, end, end_below

PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 3.0
CANCELLED = 130


class Child:
    """One play. ``order`` holds ``folder``, ``lock``, ``playbook``, ``inventory``, ``check``, ``forks`` and ``environment``."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._cancelled = threading.Event()
        self._over = threading.Event()
        self._writing = threading.Lock()

    def run(self) -> int:
        """Run the play to its end and return Ansible's exit code, or 130 when it was cancelled."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        lock = os.open(self._order["lock"], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        threading.Thread(target=self._listen, daemon=True).start()
        code = CANCELLED if self._cancelled.is_set() else self._play()
        self._over.set()
        end_below(os.getpid(), GRACE_SECONDS)
        if self._cancelled.is_set():
            code = CANCELLED
        self.say({"type": "exit", "text": "", "code": code})
        return 0

    def say(self, word: dict[str, Any]) -> None:
        """Write one line to the control plane; without one, nobody is told."""
        text = json.dumps(word, separators=(",", ":"), default=str)
        with self._writing:
            try:
                sys.stdout.write(text + "\n")
                sys.stdout.flush()
            except (OSError, ValueError):
                self._cancelled.set()

    def cancel(self) -> None:
        """Note that the play is to end; whoever listens to standard input, which closes at the same time, ends it."""
        self._cancelled.set()

    def _play(self) -> int:
        import ansible_runner  # 0.25 s

        order = self._order
        runner = ansible_runner.run(
            private_data_dir=order["folder"],
            playbook=order["playbook"],
            inventory=order["inventory"],
            envvars=order["environment"],
            cmdline="--check --diff" if order["check"] else "--diff",
            forks=order["forks"] or None,
            settings={"pexpect_timeout": 1, "suppress_ansible_output": True, "job_timeout": 0, "idle_timeout": 0},
            event_handler=self._event,
            quiet=True,
            suppress_env_files=True,
            suppress_output_file=True,
        )
        return int(runner.rc if runner.rc is not None else 1)

    def _event(self, event: dict[str, Any]) -> bool:
        word = told(event)
        if word is not None:
            self.say(word)
        return False  # keeps ansible-runner from writing a file for each

    def _listen(self) -> None:
        for line in sys.stdin:
            if line.strip() == "cancel":
                break
        self._cancelled.set()
        self._interrupt()

    def _interrupt(self) -> None:
        """Ask Ansible to end, then end what remains."""
        deadline = time.monotonic() + GRACE_SECONDS
        leaders: set[int] = set()
        while time.monotonic() < deadline and not self._over.is_set():
            fresh = _leaders() - leaders  # Ansible may have been starting while the word came
            end(fresh, signal.SIGINT)
            leaders |= fresh
            if leaders and not leaders & descendants(os.getpid()):
                break
            time.sleep(0.05)
        end_below(os.getpid(), GRACE_SECONDS)


def _leaders() -> set[int]:
    """Return the ansible-playbook processes that are direct children."""
    found = set()
    for pid in descendants(os.getpid()):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
            argv = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == os.getpid() and b"ansible-playbook" in argv:
            found.add(pid)
    return found


def main() -> int:
    """Read the order and do it."""
    child = Child(json.loads(sys.stdin.readline()))
    signal.signal(signal.SIGTERM, lambda *_: child.cancel())  # sent by the kernel when the control plane ends
    return child.run()


if __name__ == "__main__":
    sys.exit(main())
