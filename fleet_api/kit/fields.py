"""Field types for what callers send: each refuses what its plain Python type would quietly let through."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator

MAX_DEPTH = 64


def _whole(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("must be a whole number")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("must be a number")
    return value


def clean_text(value: str) -> str:
    """Return text that can be stored and shown everywhere. Raises ValueError for NUL and lone surrogates."""
    if "\x00" in value:
        raise ValueError("must not contain the NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode (it holds half of a surrogate pair)") from None
    return value


def clean_json(value: Any, depth: int = 0) -> Any:
    """Return JSON that can be stored and sent again. Raises ValueError for NaN, infinity, NUL, surrogates and deep nesting."""
    if depth > MAX_DEPTH:
        raise ValueError(f"must not be nested more than {MAX_DEPTH} deep")
    if isinstance(value, str):
        clean_text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must not hold NaN or infinite numbers")
    elif isinstance(value, dict):
        for key, inner in value.items():
            clean_text(key)
            clean_json(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            clean_json(inner, depth + 1)
    return value


Text = Annotated[str, AfterValidator(clean_text)]
Integer = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
JsonObject = Annotated[dict[str, Any], AfterValidator(lambda value: clean_json(value))]


class RequestBody(BaseModel):
    """Base of request bodies: ``null`` in a field is the same as leaving the field out."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data
