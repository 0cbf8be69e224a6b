"""Builds an ONNX graph from a network: :class:`gpu_inference.engine.network.ops.Ops` on names of values.

Two dialects of opset 17: ``runtime`` takes ONNX Runtime's own attention, which never holds the whole matrix of scores, and its
other fused operations; ``plain`` has nothing but what the parsers of TensorRT 8.5 and later know.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from gpu_inference.importing.weights_file import Stored, WeightsFile

Array = npt.NDArray[Any]
OPSET, IR_VERSION = 17, 8
RUNTIME, PLAIN = "runtime", "plain"
_CONTRIB = "com.microsoft"
_TYPES = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT}
_MASKED = -10000.0
"""Added to scores that are not to be seen; it fits into half precision."""


class GraphOps:
    """Collects the nodes of one graph that computes in ``precision``, ``float16`` or ``float32``; inputs and outputs are float32."""

    def __init__(self, weights: WeightsFile, precision: str, dialect: str) -> None:
        self._weights, self._precision, self._dialect = weights, precision, dialect
        self._nodes: List[onnx.NodeProto] = []
        self._initializers: Dict[str, onnx.TensorProto] = {}
        self._inputs: List[onnx.ValueInfoProto] = []
        self._outputs: List[onnx.ValueInfoProto] = []
        self._shapes: Dict[str, Sequence[Any]] = {}
        self._cast: Dict[str, str] = {}
        self._width: Dict[str, int] = {}
        self._length = 0

    def take(self, name: str, shape: Sequence[Any], whole: bool = False, exact: bool = False) -> str:
        """An input of the graph: ids where ``whole``; numbers are brought to the graph's precision unless ``exact``."""
        kind = TensorProto.INT64 if whole else TensorProto.FLOAT
        if whole:
            self._length = int(shape[1])
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name if whole or exact or self._precision == "float32" else self._to(name, self._precision)

    def give(self, name: str, shape: Sequence[Any]) -> None:
        """The shape of an output, which :meth:`named` names."""
        self._shapes[name] = shape

    def build(self) -> onnx.ModelProto:
        """The graph."""
        # ONNX Runtime orders nodes from the results backwards, and takes of a node's inputs the one that was declared last first. Weights
        # that are widened are declared first, so that each is widened just before it is used, not all at the beginning.
        widened = [node for node in self._nodes if node.output[0] in self._cast.values()]
        others = [node for node in self._nodes if node.output[0] not in self._cast.values()]
        graph = helper.make_graph(widened + others, "network", self._inputs, self._outputs, list(self._initializers.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        if self._dialect == RUNTIME:
            opsets.append(helper.make_opsetid(_CONTRIB, 1))
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="fleet-worker")

    def _node(self, kind: str, inputs: Sequence[str], outputs: int = 1, domain: str = "", **attributes: Any) -> List[str]:
        number = len(self._nodes)
        names = [f"v{number}" if outputs == 1 else f"v{number}_{index}" for index in range(outputs)]
        # Without names ONNX Runtime 1.19 fuses nodes to ones of equal name, and refuses them.
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=str(number), domain=domain, **attributes))
        return names

    def _one(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self._node(kind, inputs, **attributes)[0]

    def _to(self, x: str, precision: str) -> str:
        return self._one("Cast", x, to=_TYPES[precision])

    def _constant(self, name: str, value: Array) -> str:
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(value, name)
        return name

    def _whole(self, *values: int) -> str:
        return self._constant("i_" + "_".join(str(value) for value in values), np.array(values, dtype=np.int64))

    def _number(self, value: float, precision: Optional[str] = None) -> str:
        precision = precision or self._precision
        return self._constant(f"c_{value!r}_{precision}", np.array(value, dtype=precision))

    def _plain_external(self, name: str, stored: Stored) -> str:
        """A weight in the precision that it is stored in."""
        if name not in self._initializers:
            tensor = TensorProto(name=name, data_type=_TYPES[stored.dtype], dims=stored.shape, data_location=TensorProto.EXTERNAL)
            for key, value in (("location", self._weights.path.name), ("offset", str(stored.offset)), ("length", str(stored.nbytes))):
                tensor.external_data.add(key=key, value=value)
            self._initializers[name] = tensor
        return name

    def _external(self, name: str, stored: Stored) -> str:
        self._plain_external(name, stored)
        if stored.dtype == self._precision:
            return name
        if name not in self._cast:
            self._cast[name] = self._to(name, self._precision)
        return self._cast[name]

    def _small(self, name: str, needed: bool = True) -> Optional[str]:
        value = self._weights.vector(name, needed)
        return None if value is None else self._constant(name, value.astype(self._precision))

    def conv(self, x: str, module: str, stride: int = 1, padding: int = 0) -> str:
        weight = self._external(module + ".weight", self._weights.matrix(module, False))
        side = self._initializers[module + ".weight"].dims[2]
        bias = self._small(module + ".bias")
        return self._one("Conv", x, weight, bias or "", strides=[stride] * 2, pads=[padding] * 4, kernel_shape=[side] * 2)

    def linear(self, x: str, module: str) -> str:
        stored = self._weights.matrix(module, True)
        product = self._one("MatMul", x, self._external(module + ".weight", stored))
        bias = self._small(module + ".bias", needed=False)
        result = product if bias is None else self._one("Add", product, bias)
        self._width[result] = stored.shape[1]
        return result

    def group_norm(self, x: str, module: str, groups: int, epsilon: float) -> str:
        # InstanceNormalization of joined channels: TensorRT's parser knows this form as a group norm.
        ones = self._constant(f"ones_{groups}", np.ones(groups, dtype=self._precision))
        noughts = self._constant(f"noughts_{groups}", np.zeros(groups, dtype=self._precision))
        joined = self._one("Reshape", x, self._whole(0, groups, -1))
        normed = self._one("InstanceNormalization", joined, ones, noughts, epsilon=epsilon)
        back = self._one("Reshape", normed, self._one("Shape", x))
        factor, shift = (self._weights.vector(f"{module}.{part}") for part in ("weight", "bias"))
        if factor is None or shift is None:
            raise RuntimeError("A norm without factors.")
        factor_name = self._constant(module + ".weight", factor.astype(self._precision).reshape(-1, 1, 1))
        shift_name = self._constant(module + ".bias", shift.astype(self._precision).reshape(-1, 1, 1))
        return self._one("Add", self._one("Mul", back, factor_name), shift_name)

    def layer_norm(self, x: str, module: str, epsilon: float = 1e-5) -> str:
        factor, shift = self._small(module + ".weight"), self._small(module + ".bias")
        if self._dialect == RUNTIME:
            return self._one("LayerNormalization", x, factor or "", shift or "", axis=-1, epsilon=epsilon)
        exact = x if self._precision == "float32" else self._to(x, "float32")
        centred = self._one("Sub", exact, self._one("ReduceMean", exact, axes=[-1], keepdims=1))
        spread = self._one("ReduceMean", self._one("Mul", centred, centred), axes=[-1], keepdims=1)
        normed = self._one("Div", centred, self._one("Sqrt", self._one("Add", spread, self._number(epsilon, "float32"))))
        normed = normed if self._precision == "float32" else self._to(normed, self._precision)
        return self._one("Add", self._one("Mul", normed, factor or ""), shift or "")

    def silu(self, x: str) -> str:
        return self._one("Mul", x, self._one("Sigmoid", x))

    def gelu(self, x: str) -> str:
        if self._dialect == RUNTIME:
            return self._one("Gelu", x, domain=_CONTRIB)
        risen = self._one("Add", self._one("Erf", self._one("Mul", x, self._number(math.sqrt(0.5)))), self._number(1.0))
        return self._one("Mul", self._one("Mul", x, self._number(0.5)), risen)

    def quick_gelu(self, x: str) -> str:
        return self._one("Mul", x, self._one("Sigmoid", self._one("Mul", x, self._number(1.702))))

    def add(self, a: str, b: str) -> str:
        return self._one("Add", a, b)

    def gate(self, x: str) -> str:
        value, gate = self._node("Split", [x], outputs=2, axis=-1)
        return self._one("Mul", value, self.gelu(gate))

    def over_picture(self, x: str) -> str:
        return self._one("Unsqueeze", x, self._whole(2, 3))

    def concat(self, values: Sequence[str], axis: int) -> str:
        return self._one("Concat", *values, axis=axis)

    def attention(self, query: str, key: str, value: str, heads: int, causal: bool = False) -> str:
        if self._dialect == RUNTIME and not causal:
            return self._one("MultiHeadAttention", query, key, value, domain=_CONTRIB, num_heads=heads)
        split = [self._one("Reshape", part, self._whole(0, 0, heads, -1)) for part in (query, key, value)]
        q, k, v = (self._one("Transpose", part, perm=perm) for part, perm in zip(split, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])))
        scores = self._one("MatMul", self._one("Mul", q, self._number((self._width[query] / heads) ** -0.5)), k)
        if causal:
            mask = np.triu(np.full((self._length, self._length), _MASKED, dtype=self._precision), 1)
            scores = self._one("Add", scores, self._constant("mask", mask))
        attended = self._one("MatMul", self._one("Softmax", scores, axis=-1), v)
        return self._one("Reshape", self._one("Transpose", attended, perm=[0, 2, 1, 3]), self._whole(0, 0, -1))

    def upsample(self, x: str) -> str:
        scales = self._constant("twice", np.array([1, 1, 2, 2], dtype=np.float32))
        attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self._one("Resize", x, "", scales, **attributes)

    def tokens(self, x: str) -> str:
        return self._one("Transpose", self._one("Reshape", x, self._whole(0, 0, -1)), perm=[0, 2, 1])

    def picture(self, tokens: str, like: str) -> str:
        sides = self._one("Slice", self._one("Shape", like), self._whole(2), self._whole(4))
        shape = self._one("Concat", self._whole(0, -1), sides, axis=0)
        return self._one("Reshape", self._one("Transpose", tokens, perm=[0, 2, 1]), shape)

    def waves(self, x: str, width: int) -> str:
        half = width // 2
        rates = np.exp(-math.log(10000.0) * np.arange(half, dtype=np.float64) / half).astype(np.float32)
        angles = self._one("Mul", self._one("Unsqueeze", x, self._whole(-1)), self._constant(f"rates_{half}", rates))
        joined = self._one("Concat", self._one("Cos", angles), self._one("Sin", angles), axis=-1)
        return joined if self._precision == "float32" else self._to(joined, self._precision)

    def flat(self, x: str) -> str:
        return self._one("Flatten", x, axis=1)

    def embed(self, ids: str, module: str, positions: str) -> str:
        rows = []
        for name, wanted in ((module, ids), (positions, None)):
            stored = self._weights.table(name)
            table = self._plain_external(name + ".weight", stored)
            row = table if wanted is None else self._one("Gather", table, wanted, axis=0)
            rows.append(row if stored.dtype == self._precision else self._to(row, self._precision))
        return self._one("Add", *rows)

    def at_end(self, tokens: str, ids: str) -> str:
        place = self._one("ArgMax", ids, axis=1, keepdims=1)
        # GatherND with a batch axis takes one token of each prompt.
        return self._one("GatherND", tokens, place, batch_dims=1)

    def named(self, x: str, name: str) -> str:
        cast = "Identity" if self._precision == "float32" else "Cast"
        attributes: Dict[str, Any] = {} if cast == "Identity" else {"to": TensorProto.FLOAT}
        self._nodes.append(helper.make_node(cast, [x], [name], name=name, **attributes))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, self._shapes[name]))
        return name
