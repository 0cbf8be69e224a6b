"""Figures for Prometheus in its text format: those counted as they came, and those read now."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fleet_api.callbacks.states import DeliveryState
from fleet_api.jobs import repository
from fleet_api.lifespan import State
from fleet_api.version import __version__


class _Now(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


async def render(fleet: State) -> bytes:
    """Return all figures in Prometheus' text format."""
    counts = await fleet.db.read(repository.counts)
    return generate_latest(fleet.metrics.registry) + generate_latest(_Now([*_jobs(fleet, counts), *_nodes(fleet), *_events(fleet)]))


def _jobs(fleet: State, counts: list[tuple[str, str, int, int]]) -> list[Metric]:
    jobs = GaugeMetricFamily("fleet_jobs", "Jobs in the database by state and type", labels=["state", "type"])
    totals: dict[tuple[str, str], int] = {}
    for state, kind, _, number in counts:
        totals[state, kind] = totals.get((state, kind), 0) + number
    for labels, number in totals.items():
        jobs.add_metric(labels, number)
    oldest = fleet.jobs.index.oldest()
    age = max(0.0, fleet.clock.now() - oldest) if oldest is not None else 0.0
    return [
        jobs,
        GaugeMetricFamily("fleet_queue_length", "Jobs that wait", value=len(fleet.jobs.index)),
        GaugeMetricFamily("fleet_queue_oldest_seconds", "How long the oldest of them has waited", value=age),
        GaugeMetricFamily("fleet_leases", "Attempts that agents are working on", value=len(fleet.open_leases.all())),
    ]


def _nodes(fleet: State) -> list[Metric]:
    nodes = GaugeMetricFamily("fleet_nodes", "Nodes by status", labels=["status"])
    every = fleet.nodes.all()
    online = sum(node.online for node in every)
    nodes.add_metric(["online"], online)
    nodes.add_metric(["offline"], len(every) - online)
    figures = {
        name: GaugeMetricFamily(f"fleet_node_{name}", text, labels=["node"])
        for name, text in (
            ("cpu", "Percent"), ("memory", "Percent"), ("disk", "Percent"), ("gpu", "Percent"), ("gpu_memory", "MiB"),
            ("temperature", "Celsius"),
        )
    }  # fmt: skip
    for node in every:
        for name, family in figures.items():
            value = getattr(node.metrics, name)
            if node.online and value is not None:
                family.add_metric([node.id], value)
    return [nodes, *figures.values()]


def _events(fleet: State) -> list[Metric]:
    callbacks = CounterMetricFamily("fleet_callback_attempts", "Attempts at callbacks, by what became of the message", labels=["state"])
    for state, number in fleet.callbacks.courier.attempts.items():
        if state != DeliveryState.PENDING:
            callbacks.add_metric([state], number)
    build = GaugeMetricFamily("fleet_build_info", "The version that runs", labels=["version"])
    build.add_metric([__version__], 1)
    return [
        CounterMetricFamily("fleet_events", "Events published", value=fleet.bus.published),
        GaugeMetricFamily("fleet_event_subscribers", "Who listens to them", value=fleet.bus.subscribers),
        callbacks,
        build,
    ]
