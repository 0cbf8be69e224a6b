"""What the API's description says of access: each row's role, the ways to show a key, and how a row refuses."""

from __future__ import annotations

from typing import Any

from fleet_api.access.callers import Role
from fleet_api.access.policy import AGENT, CREATES, IDEMPOTENT, ROLES
from fleet_api.errors import documented
from fleet_api.idempotency.keys import HEADER, LONGEST

SCHEMES: dict[str, dict[str, str]] = {
    "key": {"type": "http", "scheme": "bearer", "description": "A key, or an agent's credential"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "fleet_session",
        "description": "From POST /api/session (its name goes on with the data folder's); changes also want X-CSRF-Token",
    },
}


def with_access(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with ``security``, ``x-role`` and the answers of the doors added to every operation."""
    schema.setdefault("components", {})["securitySchemes"] = SCHEMES
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            row = f"{method.upper()} {path}"
            wanted = ROLES[row]
            statuses = [403] if wanted == Role.ANYONE else [401, 403]
            if row in CREATES:
                statuses.append(429)
            if row in IDEMPOTENT:
                statuses += [400, 409, 422]
                _describe_key(operation)
            for status in statuses:
                described = documented(status)[status]
                content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
                operation["responses"].setdefault(str(status), {"description": described["description"], "content": content})
            operation["responses"] = dict(sorted(operation["responses"].items()))
            operation["x-role"] = "agent" if wanted == AGENT else wanted.name.lower()
            if wanted == AGENT:
                operation["security"] = [{"key": []}]
            elif wanted != Role.ANYONE:
                operation["security"] = [{"key": []}, {"header": []}, {"cookie": []}]
    return schema


def _describe_key(operation: dict[str, Any]) -> None:
    operation.setdefault("parameters", []).append(
        {
            "name": HEADER, "in": "header", "required": False,
            "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST},
            "description": "A text of the caller's choice: a repeat of the same request under it within 24 hours makes nothing again",
        }
    )  # fmt: skip
    for status, response in operation["responses"].items():
        if status < "300":
            response.setdefault("headers", {})["Idempotent-Replayed"] = {
                "description": "true: this is the answer to an earlier request under the same Idempotency-Key",
                "schema": {"type": "string"},
            }
