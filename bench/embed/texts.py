"""The texts that everyone embeds: short sentences and passages of about 256 tokens."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

SHORT_SENTENCES = 1500
LONG_PASSAGES = 64
LONG_TOKENS = 256


@dataclass(frozen=True)
class TextSet:
    """Texts under a name; `tokens` counts MiniLM's, special ones included, padding not."""

    name: str
    texts: list[str]
    tokens: int


def sts_pairs(path: Path) -> list[tuple[str, str, float]]:
    """Rows of an STS file: two sentences and the score that people gave them, 0 to 5."""
    with path.open(newline="", encoding="utf-8") as file:
        return [(first, second, float(score)) for first, second, score in csv.reader(file)]


def count(tokenizer: Tokenizer, texts: list[str]) -> int:
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch(texts))


def short_set(data: Path, tokenizer: Tokenizer) -> TextSet:
    """The first distinct sentences of the English STS benchmark's development set."""
    pairs = sts_pairs(data / "sts" / "stsb-en-dev.csv")
    distinct = dict.fromkeys(sentence for first, second, _ in pairs for sentence in (first, second))
    texts = list(distinct)[:SHORT_SENTENCES]
    return TextSet("short", texts, count(tokenizer, texts))


def long_set(data: Path, tokenizer: Tokenizer) -> TextSet:
    """Passages of the Rust book's prose, cut at word ends just below 256 tokens."""
    texts = passages(data, tokenizer, LONG_PASSAGES)
    return TextSet("long256", texts, count(tokenizer, texts))


def calibration_texts(data: Path, tokenizer: Tokenizer, number: int) -> list[str]:
    """Sentences and passages, half and half, that are not measured, for static quantisation."""
    sentences = [row[0] for row in sts_pairs(data / "sts" / "stsb-en-train.csv")]
    later = passages(data, tokenizer, LONG_PASSAGES + number // 2)[LONG_PASSAGES:]
    return [*sentences[: number // 2], *later]


def passages(data: Path, tokenizer: Tokenizer, number: int) -> list[str]:
    files = sorted((data / "docs" / "rust-book-en").rglob("*.md"))
    prose = " ".join(without_code(file.read_text(encoding="utf-8")) for file in files)
    words = prose.split()
    texts: list[str] = []
    start = 0
    while len(texts) < number and start < len(words):
        # No word takes less than one token, so 256 words are always enough to choose from.
        passage = longest_prefix(tokenizer, words[start : start + LONG_TOKENS])
        texts.append(passage)
        start += len(passage.split())
    return texts


def without_code(markdown: str) -> str:
    return re.sub(r"```.*?```", " ", markdown, flags=re.DOTALL)


def longest_prefix(tokenizer: Tokenizer, words: list[str]) -> str:
    """The most of `words` that fits into LONG_TOKENS tokens."""
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(tokenizer.encode(" ".join(words[:middle])).ids) <= LONG_TOKENS
        low, high = (middle, high) if fits else (low, middle - 1)
    return " ".join(words[:low])


def single_texts(tokenizer: Tokenizer, short: TextSet, long: TextSet) -> dict[str, str]:
    """One text of 16 tokens and one of 256 or just below, for latency."""
    sixteen = next(text for text in short.texts if len(tokenizer.encode(text).ids) == 16)
    longest = max(long.texts, key=lambda text: len(tokenizer.encode(text).ids))
    return {"q16": sixteen, "p256": longest}
