from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gpu_inference
from gpu_inference.engine.errors import ModelError
from gpu_inference.engine.tokenizer import Tokenizer, pad

START, END = 2, 1


@pytest.fixture
def tokenizer(tiny_model: Path) -> Tokenizer:
    return Tokenizer(tiny_model / "tokenizer.json", 8)


def test_start_and_end_are_marked(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("abc")
    assert tokens.ids[0] == START
    assert tokens.ids[-1] == END
    assert len(tokens.ids) == 5
    assert tokens.dropped == 0
    assert tokenizer.encode("ABC") == tokens
    assert tokenizer.encode("").ids == [START, END]


def test_the_end_outlives_the_cut(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("abcdefghij")
    assert len(tokens.ids) == 8
    assert tokens.ids[-1] == END
    assert tokens.ids[:7] == tokenizer.encode("abcdef").ids[:7]
    assert tokens.dropped == 4


@pytest.mark.parametrize("text", ["☃", "\x00", "\ud800", "🎨" * 5000, "\u202e"])
def test_any_text_has_tokens(tokenizer: Tokenizer, text: str) -> None:
    assert 2 < len(tokenizer.encode(text).ids) <= 8


def test_padding(tokenizer: Tokenizer) -> None:
    row = pad([START, 5, END], 6, 9)
    assert row.dtype == np.int64
    assert row.tolist() == [[START, 5, END, 9, 9, 9]]


def test_a_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="is not a tokenizer"):
        Tokenizer(tmp_path / "tokenizer.json", 8)


def test_words_that_a_closed_vocabulary_lacks_are_left_out_and_named() -> None:
    folder = Path(gpu_inference.__file__).parent / "builtin" / "model"
    closed = Tokenizer(folder / "tokenizer.json", 77, drop_unknown=True)
    said = closed.encode("A cyberpunk RED star, on a white background at zzz zzz")
    assert said.ids == closed.encode("a red star, on a white background at").ids
    assert said.unknown == ("cyberpunk", "zzz")
    assert closed.encode("☃ 🎨").ids == closed.encode("").ids
    assert closed.encode("a red star").unknown == ()
