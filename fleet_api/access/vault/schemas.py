"""Bodies and answers of the vault. No answer has a field that could hold a secret."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field, SecretStr, model_validator

from fleet_api.access.vault.models import Credential
from fleet_api.access.vault.secret import FIELDS
from fleet_api.kit.clock import rfc3339
from fleet_api.kit.fields import RequestBody, Text, clean_text


def _one_line(value: SecretStr) -> SecretStr:
    text = clean_text(value.get_secret_value())
    if "\n" in text or "\r" in text:
        raise ValueError("must be one line")
    return value


def _lines(value: SecretStr) -> SecretStr:
    clean_text(value.get_secret_value())
    return value


Password = Annotated[SecretStr, Field(max_length=1024), AfterValidator(_one_line)]
PrivateKey = Annotated[SecretStr, Field(max_length=65_536), AfterValidator(_lines)]
Name = Annotated[Text, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]*$", examples=["lab"])]
Username = Annotated[Text, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@\\-]*\$?$", examples=["jetson"])]


class _Secrets(RequestBody):
    password: Password | None = Field(None, description="For signing in; also for sudo where no become_password is given")
    private_key: PrivateKey | None = Field(None, description="An OpenSSH or PEM private key, as its file holds it")
    passphrase: Password | None = Field(None, description="What opens the private key, if it is encrypted")
    become_password: Password | None = Field(None, description="What sudo asks for")

    def secrets(self) -> dict[str, str]:
        """Return the secrets that were given, by field; an empty one takes that secret away."""
        given = {name: getattr(self, name) for name in FIELDS}
        return {name: value.get_secret_value() for name, value in given.items() if value is not None}


class CredentialBody(_Secrets):
    """A credential to keep."""

    name: Name
    username: Username

    @model_validator(mode="after")
    def _some_way_in(self) -> Self:
        if not any(self.secrets().get(name) for name in ("password", "private_key")):
            raise ValueError("A password or a private_key is required")
        return self


class CredentialChange(_Secrets):
    """What to change of a credential. A secret that is given replaces the one there was; an empty one takes it away."""

    name: Name | None = None
    username: Username | None = None


class CredentialView(BaseModel):
    """A credential without its secrets. ``kinds`` are the secrets that it holds."""

    id: str
    name: str
    username: str
    kinds: list[str] = Field(examples=[["password"]])
    nodes: list[str] = Field(description="Ids of the nodes that use it", examples=[["agx0"]])
    created_at: str
    updated_at: str
    last_used_at: str | None

    @classmethod
    def of(cls, row: Credential, nodes: list[str]) -> CredentialView:
        """Return a credential as callers see it."""
        return cls(
            id=row.id, name=row.name, username=row.username, kinds=row.kinds.split(",") if row.kinds else [], nodes=nodes,
            created_at=rfc3339(row.created_at) or "", updated_at=rfc3339(row.updated_at) or "", last_used_at=rfc3339(row.last_used_at),
        )  # fmt: skip
