"""The words an agent and the control plane exchange: the only code both sides import, with ``protocol_engines.py``.

Transport: JSON over HTTP, rooted at ``/api/agents``; the agent always calls, so it may sit behind NAT.

=====================================  ==============================================================
``POST enrol``                         a single-use token becomes a node id and a credential
``POST lease``                         long poll: the next job, and word of jobs to stop
``POST beat``                          the node's figures and the step of each job it holds
``PUT  uploads/{job}/{attempt}``       the bytes of the one output, before ``complete``
``PUT  previews/{job}/{attempt}``       a small JPEG of the picture in the making; nothing hangs on it
``POST complete`` / ``POST fail``      how an attempt ended
``POST models/source``                 where to fetch a file of a stored model from: a neighbour, the store, or later
``GET  models/{type}/{name}/{file}``   such a file from the store, from any byte on (``Range``)
``POST engines``                        tells of a built engine; the answer says whether its bytes are wanted
``PUT  engines/{key}``                  such bytes, for nodes of the same kind
``GET  engines/{key}``                  an engine that another node built, or 404
``GET  ca``                            the control plane's certificate authority, for agents whose token carries its hash
=====================================  ==============================================================

Every call but ``enrol`` carries ``Authorization: Bearer <credential>``.

Guarantees the control plane gives:

* A lease is (job, attempt). The same ``request_id`` from the same incarnation gets the same lease again, and its companions.
* Of companions each beats, ends, lapses and is stopped by itself. Of what ends them all, as when the engine dies, none is to blame: they
  are queued again at no cost to them, and each is then given alone.
* A beat renews the lease. Unheard of for :data:`LEASE_SECONDS`, it lapses and the job is queued again.
* A repeated ``complete`` with the same digest is 200. A closed attempt is 410 and its upload is dropped. One that is open on another
  node is 403.
* A new incarnation of an agent frees the leases of its old one at once.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Dict, List, Optional

from pydantic import Field

from gpu_inference.message import Message
from gpu_inference.protocol_engines import BuildOrder, BuildReport

PROTOCOL_VERSION = 1

LEASE_SECONDS = 15.0
"""A lease lapses when no beat was heard for this long."""

BEAT_SECONDS = 2.0
"""An idle agent beats this often; a working one at every step, at most :data:`MAX_BEATS_PER_SECOND`."""

MAX_BEATS_PER_SECOND = 5.0

AGENT_STOPPED = "agent_stopped"
"""The ``kind`` of a failure that is not the job's: its agent was told to stop. It uses up no retry."""

DRAINING = "draining"
"""The state of an agent that is stopping: it ends what it has, and is given nothing more."""

BUILDING = "building"
"""The state of an agent that builds engines: what waits for it goes elsewhere, or waits."""

SERVING = "serving"
"""The state of an agent that makes a picture for who asked at the node itself; a job that it holds waits for its turn."""

LEASE_WAIT_SECONDS = 25.0
"""How long the control plane may hold a lease request open."""

DIGEST_HEADER = "X-Content-SHA256"
"""Hex SHA-256 of an upload's bytes."""


def ticket_of(key: str, sha256: str) -> str:
    """What opens one file of one neighbour: made by the control plane, checked by the neighbour, for as long as ``key`` is current."""
    return hmac.new(key.encode("utf-8"), sha256.encode("utf-8"), hashlib.sha256).hexdigest()


class EnrolRequest(Message):
    """An agent's first call."""

    token: str = Field(min_length=1, max_length=500)
    hostname: str = Field(min_length=1, max_length=253)
    machine_id: str = Field(default="", max_length=128)
    request_id: str = Field(default="", max_length=64)
    """The same for every repeat of one enrolment, so that a lost answer does not cost the token."""

    version: str = Field(default="", max_length=64)
    protocol: int = PROTOCOL_VERSION


class EnrolReply(Message):
    """What the agent keeps (file mode 0600) and shows on every later call."""

    node_id: str
    credential: str


class Metrics(Message):
    """Figures of the node; percentages 0 to 100, memory in MiB, temperature in degrees Celsius, the GPU's clock in MHz, power in W.

    ``free_contiguous_mib`` is what is free in blocks of the largest size, where GPU and processor share their memory.
    """

    cpu: float = 0.0
    memory: float = 0.0
    memory_total_mib: float = 0.0
    disk: float = 0.0
    disk_free_mib: float = 0.0
    gpu: float = 0.0
    gpu_memory: float = 0.0
    gpu_memory_total_mib: float = 0.0
    temperature: Optional[float] = None
    gpu_clock_mhz: Optional[float] = None
    power_watts: Optional[float] = None
    free_contiguous_mib: Optional[float] = None
    throttled: bool = False
    """Whether the GPU's clock is lowered because of heat."""


class ModelInfo(Message):
    """A model that the node can load."""

    name: str
    type: str = "checkpoint"
    size_bytes: int = 0
    native_size: int = 1024
    needs_mib: float = 0.0
    """Memory that it takes on this node, loaded and at work: measured, else by its size; 0 where that is not known."""

    fetched: bool = False
    """Whether it came from the model store; else it came with the agent's own software."""


class LoraInfo(Message):
    """A LoRA that the node can apply to the model ``base_model``.

    ``trigger_words`` is empty where it needs none; ``fetched`` is as that of :class:`ModelInfo`.
    """

    name: str
    base_model: str
    size_bytes: int = 0
    trigger_words: str = ""
    fetched: bool = False


class Capabilities(Message):
    """What this agent can serve."""

    job_types: List[str] = Field(default_factory=list)
    models: List[ModelInfo] = Field(default_factory=list)
    loras: List[LoraInfo] = Field(default_factory=list)
    samplers: List[str] = Field(default_factory=list)
    backend: str = ""
    devices: List[str] = Field(default_factory=list)
    loads: bool = False
    """Whether it can be told to load a model without a job (:attr:`LeaseReply.load`)."""

    fetches: bool = False
    """Whether it fetches stored models that it is told of (:attr:`BeatReply.wanted`)."""

    builds: bool = False
    """Whether it can build engines of TensorRT when it is told to (:attr:`BeatReply.build`)."""

    builds_loras: bool = False
    """Whether it heeds an order's LoRAs too (:attr:`BuildOrder.loras`)."""


class Held(Message):
    """An attempt the agent is working on."""

    job_id: str = Field(max_length=64)
    attempt: int = Field(ge=0, le=2**31)


class LeaseRequest(Message):
    """A long poll; ``want_job`` is false while the agent is busy and only listens for cancels.

    ``warm_models`` are those that are loaded beside ``loaded_model``, to which a change takes no time; ``parked_models`` those that left
    the GPU's memory and wait in the machine's, from where they come back sooner than from disk; ``unbuilt_models`` those that
    could not be loaded when that was last tried, as their engines were not built: a job for one is given all the same, and told why.
    A newer poll of the same agent ends an older one at once: with the job that was being given to it, or with nothing.
    """

    incarnation: str = Field(min_length=1, max_length=64)
    request_id: str = Field(min_length=1, max_length=64)
    want_job: bool = True
    holding: List[Held] = Field(default_factory=list)
    loaded_model: Optional[str] = None
    warm_models: List[str] = Field(default_factory=list, max_length=100)
    parked_models: List[str] = Field(default_factory=list, max_length=100)
    unbuilt_models: List[str] = Field(default_factory=list, max_length=100)
    capabilities: Optional[Capabilities] = None
    """Left out while the engine has not said yet what it can do; what was known before stands."""

    wait_seconds: float = Field(default=LEASE_WAIT_SECONDS, ge=0, le=60)
    batch_limit: int = Field(default=1, ge=1, le=64)
    """How many jobs of one kind this agent would take at once."""


class Lease(Message):
    """A job for this agent. ``payload`` is complete: seed, model and sampler are always named."""

    job_id: str
    attempt: int
    job_type: str
    payload: Dict[str, Any]
    timeout_seconds: float
    lease_seconds: float = LEASE_SECONDS


class LeaseReply(Message):
    """``stop`` names attempts to end at once: cancelled, or no longer this agent's.

    ``load`` names a model to load, so that it is there when jobs for it are given out; the agent asks again when that is done.
    """

    lease: Optional[Lease] = None
    companions: List[Lease] = Field(default_factory=list)
    """Jobs given together with ``lease``, to be made with it as one batch; each is a lease of its own."""

    load: Optional[str] = None
    stop: List[Held] = Field(default_factory=list)


class Progress(Held):
    """Where an attempt stands."""

    step: int = Field(default=0, ge=0, le=1_000_000)
    steps: int = Field(default=0, ge=0, le=1_000_000)
    phase: str = Field(default="running", max_length=32)


class StoredFile(Message):
    """A file of a stored model. ``name`` is a plain file name."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9 ._+@()=-]{0,199}$")
    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class StoredKey(Message):
    """A stored model (``checkpoint``) or LoRA (``lora``) by name."""

    type: str = Field(max_length=32)
    name: str = Field(max_length=200)


class StoredItem(StoredKey):
    """A stored model or LoRA, which the agent is to have. ``base`` is the model that a LoRA changes."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    base: str = ""
    files: List[StoredFile] = Field(min_length=1)


class HeldItem(StoredKey):
    """A stored model or LoRA that is whole and verified in the agent's cache."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class FetchingItem(StoredKey):
    """How far a fetch is, in bytes; ``file`` is the SHA-256 of the file that is fetched now."""

    file: str = Field(default="", max_length=64)
    done: int = Field(default=0, ge=0)
    size: int = Field(default=0, ge=0)


class FailedItem(StoredKey):
    """A fetch that failed; it is tried again after a while."""

    error: str = Field(default="", max_length=500)


class CacheReport(Message):
    """What the agent's cache holds. ``files`` are the SHA-256 of whole files; ``share_port`` (0: none) is where neighbours get them."""

    share_port: int = Field(default=0, ge=0, le=65_535)
    held: List[HeldItem] = Field(default_factory=list, max_length=2000)
    files: List[str] = Field(default_factory=list, max_length=10_000)
    fetching: List[FetchingItem] = Field(default_factory=list, max_length=100)
    failed: List[FailedItem] = Field(default_factory=list, max_length=100)


class SourceRequest(StoredKey):
    """Asks where to fetch the file ``sha256`` from. ``files`` are those that are whole here; ``failed`` nodes did not serve it."""

    incarnation: str = Field(min_length=1, max_length=64)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    files: List[str] = Field(default_factory=list, max_length=10_000)
    failed: List[str] = Field(default_factory=list, max_length=1000)


class SourceReply(Message):
    """``neighbour`` (``url`` and ``ticket``), ``store`` (the control plane's own row) or ``wait`` (ask again in ``wait_seconds``)."""

    kind: str
    url: str = ""
    ticket: str = ""
    node_id: str = ""
    wait_seconds: float = Field(default=1.0, ge=0, le=60)


class Beat(Message):
    """Sign of life. ``metrics`` may be left out of the quick beats between steps."""

    incarnation: str = Field(min_length=1, max_length=64)
    metrics: Optional[Metrics] = None
    facts: Optional[Dict[str, Any]] = None
    loaded_model: Optional[str] = None
    warm_models: List[str] = Field(default_factory=list, max_length=100)
    parked_models: List[str] = Field(default_factory=list, max_length=100)
    state: str = Field(default="idle", max_length=32)
    """``idle``, ``working``, ``loading`` (a model), ``building`` (engines), ``serving``, ``draining`` or ``no_engine``."""

    holding: List[Progress] = Field(default_factory=list)
    cache: Optional[CacheReport] = None
    capabilities: Optional[Capabilities] = None
    """Said when they have changed, as when a model was fetched."""

    build: Optional[BuildReport] = None
    """Of the last order; said until the reply no longer gives it."""


class BeatReply(Message):
    """As :class:`LeaseReply`: attempts to end at once.

    ``wanted`` are stored models to fetch now, ``drop`` those to forget. ``share_key`` is what neighbours' tickets are made with; it
    changes every ten minutes or so, and the one before it is good until the next.
    """

    stop: List[Held] = Field(default_factory=list)
    wanted: List[StoredItem] = Field(default_factory=list)
    drop: List[StoredKey] = Field(default_factory=list)
    share_key: str = ""
    build: Optional[BuildOrder] = None
    """In each reply for as long as the order stands: an agent that is not told of it any more gives it up."""


class ImageResult(Message):
    """What the engine did, beside the picture itself. Sizes in pixels, ``generation_time`` in seconds."""

    seed: int = Field(ge=0, lt=2**63)
    model: str = Field(max_length=200)
    sampler: str = Field(max_length=64)
    steps: int = Field(ge=0, le=1_000_000)
    width: int = Field(ge=0, le=65_536)
    height: int = Field(ge=0, le=65_536)
    native_width: int = Field(ge=0, le=65_536)
    native_height: int = Field(ge=0, le=65_536)
    generation_time: float = Field(ge=0)
    scaled: bool = False
    batch: int = Field(default=1, ge=1, le=65_536)
    """How many pictures were made together, this one among them."""

    warnings: List[str] = Field(default_factory=list)


class Complete(Held):
    """The end of an attempt whose upload is already there under ``sha256``."""

    incarnation: str = Field(min_length=1, max_length=64)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    extension: str = Field(default="png", pattern="^[a-z0-9]{1,8}$")
    result: Dict[str, Any] = Field(default_factory=dict)


class Fail(Held):
    """An attempt that gave nothing. ``retry`` is false where another try would end the same way."""

    incarnation: str = Field(min_length=1, max_length=64)
    error: str = Field(min_length=1, max_length=2000)
    kind: str = Field(default="error", max_length=32)
    retry: bool = True
