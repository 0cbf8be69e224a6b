"""The agent's figures as Prometheus reads them. Pure."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from gpu_inference.agent.tally import Tally
from gpu_inference.protocol import Metrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MIB = 1024.0 * 1024.0
Labels = Dict[str, str]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class _Text:
    def __init__(self) -> None:
        self.lines: List[str] = []

    def add(self, name: str, kind: str, about: str, *values: Tuple[Labels, Optional[float]]) -> None:
        """Adds a figure; a value of None is left out."""
        there = [(labels, value) for labels, value in values if value is not None]
        if not there:
            return
        self.lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
        for labels, value in there:
            inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            self.lines.append("{}{} {!r}".format(name, "{" + inside + "}" if inside else "", float(value)))


def exposition(tally: Tally, metrics: Metrics, engine_bytes: Optional[float], alive: bool, draining: bool, models: Labels) -> str:
    """The text. ``models`` are the labels of the loaded model, empty where there is none; ``engine_bytes`` is the child's memory."""
    text = _Text()
    text.add("fleet_agent_start_time_seconds", "gauge", "When the agent started, in seconds since the epoch", ({}, tally.begun))
    ended = [({"origin": origin, "result": result}, float(count)) for (origin, result), count in sorted(tally.ended.items())]
    text.add("fleet_agent_jobs_total", "counter", "Pictures that ended, by who asked and how", *ended)
    text.add("fleet_agent_steps_total", "counter", "Steps taken", ({}, tally.steps))
    text.add("fleet_agent_step_seconds_total", "counter", "Seconds they took", ({}, tally.step_seconds))
    text.add("fleet_agent_model_loads_total", "counter", "Models loaded", ({}, tally.loads))
    text.add("fleet_agent_model_load_seconds_total", "counter", "Seconds that took", ({}, tally.load_seconds))
    text.add("fleet_agent_engine_starts_total", "counter", "Starts of the engine, the first included", ({}, tally.engine_starts))
    text.add("fleet_agent_engine_up", "gauge", "Whether an engine is up", ({}, float(alive)))
    text.add("fleet_agent_engine_memory_bytes", "gauge", "Memory of the engine's process", ({}, engine_bytes))
    text.add("fleet_agent_draining", "gauge", "Whether the agent is stopping", ({}, float(draining)))
    text.add("fleet_agent_model_loaded", "gauge", "The model that is loaded", *([(models, 1.0)] if models else []))
    total = metrics.memory_total_mib
    text.add("fleet_node_cpu_percent", "gauge", "Load of the processor", ({}, metrics.cpu))
    text.add("fleet_node_memory_bytes", "gauge", "Memory of the node", ({}, total * MIB))
    text.add("fleet_node_memory_used_bytes", "gauge", "How much of it is in use", ({}, total * MIB * metrics.memory / 100.0))
    text.add("fleet_node_disk_free_bytes", "gauge", "What is free on the agent's disk", ({}, metrics.disk_free_mib * MIB))
    text.add("fleet_node_temperature_celsius", "gauge", "Temperature of the node's hottest chip", ({}, metrics.temperature))
    there = metrics.gpu_clock_mhz is not None or metrics.gpu_memory_total_mib > 0 or metrics.power_watts is not None
    gpu = metrics.gpu if there else None
    text.add("fleet_node_gpu_percent", "gauge", "Load of the GPU", ({}, gpu))
    own = metrics.gpu_memory_total_mib or None
    text.add("fleet_node_gpu_memory_bytes", "gauge", "Memory of the GPU, where it has its own", ({}, own and own * MIB))
    text.add("fleet_node_gpu_memory_used_bytes", "gauge", "How much of it is in use", ({}, own and metrics.gpu_memory * MIB))
    text.add("fleet_node_gpu_clock_hertz", "gauge", "Clock of the GPU", ({}, metrics.gpu_clock_mhz and metrics.gpu_clock_mhz * 1e6))
    text.add("fleet_node_power_watts", "gauge", "Power that the node takes", ({}, metrics.power_watts))
    contiguous = metrics.free_contiguous_mib
    text.add("fleet_node_free_contiguous_bytes", "gauge", "Memory free in the largest blocks", ({}, contiguous and contiguous * MIB))
    text.add("fleet_node_throttled", "gauge", "Whether heat lowers the GPU's clock", ({}, float(metrics.throttled) if there else None))
    return "\n".join(text.lines) + "\n"
