"""The control plane is killed between a job's end and its message: the message goes out after the next start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_api.app import create_app
from fleet_api.kit.clock import SystemClock
from fleet_api.settings import Settings
from tests.support.client import client_of
from tests.support.receiver import receiver

LOOPBACK = ["127.0.0.0/8"]

DIES = """
import os, signal, sys
from pathlib import Path
from fleet_api.app import create_app
from fleet_api.migrate import upgrade
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent
from tests.support.client import client_of

home, url, when = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
settings = Settings(home=home, port=0, callback_networks=["127.0.0.0/8"])
home.mkdir()
upgrade(settings.database)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

class Dying:
    async def post(self, *_):
        die()

with client_of(create_app(settings)) as api:
    fleet = api.app.state.fleet
    agent = FakeAgent.enrol(api, "agx0")
    agent.lease()
    body = {"job_type": "image_gen", "payload": {"prompt": "x"}, "callback_url": url}
    print(api.post("/api/queue/jobs", json=body).json()["job_id"], flush=True)
    if when == "before":
        fleet.jobs.finished = die
    else:
        fleet.callbacks.courier.http = Dying()
    lease = agent.take()
    agent.finish(lease)
    import time
    time.sleep(20)
"""


@pytest.mark.parametrize("when", ["before", "during"])
def test_kill_9_between_the_end_and_the_message_loses_nothing(tmp_path: Path, when: str) -> None:
    home = tmp_path / "killed"
    root = Path(__file__).parents[2]
    with receiver() as there:
        dead = subprocess.run(
            [sys.executable, "-c", DIES, str(home), there.url, when], capture_output=True, text=True, cwd=root, timeout=60
        )
        assert dead.returncode == -9, dead.stderr
        job_id = dead.stdout.strip()
        assert there.got == []
        with client_of(create_app(Settings(home=home, port=0, callback_networks=LOOPBACK), SystemClock())) as api:
            [got] = there.wait()
            api.portal.call(api.app.state.fleet.callbacks.courier.settled)
            assert json.loads(got.body)["data"]["job_id"] == job_id
            assert api.get(f"/api/queue/jobs/{job_id}").json()["callback"] == "delivered"
