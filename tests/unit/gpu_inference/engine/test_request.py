from __future__ import annotations

import json
from typing import Any

import pytest

from gpu_inference.engine.errors import BadRequest
from gpu_inference.engine.request import parse_request

HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"guidance_scale": float("nan")}, "guidance_scale must be a number from 0 to 30, and nan was given"),
    ({"guidance_scale": float("inf")}, "guidance_scale must be a number"),
    ({"guidance_scale": 10**400}, "more than 128 bits"),
    ({"guidance_scale": -1}, "guidance_scale must be a number from 0 to 30, and -1 was given"),
    ({"guidance_scale": "7"}, "guidance_scale must be a number"),
    ({"guidance_scale": True}, "guidance_scale must be a number"),
    ({"width": 7}, "width must be a whole number from 64 to 2048 in multiples of 8, and 7 was given"),
    ({"width": 100}, "width must be"),
    ({"height": 4096}, "height must be"),
    ({"height": 64.5}, "height must be"),
    ({"height": float("nan")}, "height must be"),
    ({"width": [64]}, "width must be"),
    ({"width": 10**5000}, "more than 128 bits"),
    ({"steps": 0}, "steps must be a whole number from 1 to 150, and 0 was given"),
    ({"steps": 151}, "steps must be"),
    ({"steps": True}, "steps must be"),
    ({"seed": -1}, "seed must be a whole number from 0 to 9223372036854775807, and -1 was given"),
    ({"seed": 2**63}, "seed must be"),
    ({"seed": "x" * 1000}, "seed must be"),
    ({"prompt": 5}, "prompt must be text, and 5 was given"),
    ({"prompt": "x" * 10001}, "prompt may have 10000 characters, and 10001 were given"),
    ({"negative_prompt": {}}, "negative_prompt must be text"),
    ({"scheduler": "plms"}, "'plms' is not known; there are: euler, euler_a"),
    ({"scheduler": "x" * 61}, "scheduler may have 60 characters"),
    ({"scheduler": ["euler"]}, "scheduler must be text"),
    ({"lora": 5}, "lora must be text, and 5 was given"),
    ({"lora_strength": -4.1}, "lora_strength must be a number from -4 to 4, and -4.1 was given"),
    ({"lora_strength": float("nan")}, "lora_strength must be a number"),
    ({"model": "m" * 201}, "model may have 200 characters"),
]


@pytest.mark.parametrize(("payload", "sentence"), HOSTILE, ids=[f"{i}-{next(iter(p))}" for i, (p, _) in enumerate(HOSTILE)])
def test_each_refusal_is_one_short_sentence(payload: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_request({"prompt": "a", **payload})
    text = str(caught.value)
    assert sentence in text
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 250
    assert caught.value.retry is False


def test_what_is_missing_has_the_documents_defaults() -> None:
    request = parse_request({})
    assert (request.width, request.height, request.steps, request.sampler) == (1024, 1024, 20, "euler")
    assert request.guidance_scale is None
    assert request.model is None
    assert (request.lora, request.lora_strength) == (None, 0.8)
    assert parse_request({}).seed != request.seed


def test_unknown_fields_and_nulls_are_ignored() -> None:
    request = parse_request(
        json.loads('{"prompt": null, "refiner": "x", "lora": null, "width": null, "steps": 3.0, "seed": 9223372036854775807}')
    )
    assert (request.prompt, request.width, request.steps, request.seed) == ("", 1024, 3, 2**63 - 1)
