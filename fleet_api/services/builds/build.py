"""The kind ``image_build``: pack, build on an engine, push. What fails leaves no image of that name, and no container."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterable
from typing import IO, Any

from docker import APIClient
from docker.auth import AuthConfig

from fleet_api.adapters.docker.types import Engine, Engines
from fleet_api.adapters.registry.types import Access
from fleet_api.errors import FleetError
from fleet_api.nodes.service import NodeService
from fleet_api.operations.work import OperationFailed, Work
from fleet_api.services.builds import context
from fleet_api.services.builds.registry import FleetRegistry, auth_of
from fleet_api.services.builds.told import Refused, Told
from fleet_api.settings import Settings

IMAGE_BUILD = "image_build"
LABEL = "fleet.image"
PACKED, BUILT = 5.0, 85.0  # percent


class ImageBuild:
    """See :class:`Kind`."""

    name = IMAGE_BUILD
    waits_only = False

    def __init__(self, settings: Settings, nodes: NodeService, engines: Engines, registry: FleetRegistry) -> None:
        self._settings = settings
        self._nodes = nodes
        self._engines = engines
        self._registry = registry

    def title(self, request: dict[str, Any]) -> str:
        """See :class:`Kind`."""
        where = f" on {request['node_id']}" if request["node_id"] else ""
        return f"Build {request['image_name']}:{request['tag']}{where}{' and push it' if request['push'] else ''}"

    def locks(self, request: dict[str, Any]) -> list[str]:
        """See :class:`Kind`."""
        node_id = request["node_id"]
        known = {node.id: node.row.ip for node in self._nodes.all()} if node_id else {}
        return [f"image {request['image']}", *(name for name in (node_id, known.get(node_id, "")) if name)]

    async def retried(self, request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """See :class:`Kind`."""
        return request

    async def run(self, work: Work) -> None:
        """See :class:`Kind`."""
        seconds = work.request["timeout_seconds"]
        try:
            async with asyncio.timeout(seconds):
                await self._run(work)
        except TimeoutError:
            at = f"it hung at {work.operation.step}" if work.operation.step else "it was not ready"
            raise OperationFailed(f"The build was ended after {seconds} s: {at}; mend it, or give it more with timeout_seconds.") from None
        except FleetError as error:
            raise work.failed(error) from error

    async def _run(self, work: Work) -> None:
        request = work.request
        work.step("context", 1)
        access = await self._registry.access() if request["push"] else await self._registry.known()
        if access is not None:
            work.journal.hide(frozenset({access.password} - {""}))
        self._settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Without a name from the start: whatever ends this process, nothing is left of it.
        with tempfile.TemporaryFile(dir=self._settings.home, prefix="build-") as packed:
            source = await self._pack(work, packed)
            if work.checking:
                work.tell("note", f"{request['image']} would be built from {source.folder / source.dockerfile}.", request["node_id"])
                return
            engine = await self._engines.of(request["node_id"])
            told = await self._build(work, engine, access, source, packed)
        about: dict[str, Any] = await engine.call(lambda client: client.inspect_image(request["image"]))
        platform = f"{about.get('Os')}/{about.get('Architecture')}"
        if request["platform"] and not f"{request['platform']}/".startswith(f"{platform}/"):
            await engine.call(lambda client: client.remove_image(request["image"]))
            wanted = request["platform"]
            raise OperationFailed(
                f"{wanted} was asked for, and the base image of {engine.name} is {platform}; build on a node of {wanted}."
            )
        work.result.update({
            "image": request["image"], "image_id": about.get("Id", told.image_id), "size": about.get("Size"), "node_id": request["node_id"],
            "platform": platform, "pushed": False, "digest": None,
        })  # fmt: skip
        if request["push"] and access is not None:
            work.result.update({"digest": await self._push(work, engine, access), "pushed": True})

    async def _pack(self, work: Work, out: IO[bytes]) -> context.Source:
        """Read the context in a thread, which ends soon after a cancel."""
        settings, request = self._settings, work.request
        stop = False

        def pack() -> tuple[context.Source, context.Packed]:
            source = context.find(settings.build_roots, settings.home, request["dockerfile_path"], request["context_path"])
            found = context.pack(source, out, settings.build_context_limit, lambda: stop)
            out.seek(0)
            return source, found

        packing = asyncio.get_running_loop().run_in_executor(None, pack)
        try:
            source, packed = await asyncio.shield(packing)
        except asyncio.CancelledError:
            stop = True
            await asyncio.wait({packing})  # the file is closed after this
            packing.exception()
            raise
        work.tell("note", f"{packed.files} files, {packed.size:,} bytes, from {source.folder}.")
        return source

    async def _build(self, work: Work, engine: Engine, access: Access | None, source: context.Source, packed: IO[bytes]) -> Told:
        request = work.request

        def build(client: APIClient) -> Iterable[Any]:
            sign_in(client, access)
            return client.build(
                fileobj=packed, custom_context=True, decode=True, tag=request["image"], dockerfile=source.dockerfile, rm=True, forcerm=True,
                buildargs=request["build_args"], platform=request["platform"], labels={LABEL: request["image_name"]},
            )  # fmt: skip

        def progress(told: Told) -> None:
            if told.steps:
                end = BUILT if request["push"] else 99.0
                work.step(f"step {told.step}/{told.steps}", PACKED + (end - PACKED) * told.part)

        work.step("build", PACKED)
        try:
            told = await follow(work, engine, build, progress)
        except _GaveUp as error:
            at = (
                f"Step {error.told.step}/{error.told.steps} ({error.told.instruction}) failed: "
                if error.told.step
                else "The build failed: "
            )
            raise OperationFailed(f"{at}{error}.") from None
        if not told.image_id:
            raise OperationFailed(f"The engine of {engine.name} broke the build off without a word; see 'journalctl -u docker' there.")
        return told

    async def _push(self, work: Work, engine: Engine, access: Access) -> str:
        request = work.request

        def push(client: APIClient) -> Iterable[Any]:
            repository = request["image"].rpartition(":")[0]
            pieces: Iterable[Any] = client.push(repository, request["tag"], stream=True, decode=True, auth_config=auth_of(access) or {})
            return pieces

        work.step("push", BUILT)
        try:
            told = await follow(work, engine, push, lambda told: work.step("push", BUILT + 14.0 * told.pushed_part))
        except _GaveUp as error:
            raise OperationFailed(
                f"The image was built on {engine.name}, but not pushed to {access.address}: {explained(str(error))}."
            ) from None
        if not told.digest:
            raise OperationFailed(f"The push to {access.address} broke off without a word; try again.")
        return told.digest


class _GaveUp(Exception):
    def __init__(self, reason: str, told: Told) -> None:
        super().__init__(reason)
        self.told = told


async def follow(work: Work, engine: Engine, do: Callable[[APIClient], Iterable[Any]], progress: Callable[[Told], None]) -> Told:
    """Tell all that an engine tells while it builds or pushes. Raises _GaveUp. Ending this ends the engine's work."""
    told, node_id = Told(), work.request["node_id"]
    async with engine.stream(do) as pieces:
        try:
            async for piece in pieces:
                for line in told.read(piece):
                    work.tell("line", line, node_id)
                progress(told)
        except Refused as error:
            raise _GaveUp(str(error), told) from None
        finally:
            for line in told.finish():
                work.tell("line", line, node_id)
    return told


def sign_in(client: APIClient, access: Access | None) -> None:
    """Let the engine pull from the fleet's registry, and from no other as somebody; no file of this user's is read for that."""
    auth = auth_of(access) if access is not None else None
    auths = {auth["serveraddress"]: auth} if auth else {"fleet.invalid": {"username": "", "password": ""}}
    client._auth_configs = AuthConfig({"auths": auths})  # type: ignore[attr-defined]


def explained(reason: str) -> str:
    """Return why a push failed, with what to do where that is known. Pure."""
    said = reason.lower()
    if "x509" in said or "http response to https" in said or "certificate" in said:
        return f"{reason}; let that engine trust the registry: run the playbook 'registry' for it"
    if "no basic auth" in said or "unauthorized" in said or "authentication required" in said:
        return f"{reason}; set FLEET_REGISTRY_CREDENTIAL to a credential that the registry knows"
    if "connection refused" in said or "no route" in said or "timeout" in said or "no such host" in said:
        return f"{reason}; see that the registry runs, and that the engine reaches it"
    return reason
