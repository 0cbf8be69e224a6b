"""Validation errors as one sentence that names field, value and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf
from pydantic import SecretStr
from pydantic.fields import FieldInfo

SHOWN = 60  # characters of a bad value that are repeated to the caller


def shown(value: Any) -> str:
    """Return a short form of a caller's value, safe to print and to encode."""
    text = repr(value) if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    text = text.encode("ascii", "backslashreplace").decode()
    if len(text) <= SHOWN:
        return text
    return f"{text[:SHOWN]}... ({len(value) if isinstance(value, str) else len(text):,} characters)"


def constraints(field: FieldInfo, of_entry: bool = False) -> list[Any]:
    """Return a field's constraints, else those inside ``Annotated[...] | None``; ``of_entry``: those of a list's entries."""
    own = list(field.metadata)
    if own and not of_entry:
        return own
    found = []
    for inner in getattr(field.annotation, "__args__", ()):
        for item in getattr(inner, "__metadata__", ()):
            found += item.metadata if isinstance(item, FieldInfo) else [item]
    return found or own


def allowed(metadata: Sequence[Any]) -> str:
    """Return the range that a field's constraints allow, in words; an empty string if there are none."""
    low = high = step = None
    for item in metadata:
        match item:
            case Ge(ge=bound) | Gt(gt=bound):
                low = bound
            case Le(le=bound) | Lt(lt=bound):
                high = bound
            case MultipleOf(multiple_of=bound):
                step = bound
            case MinLen(min_length=bound):
                low = bound
            case MaxLen(max_length=bound):
                high = bound
    parts = []
    if low is not None and high is not None:
        parts.append(f"from {low} to {high}")
    elif low is not None:
        parts.append(f"at least {low}")
    elif high is not None:
        parts.append(f"at most {high}")
    if step is not None:
        parts.append(f"in multiples of {step}")
    return " ".join(parts)


def sentence(errors: Sequence[Mapping[str, Any]], fields: Mapping[str, FieldInfo]) -> str:
    """Return one sentence for the first of pydantic's errors. ``fields`` are the model's, by name."""
    error = errors[0]
    location = [str(part) for part in error["loc"] if part not in ("body", "query", "path", "header")]
    name = ".".join(location) or "The request body"
    kind = error["type"]
    if kind == "json_invalid":
        return "The request body is not valid JSON."
    if kind == "missing":
        return f"{name} is required." if location else "A JSON body is required."
    if not location:
        if kind in ("model_attributes_type", "dict_type", "model_type"):
            return "The request body must be a JSON object, sent with Content-Type: application/json."
        return f"{_reason(error)}."
    field = fields.get(location[-1]) or fields.get(location[0])
    value = "the value" if field is not None and SecretStr in _types(field.annotation) else shown(error["input"])
    of_entry = location[-1] not in fields
    return f"{name}: {value} is not allowed; it {_rule(error, field, of_entry)}."


def _types(annotation: Any) -> set[Any]:
    """Return the types that an annotation is made of."""
    return {annotation}.union(*(_types(inner) for inner in getattr(annotation, "__args__", ())))


_KINDS = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be a text",
    "string_unicode": "must be valid Unicode",
    "dict_type": "must be a JSON object",
    "list_type": "must be a list",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}
_TEXT_LENGTH = {"string_too_short", "string_too_long"}
_LIST_LENGTH = {"too_short", "too_long"}


def _rule(error: Mapping[str, Any], field: FieldInfo | None, of_entry: bool) -> str:
    kind = error["type"]
    span = allowed(constraints(field, of_entry)) if field is not None else ""
    if kind in _TEXT_LENGTH:
        return f"must be {span} characters long" if span else _reason(error)
    if kind in _LIST_LENGTH and isinstance(error["input"], str):
        return f"must be {span} characters long" if span else _reason(error)
    if kind in _LIST_LENGTH:
        return f"must hold {span} entries" if span else _reason(error)
    if kind in ("greater_than_equal", "less_than_equal", "greater_than", "less_than", "multiple_of"):
        return f"must be {span}" if span else _reason(error)
    if kind in ("literal_error", "enum"):
        return f"must be one of {error['ctx']['expected'].replace(chr(39), '').replace(' or ', ', ')}"
    if kind == "string_pattern_mismatch":
        return f"must match the pattern {error['ctx']['pattern']}"
    reason = _KINDS.get(kind) or _reason(error)
    if span and reason.endswith("number"):
        return f"{reason} {span}"
    return reason


def _reason(error: Mapping[str, Any]) -> str:
    return str(error["msg"]).removeprefix("Value error, ").rstrip(".")
