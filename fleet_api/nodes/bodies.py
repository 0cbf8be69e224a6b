"""What callers say of nodes."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from fleet_api.kit.allowed import plain_address
from fleet_api.kit.fields import RequestBody, Text
from fleet_api.nodes.naming import reserved

ZONE = re.compile(r"[A-Za-z0-9._-]{1,15}")  # an interface's name


def _address(value: str) -> str:
    try:
        address = plain_address(value)
    except ValueError:
        raise ValueError("must be an IP address such as 192.0.2.10") from None
    if "%" in value and not ZONE.fullmatch(value.partition("%")[2]):
        raise ValueError("must name an interface such as eth0 after its %")
    return str(address)


def _free_word(value: str) -> str:
    if reserved(value):
        raise ValueError(f"must not be {value!r}, which is a reserved word; choose another id")
    return value


Address = Annotated[Text, Field(max_length=45, examples=["192.0.2.10"]), AfterValidator(_address)]
NodeName = Annotated[Text, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$", examples=["agx0"]), AfterValidator(_free_word)]
LabelName = Annotated[Text, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$")]
Labels = Annotated[dict[LabelName, Annotated[Text, Field(max_length=200)]], Field(max_length=50, examples=[{"rack": "a1"}])]
Cluster = Annotated[Text, Field(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$", examples=["vision"])]
CredentialId = Annotated[Text, Field(min_length=1, max_length=100, examples=["550e8400-e29b-41d4-a716-446655440000"])]
Port = Annotated[int, Field(ge=1, le=65535)]


class NodeBody(RequestBody):
    """A machine to register; ``POST /api/network/join`` makes a node of it."""

    id: NodeName | None = Field(None, description="Letters, digits and hyphens; without it, from hostname or ip")
    hostname: Text | None = Field(None, min_length=1, max_length=253, examples=["agx0"])
    ip: Address
    ssh_port: Port = 22
    credential_id: CredentialId | None = None
    cluster: Cluster | None = None
    labels: Labels = Field(default_factory=dict)


class NodeChange(RequestBody):
    """What to change of a node; what is left out stays. An empty cluster takes it out of its cluster."""

    ip: Address | None = None
    ssh_port: Port | None = None
    credential_id: CredentialId | None = None
    cluster: Cluster | Annotated[Text, Field(max_length=0)] | None = None
    labels: Labels | None = None


class JoinBody(RequestBody):
    """A machine to onboard."""

    ip: Address
    credential_id: CredentialId
    cluster: Cluster | None = None
    ssh_port: Port = 22
    node_id: NodeName | None = Field(None, description="Its name in the fleet; without it, its own host name")
    labels: Labels = Field(default_factory=dict)


class InstallBody(RequestBody):
    """A machine to onboard, in the words of the install queue."""

    host: Address
    credential_id: CredentialId
    cluster: Cluster | None = None


class JoinAllBody(RequestBody):
    """What to onboard every machine with that the last scan found."""

    credential_id: CredentialId | None = Field(None, description="Without it, the only credential there is")
    cluster: Cluster | None = None
