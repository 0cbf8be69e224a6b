"""Looks at a picture of coloured shapes and says what it shows, knowing nothing of how the picture came about."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from benchmarks.builtin_model.colours import name_colour
from benchmarks.builtin_model.shapes import name_shape

Namer = Callable[[Sequence[float]], str]
ENLARGED = 4
APART = 45.0  # distance in RGB from the background at which a pixel may belong to a thing
SPECK = 0.004  # components with a smaller share of the picture are not counted


@dataclass(frozen=True)
class Seen:
    """One thing in a picture; place and extent as shares of width, height and shorter side."""

    colour: str
    shape: str
    x: float
    y: float
    extent: float


@dataclass(frozen=True)
class Report:
    """What a picture shows."""

    background: str
    things: tuple[Seen, ...]


def look(picture: np.ndarray, namer: Namer = name_colour) -> Report:
    """Describe an RGB picture (uint8, height x width x 3); things come largest first. ``namer`` names its colours."""
    height, width = picture.shape[:2]
    sides = (picture[:3], picture[-3:], picture[:, :3], picture[:, -3:])
    frame = np.concatenate([side.reshape(-1, 3) for side in sides])
    ground = np.median(frame.astype(np.float32), axis=0)
    distance = np.sqrt(((picture.astype(np.float32) - ground) ** 2).sum(axis=2))
    count, labels, stats, _ = cv2.connectedComponentsWithStats((distance > APART).astype(np.uint8), connectivity=8)
    found: list[tuple[int, Seen]] = []
    for label in range(1, count):
        area = int(stats[label, cv2.CC_STAT_AREA])
        if area >= SPECK * width * height:
            found.append((area, _describe(picture, distance, labels == label, namer)))
    found.sort(key=lambda pair: -pair[0])
    return Report(namer(ground), tuple(seen for _, seen in found))


def _describe(picture: np.ndarray, distance: np.ndarray, region: np.ndarray, namer: Namer) -> Seen:
    """Describe the thing in one region; its edge is where the colour is half way to the background."""
    height, width = region.shape
    strength = np.percentile(distance[region], 70)
    core = region & (distance > 0.8 * strength)
    near = cv2.dilate(region.astype(np.uint8), np.ones((5, 5), np.uint8))
    field = np.where(near > 0, distance, 0.0).astype(np.float32)
    large = cv2.resize(field, (width * ENLARGED, height * ENLARGED), interpolation=cv2.INTER_CUBIC)
    mask = (cv2.GaussianBlur(large, (0, 0), 1.5) > 0.5 * strength).astype(np.uint8)
    rows, columns = np.nonzero(region)
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    return Seen(
        colour=namer(np.median(picture[core].astype(np.float32), axis=0)),
        shape=name_shape(np.pad(mask, 8)),
        x=float((columns.min() + columns.max() + 1) / 2 / width),
        y=float((rows.min() + rows.max() + 1) / 2 / height),
        extent=float(extent / min(width, height)),
    )
