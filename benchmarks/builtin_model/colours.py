"""Names a colour: the standard ones by hue, saturation and brightness, those of a variant by the nearest of its own."""

import colorsys
import math
from collections.abc import Sequence

# Hues in degrees, from and to, for colours that are strong enough to have one. Between the ranges nothing is named.
HUES = (
    ("red", 0.0, 13.0),
    ("orange", 20.0, 42.0),
    ("yellow", 45.0, 66.0),
    ("green", 95.0, 165.0),
    ("blue", 205.0, 250.0),
    ("purple", 265.0, 305.0),
    ("pink", 312.0, 342.0),
    ("red", 347.0, 360.0),
)


def name_colour(rgb: Sequence[float]) -> str:
    """Name a colour given as three numbers from 0 to 255; one that is no clear case of any name is "unclear"."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(min(255.0, max(0.0, float(channel))) / 255.0 for channel in rgb))
    if value < 0.22:
        return "black"
    if saturation < 0.14:
        if value > 0.85:
            return "white"
        return "gray" if 0.36 < value < 0.68 else "unclear"
    for name, low, high in HUES:
        if low <= hue * 360.0 <= high:
            if name == "pink":
                return "pink" if value > 0.8 and 0.2 < saturation < 0.75 else "unclear"
            floor = 0.42 if name in ("green", "purple") else 0.55
            return name if saturation > 0.5 and value > floor else "unclear"
    return "unclear"


PASTEL = {
    "red": (235, 110, 105),
    "green": (125, 215, 140),
    "blue": (120, 170, 240),
    "yellow": (250, 238, 150),
    "white": (252, 250, 245),
    "black": (75, 70, 95),
    "orange": (250, 180, 120),
    "purple": (185, 130, 225),
    "pink": (245, 175, 205),
    "gray": (165, 168, 175),
}
NEAR = 32.0  # half of the least distance between two of them


def name_pastel(rgb: Sequence[float]) -> str:
    """Name a colour by the pastel that is nearest in RGB; one that is near none is "unclear"."""
    name, distance = min(((name, math.dist(rgb, colour)) for name, colour in PASTEL.items()), key=lambda pair: pair[1])
    return name if distance < NEAR else "unclear"


NAMERS = {"standard": name_colour, "pastel": name_pastel}
