"""A service on its way to where Swarm has it at the end: the operation ``deploy``.

``create`` makes a service or, where there is one of that name, changes it; ``update`` and ``rollback`` want one. It succeeds where Swarm
says completed; a rollback by Swarm itself is a failure that is told as what it is. What Swarm has not settled when this ends is taken back:
a new service is removed, a changed one goes back to what it was. One that was forced on a swarm without room stays, to wait for a node.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from fleet_api.errors import Conflict, FleetError, NotFound
from fleet_api.operations.models import Operation
from fleet_api.operations.service import OperationService
from fleet_api.operations.work import OperationFailed, Work
from fleet_api.services.environment import Environments
from fleet_api.services.running import spec, terminal
from fleet_api.services.running.schemas import Deployed, ResourcesBody, ServiceBody, ServiceChange
from fleet_api.services.running.service import Raw, RunningServices
from fleet_api.services.running.terminal import Verdict
from fleet_api.services.undoing import made_or_undone

DEPLOY = "deploy"
LOOK_SECONDS = 0.5
PENDING_SECONDS = 20.0
"""A task that no node takes for so long is not going to be taken."""

STEADY_SECONDS = 3.0
"""How long the tasks of a new service must run to be told as running; of an update Swarm itself watches that."""

LONGEST_SECONDS = 1800.0
UNTAKEN = "no node takes its tasks"


class Deploying:
    """The kind ``deploy``, and the doors that ask for it."""

    name = DEPLOY
    waits_only = True  # Swarm does the work

    def __init__(self, services: RunningServices, operations: OperationService) -> None:
        self._services = services
        self._operations = operations
        self._environments = Environments()

    async def start(self, action: str, name: str, request: dict[str, Any], caller: str, *, force: bool = False) -> Operation:
        """Queue a deploy. Raises Conflict while another one of the same service is at work."""
        self.check_free(name)
        part = {"create": "service", "update": "change"}.get(action, "")
        env = request.get(part, {}).get("env") or []
        if env:
            request = {**request, part: {**request[part], "env": self._environments.kept(env)}}
        wanted = {"action": action, "name": name, "force": force, **request}
        row = await self._operations.submit(DEPLOY, wanted, caller=caller)
        self._environments.keep_only({each.id for each in self._operations.unfinished()})
        self._environments.put(row.id, env)  # nothing of it runs before this: submitting does not yield after its write
        return row

    def check_free(self, name: str) -> None:
        """Raise Conflict while a deploy of this service is at work, one that builds its image first too."""
        for row in self._operations.unfinished():
            if not row.checking and _service_of(row) == name:
                raise Conflict(f"Service {name} is being deployed already, by operation {row.id}; wait for its end, or cancel it.")

    def title(self, request: dict[str, Any]) -> str:
        """See :class:`Kind`."""
        verb = {"create": "Deploy", "update": "Update", "rollback": "Roll back"}[request["action"]]
        return f"{verb} {request['name']}"

    def locks(self, request: dict[str, Any]) -> list[str]:
        """See :class:`Kind`. With it two never work on one service at once, also where one of them is a retry."""
        return [lock_of(request["name"])]

    async def retried(self, request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """See :class:`Kind`."""
        return request

    async def run(self, work: Work) -> None:
        """See :class:`Kind`."""
        request = work.request
        try:
            if request["action"] == "create":
                body = ServiceBody.model_validate(request["service"])
                body = body.model_copy(update={"env": self._environments.take(work.id, body.env)})
                await self.deploy_and_tell(body, work, force=request["force"])
                return
            if request["action"] == "update":
                change = ServiceChange.model_validate(request["change"])
                if change.env:
                    change = change.model_copy(update={"env": self._environments.take(work.id, change.env)})
                found = await self.update(request["name"], change, work, force=request["force"])
            else:
                found = await self.rollback(request["name"], work)
        except FleetError as error:
            raise work.failed(error) from error
        self._tell(found, work)

    async def deploy_and_tell(self, body: ServiceBody, work: Work, *, force: bool = False) -> None:
        """Deploy as a part of an operation. Raises OperationFailed, and FleetError for what is refused."""
        self._tell(await self.deploy(body, work, force=force), work)

    def _tell(self, found: Deployed, work: Work) -> None:
        work.result.update(found.model_dump(exclude={"operation_id"}))
        if found.status != "completed":
            code = f" (exit code {found.exit_code})" if found.exit_code is not None else ""
            cause = f": {found.error}{code}" if found.error else f": {found.message}"
            how = "was rolled back" if found.status == "rolled_back" else "failed"
            raise OperationFailed(f"The deploy of {found.name} {how}{cause.rstrip('.')}.")

    async def deploy(self, body: ServiceBody, work: Work, *, force: bool = False) -> Deployed:
        """Make a service, or bring the one of that name to a new image, and wait for Swarm's word.

        A service that is there moves to the cluster that is asked for, and has as many GPUs a task as are asked for, if that is said. One
        that was made by this and never ran, or whose deploy was cancelled before it was seen to run, is removed.
        """
        try:
            there, _ = await self._services.raw(body.name)
        except NotFound:
            return await self._make(body, work, force)
        constraints = spec.in_cluster(there["Spec"], body.cluster) if body.cluster else None
        change = ServiceChange(
            image=body.image, replicas=body.replicas if body.mode == "replicated" else None, env=body.env or None, constraints=constraints,
            resources=ResourcesBody(gpu=body.resources.gpu) if body.resources.gpu is not None else None,
        )  # fmt: skip
        return await self.update(there["ID"], change, work, force=force)

    async def _make(self, body: ServiceBody, work: Work, force: bool) -> Deployed:
        nodes = await self._nodes_ready()  # before: a swarm that cannot tell is given nothing
        made = await made_or_undone(self._services.make(body, force=force), self._services.remove)
        work.tell("step", f"Service {body.name} is there; waiting for its tasks")
        try:
            found = await self._created(made, nodes, work)
        except BaseException:
            await asyncio.shield(self._taken_back(made))
            raise
        if found.status == "failed" and not (force and found.message == UNTAKEN):
            await self._services.remove(made)
            work.tell("note", f"Service {body.name} never ran, so it was removed")
        return found

    async def _taken_back(self, service_id: str) -> None:
        with contextlib.suppress(FleetError):
            await self._services.remove(service_id)

    async def update(self, name: str, change: ServiceChange, work: Work, *, force: bool = False) -> Deployed:
        """Change a service and wait for Swarm's word."""
        failed_before = await self._failures(name)
        before = await self._services.change(name, change, force=force)
        work.tell("step", f"Service {before['Spec']['Name']} is being updated")
        try:
            found = await self._updated(before, failed_before, work)
        except asyncio.CancelledError:
            await asyncio.shield(self._back(before))
            raise
        if found.status == "failed" and not (force and found.message == UNTAKEN) and await self._back(before):
            work.tell("note", f"Service {found.name} goes back to what it was")
        return found

    async def _back(self, before: Raw) -> bool:
        """Bring a service back to what it was where Swarm is still on its way from there; say whether that was done."""
        with contextlib.suppress(FleetError):
            service, _ = await self._services.raw(before["ID"])
            if service.get("PreviousSpec") == before["Spec"] and not terminal.settled(service):
                await self._services.rollback(before["ID"])
                return True
        return False

    async def rollback(self, name: str, work: Work) -> Deployed:
        """Take the last update back and wait for Swarm's word."""
        failed_before = await self._failures(name)
        before = await self._services.rollback(name)
        work.tell("step", f"Service {before['Spec']['Name']} goes back to what it was")
        found = await self._updated(before, failed_before, work)
        if found.status == "rolled_back":  # as was asked for
            return found.model_copy(update={"status": "completed", "error": None, "exit_code": None})
        return found

    async def _failures(self, name: str) -> set[str]:
        """Return the tasks that failed before, whose errors are not those of what comes now."""
        _, tasks = await self._services.raw(name)
        return {task["ID"] for task in tasks if terminal.last_failure([task])[0]}

    async def _nodes_ready(self) -> int:
        nodes = (await self._services.swarm.raw_nodes()).value
        return sum(each["Status"]["State"] == "ready" and each["Spec"]["Availability"] == "active" for each in nodes)

    async def _created(self, service_id: str, nodes: int, work: Work) -> Deployed:
        return await self._settled(service_id, work, lambda service, tasks: terminal.of_creation(service, tasks, nodes))

    async def _updated(self, before: Raw, known: set[str], work: Work) -> Deployed:
        started = (before.get("UpdateStatus") or {}).get("StartedAt")
        template = before["Spec"]["TaskTemplate"]

        def judge(service: Raw, tasks: list[Raw]) -> Verdict:
            fresh = [task for task in tasks if task["ID"] not in known]
            verdict = terminal.of_update(service, fresh, started)
            if not verdict.state and service["Spec"]["TaskTemplate"] == template and not _updating(service, started):
                return terminal.of_creation(service, fresh, 0)  # nothing of the tasks was changed: Swarm makes no update of it
            return verdict

        return await self._settled(before["ID"], work, judge)

    async def _settled(self, service_id: str, work: Work, judge: Any) -> Deployed:
        loop = asyncio.get_running_loop()
        started, pending_since, said = loop.time(), None, ""
        steady: tuple[frozenset[str], float] = (frozenset(), started)
        while True:
            try:
                service, tasks = await self._services.raw(service_id)
            except NotFound:
                raise Conflict("The service was removed while it was being deployed.") from None
            except FleetError as error:  # the swarm is without a leader for a moment, or for good
                if error.status not in (503, 504) or loop.time() - started > LONGEST_SECONDS:
                    raise
                await asyncio.sleep(LOOK_SECONDS)
                continue
            verdict: Verdict = judge(service, tasks)
            waits = terminal.waits_for(tasks)
            pending_since = (pending_since or loop.time()) if waits else None
            if not verdict.state and pending_since is not None and loop.time() - pending_since > PENDING_SECONDS:
                verdict = Verdict("failed", UNTAKEN, waits)
            if not verdict.state and loop.time() - started > LONGEST_SECONDS:
                verdict = Verdict("failed", f"it did not settle within {LONGEST_SECONDS:g} s", *terminal.last_failure(tasks))
            if verdict.running != steady[0]:
                steady = (verdict.running, loop.time())
            if verdict.state and not (verdict.running and loop.time() - steady[1] < STEADY_SECONDS):
                return Deployed(
                    status=verdict.state, service_id=service["ID"], name=service["Spec"]["Name"], message=verdict.message,
                    error=verdict.error, exit_code=verdict.exit_code,
                )  # fmt: skip
            states = _counted(tasks)
            if states != said:
                said = states
                work.tell("progress", states)
            await asyncio.sleep(LOOK_SECONDS)


def lock_of(service: str) -> str:
    """Return what an operation holds while it works on a service."""
    return f"service {service}"


def _service_of(row: Operation) -> str | None:
    """Return the service that an operation deploys, at once or after a build."""
    if row.kind == DEPLOY:
        return str(row.request["name"])
    service = row.request.get("service")
    return service.get("name") if isinstance(service, dict) else None


def _updating(service: Raw, started: str | None) -> bool:
    status = service.get("UpdateStatus") or {}
    return bool(status.get("State")) and status.get("StartedAt") != started


def _counted(tasks: list[Raw]) -> str:
    live = [task["Status"]["State"] for task in tasks if task.get("DesiredState") in ("running", "ready")]
    return ", ".join(f"{live.count(state)} {state}" for state in sorted(set(live))) or "no tasks yet"
