"""What the networks are written in: the few operations that SDXL needs, offered by a graph's builder and by torch.

``V`` is a value on the way: a name in a graph, or a tensor. Weights are named by their module, as in diffusers. Pictures are
``[batch, channels, height, width]``, tokens ``[batch, count, width]``.
"""

from __future__ import annotations

from typing import Protocol, Sequence, TypeVar

V = TypeVar("V")


class Ops(Protocol[V]):
    """Operations on values; ``module`` names the weight, and the bias beside it where there is one."""

    def conv(self, x: V, module: str, stride: int = 1, padding: int = 0) -> V:
        """A convolution of a picture, with its bias."""

    def linear(self, x: V, module: str) -> V:
        """A linear layer on the last axis; its bias is added where the weights have one."""

    def group_norm(self, x: V, module: str, groups: int, epsilon: float) -> V:
        """Group normalisation of a picture."""

    def layer_norm(self, x: V, module: str, epsilon: float = 1e-5) -> V:
        """Layer normalisation of the last axis."""

    def silu(self, x: V) -> V:
        """``x * sigmoid(x)``."""

    def gelu(self, x: V) -> V:
        """GELU by the error function."""

    def quick_gelu(self, x: V) -> V:
        """``x * sigmoid(1.702 * x)``."""

    def add(self, a: V, b: V) -> V:
        """The sum."""

    def gate(self, x: V) -> V:
        """The first half of the last axis times the GELU of its second half."""

    def over_picture(self, x: V) -> V:
        """``[batch, channels]`` as ``[batch, channels, 1, 1]``."""

    def concat(self, values: Sequence[V], axis: int) -> V:
        """Values side by side."""

    def attention(self, query: V, key: V, value: V, heads: int, causal: bool = False) -> V:
        """Scaled dot-product attention of tokens in ``heads`` equal heads."""

    def upsample(self, x: V) -> V:
        """A picture of twice the height and width, every pixel four times."""

    def tokens(self, x: V) -> V:
        """A picture's pixels as tokens, row by row."""

    def picture(self, tokens: V, like: V) -> V:
        """Tokens as a picture of the size of ``like``."""

    def waves(self, x: V, width: int) -> V:
        """Numbers of any shape ``[..., n]`` as ``[..., n, width]``: cosines, then sines (Vaswani et al. 2017, section 3.5)."""

    def flat(self, x: V) -> V:
        """``[batch, ...]`` as ``[batch, everything else]``."""

    def embed(self, ids: V, module: str, positions: str) -> V:
        """The rows of a table for ids ``[batch, length]``, with the rows of a table of positions added."""

    def at_end(self, tokens: V, ids: V) -> V:
        """The token where ``ids`` are largest first, which is a prompt's end: ``[batch, width]``."""

    def named(self, x: V, name: str) -> V:
        """An output of the network."""
