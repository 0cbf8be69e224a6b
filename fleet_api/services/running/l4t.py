"""Which Jetson runs which image: NVIDIA's containers take drivers from the host, so their L4T releases must fit. Pure."""

from __future__ import annotations

import re

TAG = re.compile(r"(?:^|[-_.])r(\d{2})\.(\d+)(?:\.(\d+))?(?=$|[-_.])", re.IGNORECASE)

Version = tuple[int, int, int]


def of_image(image: str) -> Version | None:
    """Return the L4T release that an image's tag names, such as r35.3.1; None where it names none."""
    tag = image.split("@")[0].rpartition("/")[2].partition(":")[2]
    found = TAG.search(tag)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def parsed(text: str) -> Version | None:
    """Return a host's release, such as 35.4.1."""
    found = re.fullmatch(r"(\d{2})\.(\d+)(?:\.(\d+))?", text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def fits(host: Version, image: Version) -> bool:
    """Say whether a host of one release runs images of another."""
    major = host[0]
    if major == 36:  # 36.4 changed what the host's libraries offer
        return image[0] == 36 and (host >= (36, 4, 0)) == (image >= (36, 4, 0))
    if major in (34, 35):
        return image[0] == major
    if major == 32 and host >= (32, 7, 0):
        return image[0] == 32 and image >= (32, 7, 0)
    return host == image


def shown(version: Version) -> str:
    """Return a release as tags write it."""
    return "r" + ".".join(map(str, version))
