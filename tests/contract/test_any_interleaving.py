"""Whatever callers, agents, time and restarts do, and in whichever order: the state machine holds, and no job is lost or done twice."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Connection, select

from fleet_api.app import create_app
from fleet_api.jobs import repository
from fleet_api.jobs.models import Attempt, Job
from fleet_api.jobs.states import ENDED, LOSS_LIMIT
from fleet_api.outputs.models import Output
from fleet_api.settings import Settings
from gpu_inference.protocol import LEASE_SECONDS
from tests.support.agent import CAPABILITIES, FakeAgent, png
from tests.support.client import client_of
from tests.support.clock import ManualClock

EXAMPLES, STEPS = 40, 40
AGENTS = 3
MODELS = ("fleet-shapes", "other-model")
MOST_OPEN = 8
DRAIN_ROUNDS = 80
LONG = 1_000.0  # seconds after which no quarantine and no back-off lasts
LEGAL = {
    "queued": {"processing", "cancelled"},
    "processing": {"queued", "completed", "failed", "cancelled"},
    "completed": set(),
    "failed": {"queued"},
    "cancelled": {"queued"},
}
ANY = st.integers(0, 1_000)

Rows = dict[str, tuple[Job, list[Attempt]]]


def rows_of(db: Connection) -> tuple[Rows, list[tuple[str, str, str]], dict[str, int]]:
    """Return jobs with their attempts, outputs as (file, job, digest), and the tally of states."""
    jobs = [Job(**row) for row in db.execute(select(repository.jobs)).mappings()]
    outputs = Output.__table__  # type: ignore[attr-defined]
    files = [tuple(row) for row in db.execute(select(outputs.c.filename, outputs.c.job_id, outputs.c.sha256))]
    tally: dict[str, int] = {}
    for state, _, _, number in repository.counts(db):
        tally[state] = tally.get(state, 0) + number
    return {job.id: (job, repository.attempts_of(db, job.id)) for job in jobs}, files, tally


def reachable(before: str, after: str, attempts: int) -> bool:
    """Return whether legal transitions lead from one state to another with so many new attempts."""
    seen = {(before, 0)}
    edge = set(seen)
    while edge:
        edge = {(new, made + (new == "processing")) for state, made in edge for new in LEGAL[state]} - seen
        edge = {each for each in edge if each[1] <= attempts}
        seen |= edge
    return (after, attempts) in seen


class Interleaving(RuleBasedStateMachine):
    """One control plane, three agents. A rule with nothing to do does nothing: what is drawn may not hang on what happened."""

    folder: Path
    template: Path
    edges: Counter[tuple[str, str]]
    number = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).number += 1
        home = self.folder / f"home-{self.number}"
        home.mkdir()
        self.settings = Settings(home=home, port=0, create_per_minute=100_000, create_burst=100_000)
        shutil.copy(self.template, self.settings.database)
        self.clock = ManualClock()
        self.context: Any = None
        self.agents: list[FakeAgent] = []
        self.leases: list[tuple[FakeAgent, str, dict[str, Any]]] = []
        self.submitted: list[str] = []
        self.retried: set[str] = set()
        self.heard: dict[tuple[str, int], float] = {}
        self.rows: Rows = {}
        self.start()

    def start(self) -> None:
        self.context = client_of(create_app(self.settings, self.clock))
        self.api = self.context.__enter__()
        for agent in self.agents:
            agent.api = self.api
        for key in self.heard:
            self.heard[key] = self.clock.monotonic()

    def teardown(self) -> None:
        try:
            if self.agents:
                self.drain()
        finally:
            self.context.__exit__(None, None, None)

    # -- what is known

    @property
    def fleet(self) -> Any:
        return self.api.app.state.fleet

    def look(self) -> tuple[Rows, list[tuple[str, str, str]], dict[str, int]]:
        return self.api.portal.call(self.fleet.db.read, rows_of)  # type: ignore[no-any-return]

    def pick(self, of: Iterable[Any], number: int) -> Any:
        """Choose one of several, of leases more often an open one than not."""
        choices = list(of)
        if number % 3 and choices and isinstance(choices[0], tuple):
            held = {(each.job.id, each.job.attempt) for each in self.fleet.open_leases.all()}
            choices = [each for each in choices if (each[2]["job_id"], each[2]["attempt"]) in held] or choices
        return choices[number % len(choices)] if choices else None

    def current(self, number: int) -> tuple[FakeAgent, str, dict[str, Any]] | None:
        """Choose a lease that its agent's present incarnation took; what old ones do is :meth:`ghost`."""
        return self.pick([each for each in self.leases if each[1] == each[0].incarnation], number)  # type: ignore[no-any-return]

    def is_open(self, agent: FakeAgent, incarnation: str, lease: dict[str, Any]) -> bool:
        job = self.look()[0][lease["job_id"]][0]
        mine = (agent.node_id, incarnation, lease["attempt"])
        return job.state == "processing" and (job.node_id, job.incarnation, job.attempt) == mine

    def speaking(self, agent: FakeAgent, incarnation: str) -> FakeAgent:
        """Return the agent as it was when it took a lease."""
        as_it_was = FakeAgent(self.api, agent.node_id, agent.headers["Authorization"].removeprefix("Bearer "))
        as_it_was.incarnation = incarnation
        return as_it_was

    # -- what happens

    @initialize()
    def agents_come(self) -> None:
        for number in range(AGENTS):
            agent = FakeAgent.enrol(self.api, f"agx{number}")
            agent.capabilities = {**CAPABILITIES, "loads": number == 0}
            agent.lease()
            self.agents.append(agent)
        for model, priority in zip(MODELS * 2, ("low", "normal", "normal", "high"), strict=True):
            self.submit_some(1, model, priority, 1, 3600)

    @rule(count=st.integers(1, 3), model=st.sampled_from(MODELS), priority=st.sampled_from(["low", "normal", "high"]),
          retries=st.integers(0, 4), timeout=st.sampled_from([20, 3600]))  # fmt: skip
    def submit(self, count: int, model: str, priority: str, retries: int, timeout: int) -> None:
        self.submit_some(count, model, priority, retries, timeout)

    def submit_some(self, count: int, model: str, priority: str, retries: int, timeout: int) -> None:
        if sum(job.state not in ENDED for job, _ in self.rows.values()) + count > MOST_OPEN:
            return
        body = {"job_type": "image_gen", "payload": {"prompt": "x", "model": model}, "priority": priority, "max_retries": retries,
                "timeout_seconds": timeout}  # fmt: skip
        answer = self.api.post("/api/queue/jobs/batch", json={"jobs": [body] * count})
        assert answer.status_code == 201, answer.text
        self.submitted += answer.json()["job_ids"]

    @rule(who=st.integers(0, AGENTS - 1), then=st.sampled_from(["hold", "hold", "finish", "fail", "give up"]))
    def lease(self, who: int, then: str) -> None:
        agent = self.agents[who]
        lease = self.take(agent)
        if lease is not None and then == "finish":
            agent.finish(lease)
        elif lease is not None and then != "hold":
            assert agent.fail(lease, retry=then == "fail").status_code == 204

    def take(self, agent: FakeAgent) -> dict[str, Any] | None:
        reply = agent.lease(wait=0.03)
        if reply["load"] is not None:
            agent.loaded_model = reply["load"]
        lease: dict[str, Any] | None = reply["lease"]
        if lease is not None:
            self.leases.append((agent, agent.incarnation, lease))
            self.heard[lease["job_id"], lease["attempt"]] = self.clock.monotonic()
            agent.loaded_model = lease["payload"]["model"]
        return lease

    @rule(which=ANY, step=st.integers(0, 20))
    def beat(self, which: int, step: int) -> None:
        chosen = self.current(which)
        if chosen is None:
            return
        agent, incarnation, lease = chosen
        mine = self.is_open(agent, incarnation, lease)
        stop = agent.beat(lease, step)
        assert stop == ([] if mine else [{"job_id": lease["job_id"], "attempt": lease["attempt"]}])
        if mine:
            self.heard[lease["job_id"], lease["attempt"]] = self.clock.monotonic()

    @rule(which=ANY, again=st.booleans(), colour=st.sampled_from(["red", "blue"]))
    def complete(self, which: int, again: bool, colour: str) -> None:
        """An attempt is completed: one that is open, an old one, one that was completed already, with the same picture or another."""
        chosen = self.current(which)
        if chosen is None:
            return
        agent, incarnation, lease = chosen
        data, mine = png(colour), self.is_open(agent, incarnation, lease)
        if not mine:
            self.check_late(agent, lease, data)
            return
        assert agent.upload(lease, data).status_code == 204
        for _ in range(2 if again else 1):
            assert agent.complete(lease, data).status_code == 204

    @rule(which=ANY)
    def ghost(self, which: int) -> None:
        """An agent that was restarted, or a copy of it, still delivers what its old self held."""
        chosen = self.pick([each for each in self.leases if each[1] != each[0].incarnation], which)
        if chosen is not None:
            self.check_late(self.speaking(chosen[0], chosen[1]), chosen[2], png("green"))

    def check_late(self, agent: FakeAgent, lease: dict[str, Any], data: bytes) -> None:
        attempts = self.look()[0][lease["job_id"]][1]
        own = next(each for each in attempts if each.attempt == lease["attempt"])
        same = own.outcome == "completed" and own.digest == hashlib.sha256(data).hexdigest()
        assert agent.upload(lease, data).status_code == 410
        assert agent.complete(lease, data).status_code == (204 if same else 410)
        assert agent.fail(lease).status_code == 410

    @rule(which=ANY, again=st.booleans(), kind=st.sampled_from(["error", "engine_died", "agent_stopped"]))
    def fail(self, which: int, again: bool, kind: str) -> None:
        chosen = self.current(which)
        if chosen is None:
            return
        agent, incarnation, lease = chosen
        mine = self.is_open(agent, incarnation, lease)
        assert agent.fail(lease, retry=again, kind=kind).status_code == (204 if mine else 410)

    @rule(which=ANY)
    def cancel(self, which: int) -> None:
        chosen = self.pick(self.submitted, which)
        if chosen is not None:
            state = self.look()[0][chosen][0].state
            wanted = 409 if state in ("completed", "failed") else 200
            assert self.api.delete(f"/api/queue/jobs/{chosen}").status_code == wanted

    @rule(which=ANY)
    def retry(self, which: int) -> None:
        chosen = self.pick([job for job, _ in self.rows.values() if job.state in ENDED], which)
        if chosen is not None:
            answer = self.api.post(f"/api/queue/jobs/{chosen.id}/retry")
            assert answer.status_code == (409 if chosen.state == "completed" else 200), answer.text
            self.retried.add(chosen.id)

    @rule(seconds=st.sampled_from([1.0, 5.0, 10.0, 14.0, 16.0, 30.0, LONG]))
    def time_passes(self, seconds: float) -> None:
        """Leases that were not heard of for their term lapse, and no others."""
        self.clock.advance(seconds)
        self.api.portal.call(self.fleet.leases.reap)
        self.api.portal.call(self.fleet.nodes.check_silence)
        for job, _ in self.look()[0].values():
            if job.state == "processing":
                assert self.clock.monotonic() - self.heard[job.id, job.attempt] <= LEASE_SECONDS
        for job_id, (before, _) in self.rows.items():
            after = self.look()[0][job_id][0]
            if before.state == "processing" and after.state != "processing":
                silent = self.clock.monotonic() - self.heard[job_id, before.attempt] > LEASE_SECONDS
                assert silent or before.timeout_seconds < LONG, "an attempt was ended for nothing"

    @rule(who=st.integers(0, AGENTS - 1))
    def agent_restarts(self, who: int) -> None:
        self.agents[who].restart()
        self.agents[who].loaded_model = None
        self.agents[who].beat()

    @rule(really=st.sampled_from([False, False, True]))
    def control_plane_restarts(self, really: bool) -> None:
        if really:
            self.context.__exit__(None, None, None)
            self.start()

    def drain(self) -> None:
        """In the end every job ends."""
        for _ in range(DRAIN_ROUNDS):
            if all(job.state in ENDED for job, _ in self.look()[0].values()):
                return
            self.clock.advance(LONG)
            self.api.portal.call(self.fleet.leases.reap)
            for agent in self.agents:
                lease = self.take(agent)
                if lease is not None:
                    agent.finish(lease)
        raise AssertionError([(job.id, job.state, job.model, job.attempt) for job, _ in self.look()[0].values() if job.state not in ENDED])

    # -- what is always so

    @invariant()
    def all_is_well(self) -> None:
        if not self.agents:
            return
        rows, files, tally = self.look()
        assert set(rows) == set(self.submitted), "a job was lost, or made of nothing"
        for job_id, (job, attempts) in rows.items():
            self.check_job(job, attempts)
            before = self.rows[job_id][0] if job_id in self.rows else job
            assert reachable(before.state, job.state, job.attempt - before.attempt), (before.state, job.state, before.attempt, job.attempt)
            if before.state != job.state:
                self.edges[before.state, job.state] += 1
            if before.state in ENDED and job.state != before.state:
                assert job_id in self.retried, "a job that had ended came back by itself"
        self.rows = rows
        self.retried.clear()
        self.check_memory([job for job, _ in rows.values()])
        self.check_files(rows, files)
        counted: dict[str, int] = {}
        for job, _ in rows.values():
            counted[job.state] = counted.get(job.state, 0) + 1
        assert {state: number for state, number in tally.items() if number} == counted

    def check_job(self, job: Job, attempts: list[Attempt]) -> None:
        assert [each.attempt for each in attempts] == list(range(1, job.attempt + 1))
        running = [each.attempt for each in attempts if each.ended_at is None]
        assert running == ([job.attempt] if job.state == "processing" else []), "two attempts are open, or the wrong one"
        assert all((each.outcome is None) == (each.ended_at is None) for each in attempts)
        completed = [each.attempt for each in attempts if each.outcome == "completed"]
        assert completed == ([job.attempt] if job.state == "completed" else []), "a job is completed once, by its last attempt"
        assert (job.finished_at is not None) == (job.state in ENDED)
        assert job.losses <= LOSS_LIMIT

    def check_memory(self, jobs: list[Job]) -> None:
        queued = {job.id for job in jobs if job.state == "queued"}
        running = {(job.id, job.attempt, job.node_id) for job in jobs if job.state == "processing"}
        index = self.fleet.jobs.index
        assert set(index.ids()) == queued
        assert len(index) == len(queued)
        assert all(job_id in index for job_id in queued)
        assert {(each.job.id, each.job.attempt, each.node_id) for each in self.fleet.open_leases.all()} == running
        held = {(job_id, attempt, node.id) for node in self.fleet.nodes.all() for job_id, attempt in node.jobs.items()}
        assert held == running, "what the nodes hold is not what the rows say"

    def check_files(self, rows: Rows, files: list[tuple[str, str, str]]) -> None:
        done = {f"image_{job_id}.png": attempts[-1].digest for job_id, (job, attempts) in rows.items() if job.state == "completed"}
        folder = self.settings.outputs
        assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.png")} == done
        assert sorted((name, digest) for name, _, digest in files) == sorted(done.items())
        assert list((folder / ".incoming").iterdir()) == [], "an upload of a closed attempt was left"


@pytest.mark.timeout(240)
def test_any_interleaving_keeps_the_state_machine_and_conserves_jobs(_empty_database: Path, tmp_path: Path) -> None:  # noqa: PT019
    class Machine(Interleaving):
        folder, template, edges = tmp_path, _empty_database, Counter[tuple[str, str]]()

    profile = settings(
        max_examples=EXAMPLES, stateful_step_count=STEPS, derandomize=True, deadline=None, database=None, print_blob=False,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    run_state_machine_as_test(Machine, settings=profile)  # type: ignore[no-untyped-call]
    assert {after for _, after in Machine.edges} == set(LEGAL), f"the rules no longer lead everywhere: {Machine.edges}"
