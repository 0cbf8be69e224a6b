"""How models are shown."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from fleet_api.kit.fields import Integer, RequestBody, Text
from fleet_api.models.kinds import NAME_RULE, SUFFIX, is_name


class Stored(BaseModel):
    """What the model store knows of a model or LoRA; all of it is empty for one that came with the agents' own software."""

    stored: bool = Field(False, description="Whether it is in the model store, from which nodes fetch it when a job wants it")
    sha256: str = Field("", description="Of its one file, or of the list of its files")
    source: str = Field("", examples=["https://models.example.invalid/night"])
    on_nodes: list[str] = Field([], description="Nodes that have it on disk", examples=[["agx0"]])
    fetching_on: dict[str, int] = Field({}, description="Nodes that fetch it now, and percent", examples=[{"agx1": 40}])
    failed_on: dict[str, str] = Field({}, description="Nodes that could not fetch it, and why; they try again", examples=[{}])
    note: str = Field("", description="Why no node can use it; empty where nodes can")


class ModelView(Stored):
    """A model and where it is loaded."""

    name: str = Field(examples=["fleet-shapes"])
    type: str = Field(examples=["checkpoint"])
    size: str = Field(examples=["8.1MB"])
    size_bytes: int
    native_size: int
    base: str = ""
    default: bool
    loaded_on: list[str] = Field(examples=[["agx0"]])


class ModelList(BaseModel):
    """Every model, by name."""

    models: list[ModelView]


class LoraView(Stored):
    """A LoRA, the model it changes, and the nodes that have it loaded."""

    name: str = Field(examples=["night"])
    size: str = Field(examples=["230.6kB"])
    size_bytes: int
    base: str = Field(examples=["fleet-shapes"])
    loaded_on: list[str] = Field(examples=[[]])


class LoraList(BaseModel):
    """Every LoRA, by name."""

    loras: list[LoraView]


class LoadedModels(BaseModel):
    """Node ids by loaded model."""

    models: dict[str, list[str]]


class SwitchBody(RequestBody):
    """The model to load."""

    model: Annotated[Text, Field(min_length=1, max_length=200, description="A name of GET /api/vision/models/available")]


class Switched(BaseModel):
    """What becomes of a switch: ``loaded`` (it was there), ``loading`` (it begins now), ``waiting`` (for the node's job to end) or
    ``fetching`` (from the model store, and then it is loaded).
    """

    node_id: str
    model: str
    status: str = Field(examples=["loading"])


def _name(value: str) -> str:
    if not is_name(value):
        raise ValueError(NAME_RULE)
    return value


def _filename(value: str) -> str:
    if not is_name(value) or not value.lower().endswith(SUFFIX) or len(value) <= len(SUFFIX):
        raise ValueError(f"must be a plain file name that ends in {SUFFIX}")
    return value


StoredName = Annotated[Text, Field(min_length=1, max_length=150), AfterValidator(_name)]
Filename = Annotated[Text, Field(min_length=1, max_length=150), AfterValidator(_filename)]


class UploadBody(RequestBody):
    """What is going to be uploaded."""

    name: StoredName = Field(description="How jobs will name it", examples=["night"])
    filename: Filename = Field(description="A plain file name that ends in .safetensors", examples=["night.safetensors"])
    size: Annotated[Integer, Field(ge=1, le=2**53, description="Bytes of the file", examples=[230_592])]
    sha256: Annotated[Text | None, Field(pattern="^[0-9a-f]{64}$", description="Hex SHA-256 of the file; it is checked at the end")] = None
    base: Annotated[Text, Field(max_length=150, description="The model that a LoRA changes; left out, the file's own metadata says it")] = (
        ""
    )
    source: Annotated[Text, Field(max_length=500, description="Where it came from, in your words")] = ""


class ImportBody(RequestBody):
    """How a stored checkpoint is imported. What is left out is taken from the file."""

    name: StoredName = Field(description="How jobs will name the model", examples=["sdxl-base"])
    precision: Literal["fp16", "fp32"] = Field("fp16", description="How its weights are stored")
    prediction: Literal["epsilon", "v_prediction"] | None = Field(None, description="What its UNet predicts, where the file does not tell")
    zero_terminal_snr: bool = Field(False, description="Whether it was trained to the end of the noise, where the file does not tell")
    steps: Annotated[Integer | None, Field(ge=1, le=150, description="Steps that it is made for")] = None
    native_size: Annotated[Integer | None, Field(ge=64, le=4096, description="Side of its square in pixels; 1024 for SDXL")] = None
    license: Annotated[Text, Field(max_length=200, description="What is said of its license")] = ""
    vae_fp16_safe: bool = Field(False, description="Whether its VAE is one that was corrected for half precision")
    keep_source: bool = Field(True, description="Whether the checkpoint stays in the store once the model is there")


class UploadView(BaseModel):
    """An upload: send the bytes from ``offset`` on with PATCH. Once the last has come it is checked and stored."""

    upload_id: str = Field(examples=["0123456789abcdef0123456789abcdef"])
    type: str = Field(examples=["lora"])
    name: str = Field(examples=["night"])
    filename: str = Field(examples=["night.safetensors"])
    size: int = Field(examples=[230_592])
    offset: int = Field(examples=[0])
    status: str = Field(examples=["receiving"], description="receiving, checking or stored")
    sha256: str = Field("", description="Of the file, once it is stored")
    note: str = Field("", description="Once it is stored: why no node can use it; empty where nodes can")


class Refused(BaseModel):
    """What lies in the buckets and is not listed."""

    name: str
    reason: str


class Scanned(BaseModel):
    """What a look at the buckets changed: names that are listed now, and that are listed no more; and what was refused."""

    found: list[str] = Field(examples=[["my-model"]])
    gone: list[str]
    refused: list[Refused]
