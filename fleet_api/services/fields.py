"""What callers say of images, names, variables: each checked before Docker sees it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from fleet_api.kit.fields import Integer, Text

IMAGE = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]{1,5})?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
ENGINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
"""Ids and names of containers and services; what else a path may hold would mean another path of the engine."""

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}=[^\n\r]*", re.DOTALL)


def _image(value: str) -> str:
    if not IMAGE.fullmatch(value):
        raise ValueError("must be an image such as 192.0.2.10:5000/sdxl-trt:r35.3.1")
    return value


def _variable(value: str) -> str:
    if not VARIABLE.fullmatch(value):
        raise ValueError("must be NAME=value on one line")
    return value


Image = Annotated[Text, Field(min_length=1, max_length=700, examples=["192.0.2.10:5000/sdxl-trt:r35.3.1"]), AfterValidator(_image)]
ServiceName = Annotated[
    Text, Field(min_length=1, max_length=63, pattern=r"^[a-zA-Z0-9]([a-zA-Z0-9_-]*[a-zA-Z0-9])?$", examples=["vision-sdxl"])
]
ContainerName = Annotated[Text, Field(min_length=2, max_length=128, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+$", examples=["myapp"])]
Variable = Annotated[Text, Field(max_length=8192, examples=["CUDA_VISIBLE_DEVICES=0"]), AfterValidator(_variable)]
Variables = Annotated[list[Variable], Field(max_length=200)]
PublishedPort = Annotated[Integer, Field(ge=1, le=65535)]
Path = Annotated[Text, Field(min_length=1, max_length=1000, examples=["/mnt/s3-models"])]
