"""CLIP's tokenizer as a ``tokenizer.json``, from its vocabulary: byte-pair encoding of small letters (Radford et al. 2021, section 2.4).

The vocabulary is data of a licensed package; the project does not carry it. ``open_clip_torch`` (MIT) has it as
``bpe_simple_vocab_16e6.txt.gz``; diffusers folders bring theirs as ``vocab.json`` and ``merges.txt``.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from gpu_inference.importing.source import CannotImport

BEGIN, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
PACKAGE, FILE = "open_clip_torch", "bpe_simple_vocab_16e6.txt.gz"
HOW = (
    f"Its tokenizer is CLIP's, whose vocabulary the package {PACKAGE} has; install it with 'pip install --no-deps {PACKAGE}', or name"
    f" its {FILE}, or a folder with vocab.json and merges.txt, with --tokenizer."
)
_WORDS = rf"{BEGIN}|{END}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+".replace("|start", r"\|start", 1)
_MERGES = 49152 - 256 - 2
"""CLIP's vocabulary: 256 bytes, each alone and at a word's end, the merges, and the two marks: 49,408 tokens."""

Merges = List[Tuple[str, str]]


def byte_signs() -> List[str]:
    """A printable sign for each byte, in the order of the vocabulary: those that are printable stand for themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(len(others))]


def _packaged() -> Optional[Path]:
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == FILE), None)


def _merges_of(text: str) -> Merges:
    lines = text.splitlines()[1:]  # the first line names a version
    pairs = [tuple(line.split()) for line in lines if line.strip()]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise CannotImport("The tokenizer's merges are not pairs of words.")
    return [(pair[0], pair[1]) for pair in pairs[:_MERGES]]


def _read(place: Path) -> Tuple[Dict[str, int], Merges]:
    if place.is_dir():
        vocabulary: Any = json.loads((place / "vocab.json").read_text(encoding="utf-8"))
        return {str(word): int(number) for word, number in vocabulary.items()}, _merges_of((place / "merges.txt").read_text(encoding="utf-8"))
    with gzip.open(place, "rt", encoding="utf-8") as stream:
        merges = _merges_of(stream.read(1 << 24))
    signs = byte_signs()
    words = [*signs, *(sign + WORD_END for sign in signs), *("".join(pair) for pair in merges), BEGIN, END]
    return {word: number for number, word in enumerate(words)}, merges


def _ready_made(place: Path) -> Optional[Path]:
    """A ``tokenizer.json`` that is there already."""
    found = place / "tokenizer.json" if place.is_dir() else place
    return found if found.name.endswith(".json") and found.is_file() else None


def build(vocabulary: Dict[str, int], merges: Merges) -> Tokenizer:
    """The tokenizer of a vocabulary and its merges."""
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix=WORD_END, unk_token=END, fuse_unk=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    split = pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    ends = [(word, vocabulary[word]) for word in (BEGIN, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A {END}", special_tokens=ends)
    return tokenizer


def write(place: Optional[Path], target: Path) -> Tuple[int, int]:
    """Writes ``target`` from what is at ``place`` (None: the package's); returns the mark of the end and the size of the vocabulary.

    Raises :class:`CannotImport`.
    """
    place = place or _packaged()
    if place is None:
        raise CannotImport(HOW)
    try:
        ready = _ready_made(place)
        tokenizer = Tokenizer.from_file(str(ready)) if ready is not None else build(*_read(place))
    except CannotImport:
        raise
    except Exception as error:  # the library raises Exception itself
        raise CannotImport(f"The tokenizer {place} cannot be read ({' '.join(str(error).split())[:200]}).") from error
    end = tokenizer.token_to_id(END)
    if end is None or tokenizer.token_to_id(BEGIN) is None:
        raise CannotImport(f"The tokenizer {place} is not CLIP's: it has no {BEGIN} and {END}.")
    tokenizer.save(str(target), pretty=False)
    return int(end), int(tokenizer.get_vocab_size())
