"""What the API counts of itself as it goes, for Prometheus. All else is read when it is asked for: ``exposition.py``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """What the API counts of itself. One instance a process; counting a request costs 2 us."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "fleet_requests", "Requests by method, path and status", ["method", "path", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "fleet_request_seconds", "How long they took", ["method", "path"], buckets=SECONDS, registry=self.registry
        )
        self._sockets = Gauge("fleet_websockets", "Open WebSockets", ["path"], registry=self.registry)
        self._turned_away = Counter(
            "fleet_turned_away", "Requests refused for a foreign Host or Origin, before any row was looked for", ["header"],
            registry=self.registry,
        )  # fmt: skip
        self._counters: dict[tuple[str, int], Counter] = {}
        self._timers: dict[str, Histogram] = {}

    def request(self, row: str, status: int, seconds: float) -> None:
        """Count one answered request of a row such as ``GET /health``."""
        counter = self._counters.get((row, status))
        if counter is None:
            counter = self._counters[row, status] = self._requests.labels(*row.split(" ", 1), status)
        counter.inc()
        timer = self._timers.get(row)
        if timer is None:
            timer = self._timers[row] = self._seconds.labels(*row.split(" ", 1))
        timer.observe(seconds)

    def turned_away(self, header: str) -> None:
        """Count one request that the door refused for its ``host`` or ``origin``."""
        self._turned_away.labels(header).inc()

    def sockets(self, row: str) -> Gauge:
        """Return the gauge of a WebSocket row's open connections."""
        return self._sockets.labels(row.split(" ", 1)[1])
