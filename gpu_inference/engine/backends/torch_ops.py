"""SDXL's networks computed by torch: :class:`gpu_inference.engine.network.ops.Ops` on tensors."""

from __future__ import annotations

import math
from typing import Any, Dict, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from gpu_inference.engine.manifest import ModelFolder, NetworkPart
from gpu_inference.engine.weights import Weight, load_weight_map

Tensor = Any


def load_tensors(folder: ModelFolder, part: NetworkPart, device: str, dtype: Any) -> Dict[str, Tensor]:
    """A network's tensors on a device, by diffusers' names; the file is mapped, so that no second copy is made on the way."""
    known = load_weight_map(folder.file(part.weights or ""))
    data = np.memmap(folder.file(known.data or part.file), mode="r", dtype=np.uint8)
    named = {f"{module}.weight": weight for module, weight in known.weights.items()}
    return {name: to_device(view(data, weight), weight, device, dtype) for name, weight in {**named, **known.vectors}.items()}


def view(data: Any, weight: Weight) -> Any:
    """A weight in a mapped file."""
    count = int(np.prod(weight.shape)) * np.dtype(weight.dtype).itemsize
    return data[weight.offset : weight.offset + count].view(weight.dtype).reshape(weight.shape)


def to_device(value: Any, weight: Weight, device: str, dtype: Any) -> Tensor:
    """A stored weight as torch takes it: ``[out, in]``, and kernels with their channels last on a GPU."""
    tensor = torch.from_numpy(np.array(value)).to(device=device, dtype=dtype)
    if weight.transposed:
        tensor = tensor.t()
    return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 and device != "cpu" else tensor


class TorchOps:
    """Operations on the tensors of one network."""

    def __init__(self, tensors: Dict[str, Tensor]) -> None:
        self.tensors = tensors
        self.dtype = next(iter(tensors.values())).dtype

    def conv(self, x: Tensor, module: str, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv2d(x, self.tensors[module + ".weight"], self.tensors.get(module + ".bias"), stride, padding)

    def linear(self, x: Tensor, module: str) -> Tensor:
        return F.linear(x, self.tensors[module + ".weight"], self.tensors.get(module + ".bias"))

    def group_norm(self, x: Tensor, module: str, groups: int, epsilon: float) -> Tensor:
        return F.group_norm(x, groups, self.tensors[module + ".weight"], self.tensors[module + ".bias"], epsilon)

    def layer_norm(self, x: Tensor, module: str, epsilon: float = 1e-5) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.tensors[module + ".weight"], self.tensors[module + ".bias"], epsilon)

    def silu(self, x: Tensor) -> Tensor:
        return F.silu(x)

    def gelu(self, x: Tensor) -> Tensor:
        return F.gelu(x)

    def quick_gelu(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def gate(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=-1)
        return value * F.gelu(gate)

    def over_picture(self, x: Tensor) -> Tensor:
        return x[:, :, None, None]

    def concat(self, values: Sequence[Tensor], axis: int) -> Tensor:
        return torch.cat(list(values), dim=axis)

    def attention(self, query: Tensor, key: Tensor, value: Tensor, heads: int, causal: bool = False) -> Tensor:
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value))
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)

    def upsample(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")

    def tokens(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)

    def picture(self, tokens: Tensor, like: Tensor) -> Tensor:
        return tokens.transpose(1, 2).unflatten(2, like.shape[2:])

    def waves(self, x: Tensor, width: int) -> Tensor:
        half = width // 2
        rates = torch.exp(torch.arange(half, dtype=torch.float32, device=x.device) * (-math.log(10000.0) / half))
        angles = x.float()[..., None] * rates
        return torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.dtype)

    def flat(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def embed(self, ids: Tensor, module: str, positions: str) -> Tensor:
        return F.embedding(ids, self.tensors[module + ".weight"]) + self.tensors[positions + ".weight"][: ids.shape[1]]

    def at_end(self, tokens: Tensor, ids: Tensor) -> Tensor:
        return tokens[torch.arange(len(ids), device=ids.device), ids.int().argmax(dim=-1)]

    def named(self, x: Tensor, name: str) -> Tensor:
        return x.float()
