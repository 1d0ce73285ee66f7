"""wenyi's decoder and llama.cpp's in turns on the same files: medians, and the ratios of these.

Both read the same tokens on the same number of threads, one measurement after the other, so that
both see the same machine. A ratio above 1 says that wenyi does more in a second.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODELS = ["SmolLM2-135M-Instruct.Q4_1", "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M"]
CONTEXT = 1024


class Peer:
    """A program that answers a line with a line."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts = self.answer()

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, line: str) -> dict:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def peers(model: Path, threads: int) -> dict[str, Peer]:
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    wenyi = target / "release" / "examples" / "chat_bench"
    llama = [sys.executable, HERE / "llama_worker.py", model, threads]
    return {"wenyi": Peer([wenyi, model, threads]), "llama.cpp": Peer(llama)}


def speed(both: dict[str, Peer], rounds: int, count: int) -> dict[str, dict[str, float]]:
    """Tokens a second, the median of `rounds` turns."""
    kinds = {
        "decode, empty": (f"decode 0 {count}", count),
        "decode at 512": (f"decode 512 {count}", count),
        "prompt of 512": ("prompt 512", 512),
    }
    rates: dict = {kind: {name: [] for name in both} for kind in kinds}
    for turn in range(rounds + 1):
        for kind, (line, tokens) in kinds.items():
            for name, peer in both.items():
                seconds = peer.ask(line)["seconds"]
                # The first turn touches memory for the first time.
                if turn > 0:
                    rates[kind][name].append(tokens / seconds)
    return {
        kind: {name: statistics.median(values) for name, values in by_name.items()}
        for kind, by_name in rates.items()
    }


def perplexity(both: dict[str, Peer], text: Path, chunks: int) -> dict[str, float]:
    """On the same tokens: llama.cpp's, in chunks of 512 whose second halves are scored."""
    ids = both["llama.cpp"].ask(f"tokenize {text} {512 * chunks}")["ids"]
    with tempfile.NamedTemporaryFile("w", suffix=".ids") as file:
        file.write(" ".join(map(str, ids)))
        file.flush()
        answers = {name: peer.ask(f"perplexity {file.name} 512") for name, peer in both.items()}
    return {name: answer["perplexity"] for name, answer in answers.items()}


def report(model: Path, options: argparse.Namespace) -> None:
    both = peers(model, options.threads)
    llama = both["llama.cpp"].facts
    print(f"\n## {model.name}\n")
    print(f"wenyi: {both['wenyi'].facts['isa']}, {options.threads} threads")
    print("llama.cpp:", *llama["buffers"], sep="\n  ")
    print(" ", llama["system"].strip(), "\n")
    print("| | wenyi | llama.cpp | ratio |\n|---|---|---|---|")
    rates = speed(both, options.rounds, options.tokens)
    for kind, by_name in rates.items():
        ours, theirs = by_name["wenyi"], by_name["llama.cpp"]
        print(f"| {kind}, tokens/s | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} |")
    ours, theirs = (512 / rates["prompt of 512"][name] * 1000 for name in ("wenyi", "llama.cpp"))
    print(f"| first token after 512, ms | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} of it |")
    ours, theirs = (peer.ask("memory")["kib"] / 1024 for peer in both.values())
    print(f"| peak memory, MiB | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} |")
    size = model.stat().st_size / 2**20
    print(f"| beside the file ({size:.0f} MiB) | {ours / size:.2f} | {theirs / size:.2f} | |")
    if options.text:
        found = perplexity(both, options.text, options.chunks)
        ours, theirs = found["wenyi"], found["llama.cpp"]
        print(f"| perplexity | {ours:.4f} | {theirs:.4f} | {100 * (ours / theirs - 1):+.2f} % |")
    for peer in both.values():
        peer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, help="the folder of models")
    parser.add_argument("--only", help="a part of the model's name")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64, help="that are decoded each time")
    parser.add_argument("--text", type=Path, help="a text whose perplexity is taken")
    parser.add_argument("--chunks", type=int, default=8, help="of 512 tokens of the text")
    options = parser.parse_args()
    for name in MODELS:
        if not options.only or options.only.lower() in name.lower():
            report(options.models / f"{name}.gguf", options)


if __name__ == "__main__":
    main()
