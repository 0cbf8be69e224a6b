"""A byte-level tokeniser with one token for every word of the closed list; other words fall back to bytes."""

from collections import Counter
from typing import Dict, Iterable, List, Tuple

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import NFC, Lowercase, Replace, Sequence, Strip
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as PreSequence
from tokenizers.processors import TemplateProcessing

MAX_LENGTH = 77
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def merges_for(words: Iterable[str]) -> List[Tuple[str, str]]:
    """Find byte-pair merges, commonest pair first, after which every listed word is a single token."""
    spelled = [[*list(word[:-1]), word[-1] + WORD_END] for word in sorted(set(words))]
    merges = []
    while True:
        pairs = Counter(pair for parts in spelled for pair in zip(parts, parts[1:]))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = [_merged(parts, best) for parts in spelled]


def _merged(parts: List[str], pair: Tuple[str, str]) -> List[str]:
    result = []
    index = 0
    while index < len(parts):
        if tuple(parts[index : index + 2]) == pair:
            result.append(pair[0] + pair[1])
            index += 2
        else:
            result.append(parts[index])
            index += 1
    return result


def byte_alphabet() -> List[str]:
    """List the 256 printable stand-ins for bytes, "!" first, so that token 0 is "!"."""
    return sorted(ByteLevel.alphabet(), key=lambda letter: (ord(letter) > 126, ord(letter)))


def build_tokenizer(words: Iterable[str]) -> Tokenizer:
    """Build the tokeniser: it lower-cases, joins white space, and puts the begin and end tokens around the text."""
    letters = byte_alphabet()
    merges = merges_for(words)
    tokens = letters + [letter + WORD_END for letter in letters] + [a + b for a, b in merges] + [BEGIN, END]
    vocabulary: Dict[str, int] = {}
    for token in tokens:
        vocabulary.setdefault(token, len(vocabulary))
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges, continuing_subword_prefix="", end_of_word_suffix=WORD_END))
    tokenizer.normalizer = Sequence([NFC(), Replace(Regex(r"\s+"), " "), Strip(), Lowercase()])
    tokenizer.pre_tokenizer = PreSequence(
        [Split(Regex(PATTERN), behavior="removed", invert=True), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    begin, end = vocabulary[BEGIN], vocabulary[END]
    tokenizer.add_special_tokens([BEGIN, END])
    tokenizer.post_processor = TemplateProcessing(single=f"{BEGIN} $A {END}", special_tokens=[(BEGIN, begin), (END, end)])
    return tokenizer


def token_ids(tokenizer: Tokenizer, texts: List[str], pad: int, length: int = MAX_LENGTH) -> List[List[int]]:
    """Turn texts into rows of equal length, cut so that the end token stays, filled with ``pad``."""
    end = tokenizer.token_to_id(END)
    rows = []
    for encoding in tokenizer.encode_batch(texts):
        row = encoding.ids if len(encoding.ids) <= length else [*encoding.ids[: length - 1], end]
        rows.append(row + [pad] * (length - len(row)))
    return rows
