"""The API's description as it really is: FastAPI says 422 for validation errors, which here are 400."""

from __future__ import annotations

from typing import Any


def without_default_422(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without FastAPI's own validation responses and the models that only they use; every error is JSON."""
    for methods in schema["paths"].values():
        for operation in methods.values():
            default = operation["responses"].get("422", {}).get("description") == "Validation Error"
            if default:
                del operation["responses"]["422"]
            for status, response in operation["responses"].items():
                if status >= "400" and "content" in response:
                    [described] = response["content"].values()
                    response["content"] = {"application/json": described}
            operation["responses"] = dict(sorted(operation["responses"].items()))
    for name in ("HTTPValidationError", "ValidationError"):
        schema.get("components", {}).get("schemas", {}).pop(name, None)
    return schema
