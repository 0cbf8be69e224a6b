"""Has on the node the engines of TensorRT that the control plane orders: fetched where another node built the same, else built here.

What builds is a child process of its own, ``fleet-worker engines``, as an engine's own is: TensorRT may crash, and takes minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import sys
from typing import Any, AsyncIterator, Dict, List, Optional, Sequence

from gpu_inference.agent import logs, oom
from gpu_inference.agent.client import ApiError
from gpu_inference.agent.engine_process import EngineProcess
from gpu_inference.agent.engines_shared import EngineShare, NotGiven
from gpu_inference.agent.settings import PACKAGE, PICTURES_SETTING, PLANS_SETTING, PREFIX, Settings
from gpu_inference.agent.turn import Turn
from gpu_inference.agent.within import within
from gpu_inference.protocol_engines import BuildOrder, BuildReport

COMMAND = (sys.executable, "-m", "gpu_inference", "engines")
UNLOAD_SECONDS = 300.0
"""So long the engine may take to load what it is at, and to let go of it."""

SILENT_SECONDS = 7200.0
"""What builds tells of each network it begins; one that takes longer than this hangs."""

_LONGEST_REASON = 400


def can_build() -> bool:
    """Whether TensorRT is installed; whether its builder is, and a GPU there, is seen once it is told to build."""
    return importlib.util.find_spec("tensorrt") is not None


class BuildFailed(Exception):
    """The engines are not there; the text is one sentence."""


class Builder:
    """One order at a time. ``report`` is what beats tell of it; ``changed`` is set whenever that changes."""

    def __init__(
        self,
        settings: Settings,
        engine: EngineProcess,
        turn: Turn,
        share: EngineShare,
        changed: asyncio.Event,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._turn = turn
        self._share = share
        self._changed = changed
        self._command = list(command)
        self._silent_seconds = SILENT_SECONDS
        self._task: Optional[asyncio.Task[None]] = None
        self._given_up = asyncio.Event()
        self.report: Optional[BuildReport] = None
        self.building = False

    def heed(self, order: Optional[BuildOrder]) -> None:
        """Begins what is ordered, and gives up what is ordered no more."""
        if order is None:
            self._give_up()
            self.report = None
        elif self.report is None or order.id != self.report.id:
            earlier = self._give_up()
            self.report, self._given_up = BuildReport(id=order.id), asyncio.Event()
            self._task = asyncio.ensure_future(self._work(order, self.report, self._given_up, earlier))

    async def close(self) -> None:
        """Gives up, and waits until the child is gone."""
        task = self._give_up()
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)

    def _give_up(self) -> Optional[asyncio.Task[None]]:
        task, self._task = self._task, None
        self._given_up.set()
        if task is not None and not task.done():
            task.cancel()
        return task

    def _say(self, report: BuildReport, state: str, **more: Any) -> None:
        report.state = state
        for name, value in more.items():
            setattr(report, name, value)
        self._changed.set()

    async def _work(self, order: BuildOrder, report: BuildReport, given_up: asyncio.Event, earlier: Optional[asyncio.Task[None]]) -> None:
        if earlier is not None:
            await asyncio.gather(earlier, return_exceptions=True)
        try:
            wanted = await self._fetch(order, report)
            if report.done < report.total and not await self._build(order, report, given_up):
                return
            await self._give(report, wanted)
            self._say(report, "done", what="")
            logs.info("The engines of a model are there.", model=order.model, built=report.built, fetched=report.fetched)
        except (BuildFailed, OSError) as error:
            reason = str(error) if isinstance(error, BuildFailed) else f"The engines cannot be kept ({error.strerror})."
            logs.error("The engines of a model are not there.", model=order.model, reason=reason)
            self._say(report, "failed", error=reason[:500])
        except Exception as error:  # a builder that hangs about would keep the order open for ever
            logs.error("The agent failed at building engines.", model=order.model, reason=repr(error)[:500])
            self._say(report, "failed", error=f"The agent failed with {type(error).__name__}; its log tells more.")

    async def _fetch(self, order: BuildOrder, report: BuildReport) -> List[Dict[str, Any]]:
        """What is wanted; that of it which the store has is there afterwards. Jobs go on meanwhile."""
        self._say(report, "fetching")
        wanted = await self._wanted(order)
        self._say(report, "fetching", total=len(wanted), done=sum(each["there"] for each in wanted))
        for each in wanted:
            if not each["there"] and await self._fetched(each, wanted):
                self._say(report, "fetching", fetched=report.fetched + 1, done=report.done + 1)
        return wanted

    async def _build(self, order: BuildOrder, report: BuildReport, given_up: asyncio.Event) -> bool:
        """Builds what is lacking, in a turn of its own; False where it was given up before that came."""
        lacking = report.total - report.done
        self._turn.reserve()
        try:
            self._say(report, "waiting", done=0)
            if not await self._turn.take(given_up):
                return False
            self.building = True
            try:
                await self._let_go()
                self._say(report, "building")
                async for said in self._lines("build", order.model, "--lines", *_with_loras(order)):
                    self._say(report, "building", what=str(said["what"])[:64], done=int(said["done"]), total=int(said["all"]))
            finally:
                self.building = False
                self._turn.leave()
        finally:
            self._turn.release()
        self._say(report, "building", built=lacking)
        return True

    async def _give(self, report: BuildReport, wanted: List[Dict[str, Any]]) -> None:
        self._say(report, "giving", what="", done=report.total)
        for each in wanted:
            try:
                await self._share.give(each["key"], each["said"])
            except (ApiError, OSError) as error:  # it is there for this node, which is what was ordered
                logs.warning("An engine is not kept for other nodes.", network=each["said"].get("network"), reason=str(error))

    async def _fetched(self, one: Dict[str, Any], all_of_it: List[Dict[str, Any]]) -> bool:
        try:
            return await self._share.fetch(one["key"], one["said"], [each["key"] for each in all_of_it])
        except (NotGiven, ApiError) as error:
            logs.warning("An engine of another node cannot be had.", network=one["said"].get("network"), reason=str(error))
            return False

    async def _let_go(self) -> None:
        """Has the engine let go of its models, also of one that it loads just now; TensorRT tries layers in the memory that is free."""
        self._engine.unload()
        with contextlib.suppress(asyncio.TimeoutError):
            await within(self._engine.rescan(), UNLOAD_SECONDS)  # it answers in the order of asking

    async def _wanted(self, order: BuildOrder) -> List[Dict[str, Any]]:
        found = [said async for said in self._lines("wanted", order.model, *_with_loras(order))]
        if not all({"key", "there", "said"} <= set(each) for each in found):
            raise BuildFailed("What builds engines did not say which are wanted; see the agent's log.")
        return found

    async def _lines(self, *words: str) -> AsyncIterator[Dict[str, Any]]:
        """The objects that the child writes, a line each. Raises :class:`BuildFailed` with its last words where it fails."""
        command = [*self._command, *words, "--parent", str(os.getpid())]
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            cwd=str(PACKAGE.parent),
            env=self._environment(),
            limit=2**20,
        )
        oom.offer(child.pid)
        assert child.stdout is not None
        assert child.stderr is not None
        last = asyncio.ensure_future(_last_line(child.stderr))
        try:
            while True:
                line = await within(child.stdout.readline(), self._silent_seconds)
                if not line:
                    break
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    said = json.loads(line)
                    if isinstance(said, dict):
                        yield said
            code = await child.wait()
            if code:
                reason = await last or "no reason was given"
                raise BuildFailed(reason if code > 0 else f"What builds engines was ended by signal {-code}: {reason}")
        except asyncio.TimeoutError:
            raise BuildFailed(f"What builds engines said nothing for {self._silent_seconds:g} s, and was ended.") from None
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
            last.cancel()
            await asyncio.gather(last, return_exceptions=True)

    def _environment(self) -> Dict[str, str]:
        settings = self._settings
        found = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        found.setdefault(PLANS_SETTING, str(settings.plans_dir))
        found.setdefault(PICTURES_SETTING, str(settings.engine_pictures))
        found[PREFIX + "MODELS"] = os.pathsep.join(str(path) for path in settings.models)
        found[PREFIX + "CACHE"] = str(settings.cache_dir)
        found[PREFIX + "PLANS_LIMIT_GIB"] = repr(settings.plans_limit / 2**30)
        return found


def _with_loras(order: BuildOrder) -> List[str]:
    return [f"--lora={each.name}:{each.strength!r}" for each in order.loras]


async def _last_line(stream: asyncio.StreamReader) -> str:
    """The last words of a child, which its log may come before."""
    last = ""
    while True:
        line = await stream.readline()
        if not line:
            return last
        last = line.decode("utf-8", "replace").strip()[:_LONGEST_REASON] or last
