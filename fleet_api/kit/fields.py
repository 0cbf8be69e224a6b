"""Field types for what callers send: each refuses what its plain Python type would quietly let through."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator


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


def clean_json(value: Any) -> Any:
    """Return JSON that can be stored and sent again. Raises ValueError for NaN, infinity, NUL, surrogates, deep nesting."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode (it holds half of a surrogate pair)") from None
    except ValueError:
        raise ValueError("must not hold NaN or infinite numbers") from None
    except RecursionError:
        raise ValueError("must not be nested so deeply") from None
    if "\\u0000" in text:
        raise ValueError("must not contain the NUL character")
    return value


Text = Annotated[str, AfterValidator(clean_text)]
Integer = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
JsonObject = Annotated[dict[str, Any], AfterValidator(clean_json)]


class RequestBody(BaseModel):
    """Base of request bodies: ``null`` in a field is the same as leaving the field out."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data
