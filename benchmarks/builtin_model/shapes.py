"""Names a shape from its filled mask: by holes, solidity, enclosing figures and the rhythm of its radius."""

import math
from typing import NamedTuple

import cv2
import numpy as np


class Dent(NamedTuple):
    """Where a contour falls in from its hull; the depth is a share of the square root of the area."""

    depth: float
    x: float
    y: float


def _radii(contour: np.ndarray, centre: tuple[float, float]) -> np.ndarray:
    """Return the farthest contour point from the centre in each of 180 directions, gaps filled in."""
    points = contour.reshape(-1, 2).astype(np.float64) - centre
    directions = np.floor((np.degrees(np.arctan2(points[:, 1], points[:, 0])) % 360.0) / 2.0).astype(int) % 180
    found = np.zeros(180)
    np.maximum.at(found, directions, np.hypot(points[:, 0], points[:, 1]))
    known = np.flatnonzero(found)
    return np.interp(np.arange(180), known, found[known], period=180)


def _corners(contour: np.ndarray) -> np.ndarray:
    return cv2.approxPolyDP(contour, 0.05 * cv2.arcLength(contour, True), True).reshape(-1, 2).astype(np.float64)


def _four_sided(corners: np.ndarray) -> str:
    """Tell a square on its side from one on its tip, or a rhombus; other figures of four corners have no name here."""
    edges = np.roll(corners, -1, axis=0) - corners
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    if lengths.max() > 1.3 * lengths.min():
        return "unclear"
    angles = [
        math.degrees(math.acos(float(np.clip(np.dot(-edges[k - 1], edges[k]) / (lengths[k - 1] * lengths[k]), -1, 1)))) for k in range(4)
    ]
    tilt = min(abs(math.degrees(math.atan2(edges[k][1], edges[k][0])) % 90.0 - turn) for k in range(4) for turn in (0.0, 90.0))
    if all(abs(angle - 90.0) < 16.0 for angle in angles) and tilt < 28.0:
        return "square"
    across, along = corners[2] - corners[0], corners[3] - corners[1]
    upright = [abs(math.degrees(math.atan2(line[1], line[0])) % 90.0) for line in (across, along)]
    if all(min(angle, 90.0 - angle) < 15.0 for angle in upright) and all(50.0 < angle < 130.0 for angle in angles):
        return "diamond"
    return "unclear"


def _notches(contour: np.ndarray) -> list[tuple[float, float, float]]:
    """List the deep dents of a contour."""
    hull = cv2.convexHull(contour, returnPoints=False)
    hull[::-1].sort(axis=0)
    defects = cv2.convexityDefects(contour, hull)
    size = math.sqrt(cv2.contourArea(contour))
    found: list[Dent] = []
    for _, _, far, depth in [] if defects is None else defects.reshape(-1, 4):
        if depth / 256.0 > 0.07 * size:
            found.append(Dent(depth / 256.0 / size, float(contour[far][0][0]), float(contour[far][0][1])))
    return found


def _is_heart(contour: np.ndarray, centre: tuple[float, float]) -> bool:
    """Tell whether the only dent is in the middle of the top and the shape narrows to a tip at the bottom."""
    notches = _notches(contour)
    left, top, width, height = cv2.boundingRect(contour)
    if len(notches) != 1 or not 0.75 < width / height < 1.45:
        return False
    points = contour.reshape(-1, 2)
    tip = points[points[:, 1] >= top + height - max(2, height // 50)]
    low = points[points[:, 1] > top + 0.8 * height]
    middle = left + width / 2
    dent = notches[0].y < centre[1] and abs(notches[0].x - middle) < 0.15 * width
    return bool(dent and abs(tip[:, 0].mean() - middle) < 0.15 * width and np.ptp(low[:, 0]) < 0.62 * width)


def name_shape(mask: np.ndarray) -> str:
    """Name the shape in a mask of zeros and ones (drawn large, smooth edges); one that is no clear case is "unclear"."""
    contours, levels = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outer = [k for k in range(len(contours)) if levels[0][k][3] < 0]
    if not outer:
        return "unclear"
    main = max(outer, key=lambda k: cv2.contourArea(contours[k]))
    contour = contours[main]
    area, round_length = cv2.contourArea(contour), cv2.arcLength(cv2.convexHull(contour), True)
    if area < 200:
        return "unclear"
    holes = [cv2.contourArea(contours[k]) / area for k in range(len(contours)) if levels[0][k][3] == main]
    hull = cv2.convexHull(contour)
    hull_area = cv2.contourArea(hull)
    solidity, roundness = area / hull_area, 4 * math.pi * hull_area / round_length**2
    moments = cv2.moments(contour)
    centre = (moments["m10"] / moments["m00"], moments["m01"] / moments["m00"])
    radii = _radii(contour, centre)
    if holes and max(holes) > 0.02:
        ring = solidity > 0.95 and roundness > 0.94 and 0.08 < max(holes) < 0.6 and radii.min() > 0.85 * radii.max()
        return "ring" if ring else "unclear"
    rhythm = np.abs(np.fft.rfft(radii / radii.mean()))[1:13] / 90.0
    strongest = int(rhythm.argmax()) + 1
    if solidity > 0.94 and roundness > 0.95 and radii.min() > 0.82 * radii.max():
        return "circle"
    corners, dents = _corners(hull), _notches(contour)
    deepest = max((dent.depth for dent in dents), default=0.0)
    filled = hull_area / cv2.minEnclosingTriangle(hull)[0]
    if solidity > 0.8 and len(corners) == 3 and roundness < 0.85 and deepest < 0.13 and filled > 0.88:
        return "triangle"
    covered = area / max(1.0, cv2.contourArea(corners.astype(np.float32)))
    if solidity > 0.9 and len(corners) == 4 and roundness < 0.92 and deepest < 0.1 and 0.8 < covered < 1.2:
        return _four_sided(corners)
    if strongest == 5 and rhythm[4] > 0.12 and len(dents) == 5 and 0.4 < solidity < 0.78:
        return "star"
    if strongest == 4 and rhythm[3] > 0.06 and len(dents) == 4 and 0.55 < solidity < 0.86:
        return "cross"
    if 0.8 < solidity < 0.99 and _is_heart(contour, centre):
        return "heart"
    return "unclear"
