"""What an engine tells while it builds and pushes: steps, lines, the image's id, its digest. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
BUILT = re.compile(r"Successfully built ([0-9a-f]{12,64})")
ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|.)")
LONGEST_LINE = 4_000
INTERESTING = ("Pushed", "Layer already exists", "Pull complete", "Already exists", "Mounted from")


class Refused(Exception):
    """The engine gave up; the text is its reason, without a full stop."""


@dataclass(slots=True)
class Told:
    """What is known so far. ``step`` of ``steps`` is at work, ``instruction`` is what it does."""

    step: int = 0
    steps: int = 0
    instruction: str = ""
    image_id: str = ""
    digest: str = ""
    layers: dict[str, str] = field(default_factory=dict)
    _rest: str = ""

    def read(self, piece: Any) -> Iterator[str]:
        """Take one piece and yield the lines that it completes. Raises Refused."""
        if not isinstance(piece, dict):
            return
        if "error" in piece or "errorDetail" in piece:
            detail = piece.get("errorDetail")
            message = detail.get("message") if isinstance(detail, dict) else None
            raise Refused(plain(str(message or piece.get("error") or "it gave no reason")).rstrip("."))
        self._aux(piece.get("aux"))
        if isinstance(piece.get("stream"), str):
            yield from self._lines(piece["stream"])
        elif isinstance(piece.get("status"), str):
            yield from self._status(piece)

    def finish(self) -> Iterator[str]:
        """Yield the last line, where it had no end."""
        rest, self._rest = plain(self._rest), ""
        if rest:
            yield rest

    @property
    def part(self) -> float:
        """How much of the build is done, from 0 to 1: the step at work counts as not done."""
        return (self.step - 1) / self.steps if self.step and self.steps else 0.0

    @property
    def pushed_part(self) -> float:
        """How many of the layers are in the registry, from 0 to 1."""
        done = sum(state in INTERESTING for state in self.layers.values())
        return done / len(self.layers) if self.layers else 0.0

    def _aux(self, aux: Any) -> None:
        if isinstance(aux, dict):
            self.image_id = str(aux.get("ID") or self.image_id)
            self.digest = str(aux.get("Digest") or self.digest)

    def _lines(self, text: str) -> Iterator[str]:
        *whole, self._rest = (self._rest + text).split("\n")
        if len(self._rest) > LONGEST_LINE:
            whole, self._rest = [*whole, self._rest], ""
        for line in map(plain, whole):
            found = STEP.match(line)
            if found and int(found[1]) == self.step + 1:  # a program's own output may look like one
                self.step, self.steps, self.instruction = int(found[1]), int(found[2]), found[3][:200]
            built = BUILT.match(line)
            if built and self.step == self.steps:
                self.image_id = self.image_id or built[1]
            if line:
                yield line

    def _status(self, piece: dict[str, Any]) -> Iterator[str]:
        layer, status = piece.get("id"), piece["status"]
        if not isinstance(layer, str) or status.startswith(("The push refers", "Pulling from")):
            yield plain(status)
            return
        before = self.layers.get(layer)
        self.layers[layer] = status
        if status != before and status in INTERESTING:
            yield plain(f"{layer}: {status}")


def plain(text: str) -> str:
    """Return a line without what moves a terminal's cursor; of one that was drawn over itself, the last."""
    text = ESCAPES.sub("", text).rstrip("\r\n").rpartition("\r")[2]
    return "".join(char for char in text[:LONGEST_LINE] if char.isprintable() or char == "\t").rstrip()
