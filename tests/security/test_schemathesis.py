"""The live API against its own description, by schemathesis: no 500, no undocumented status, no answer that breaks its schema."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_api.settings import Settings
from tests.support.agent import FakeAgent
from tests.support.busy_agent import working
from tests.support.live import Live, live

pytestmark = pytest.mark.security

CONFIG = Path(__file__).with_name("schemathesis.toml")
SHORT_SECONDS, SOAK_SECONDS = 40, 600
LEFT_OUT = (
    "ignored_auth",  # on loopback no key is wanted; who may do what is test_matrix.py's
    "positive_data_acceptance",  # rules that JSON Schema cannot say, such as a model that exists
    "use_after_free",  # DELETE of a job cancels it, as the contract has it; the job can still be looked at
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(Settings(home=tmp_path_factory.mktemp("fuzz"), port=0, generate_timeout=5)) as found:
        yield found


@pytest.fixture(scope="module")
def agent(api: Live) -> Iterator[FakeAgent]:
    token = asyncio.run_coroutine_threadsafe(api.fleet.enrolment.token(None, 3600), api.loop).result(10)
    with working(api.url, token) as found:
        yield found


def fuzz(api: Live, seconds: int, folder: Path, *more: str) -> None:
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG), "run", f"{api.url}/openapi.json",
        "--checks", "all",
        "--exclude-checks", ",".join(LEFT_OUT), "--phases", "examples,coverage,fuzzing,stateful", "--max-time", str(seconds),
        "--continue-on-failure", "--request-timeout", "20", "--suppress-health-check", "all", "--no-shrink",
        "--exclude-path", "/api/agents/lease", "--warnings", "off",
        "--exclude-operation-id", "remove_node_api_nodes__node_id__delete",  # it finds the one agent, and then all answers are 503
        *more,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "150"})
    (folder / "schemathesis.txt").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2_000:]
    print(done.stdout[-3_000:])


@pytest.mark.timeout(300)
def test_everything_a_little(api: Live, agent: FakeAgent, tmp_path: Path) -> None:
    fuzz(api, SHORT_SECONDS, tmp_path, "--seed", "1")


@pytest.mark.timeout(300)
def test_what_agents_call(api: Live, agent: FakeAgent, tmp_path: Path) -> None:
    fuzz(api, 15, tmp_path, "--include-tag", "agents", "-H", f"Authorization: {agent.headers['Authorization']}", "--seed", "1")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_everything_for_ten_minutes(api: Live, agent: FakeAgent, tmp_path: Path) -> None:
    fuzz(api, SOAK_SECONDS, tmp_path)
