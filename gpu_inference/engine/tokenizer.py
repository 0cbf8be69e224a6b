"""Prompts to token ids, by the ``tokenizers`` library and the model's own ``tokenizer.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, NamedTuple, Tuple

import numpy as np
import numpy.typing as npt
import tokenizers

from gpu_inference.engine.errors import ModelError


class Tokens(NamedTuple):
    """Ids with the marks of start and end, not padded.

    ``dropped`` counts the tokens that did not fit, ``unknown`` names the words that were left out.
    """

    ids: List[int]
    dropped: int
    unknown: Tuple[str, ...] = ()


class Tokenizer:
    """Cuts prompts to a model's length; the mark of the end is kept. With ``drop_unknown``, only words of one token are read."""

    def __init__(self, path: Path, max_length: int, drop_unknown: bool = False) -> None:
        """Raises :class:`ModelError` where the file is no tokenizer."""
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:
            raise ModelError(f"The file {path} is not a tokenizer.") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.max_length = max_length
        self._drop_unknown = drop_unknown

    def encode(self, text: str) -> Tokens:
        """The tokens of ``text``; half a surrogate pair counts as a question mark."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        unknown: Tuple[str, ...] = ()
        if self._drop_unknown:
            clean, unknown = self._known(clean)
        ids: List[int] = list(self._tokenizer.encode(clean).ids)
        dropped = max(0, len(ids) - self.max_length)
        return Tokens(ids[: self.max_length - 1] + ids[-1:] if dropped else ids, dropped, unknown)

    def _known(self, text: str) -> Tuple[str, Tuple[str, ...]]:
        """The words of ``text`` that are one token each, and those that are not."""
        normalizer, splitter = self._tokenizer.normalizer, self._tokenizer.pre_tokenizer
        plain = normalizer.normalize_str(text) if normalizer is not None else text
        known: List[str] = []
        unknown: List[str] = []
        for word, (start, end) in splitter.pre_tokenize_str(plain):
            (known if len(self._tokenizer.model.tokenize(word)) == 1 else unknown).append(plain[start:end])
        return " ".join(known), tuple(dict.fromkeys(unknown))


def pad(ids: List[int], length: int, pad_token_id: int) -> npt.NDArray[Any]:
    """Int64 ids ``[1, length]``, filled up with ``pad_token_id``."""
    row = np.full((1, length), pad_token_id, dtype=np.int64)
    row[0, : len(ids)] = ids
    return row
