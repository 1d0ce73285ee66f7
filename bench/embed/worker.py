"""One engine in a process of its own, doing what it is told, one JSON line a command.

    {"do": "vectors", "texts": FILE, "batch_size": 32, "output": "v.npy"}
    {"do": "throughput", "texts": FILE, "batch_size": 32}          -> {"seconds": 0.71}
    {"do": "latency", "text": "…", "seconds": 2}                   -> {"p50": 1.7, "p99": 2.4}

Texts are files of JSON strings. The engine sits still between commands, so that several workers can
be kept loaded and measured in turns.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from peers import Peer, open_peer


def throughput(peer: Peer, texts: list[str], batch_size: int) -> dict:
    start = time.perf_counter()
    peer.embed(texts, batch_size)
    return {"seconds": time.perf_counter() - start}


def latency(peer: Peer, text: str, seconds: float) -> dict:
    """Median and 99th percentile of one text at a time, in milliseconds, after some to warm up."""
    milliseconds = []
    deadline = time.perf_counter() + seconds
    while len(milliseconds) < 10 or time.perf_counter() < deadline:
        start = time.perf_counter()
        peer.embed_one(text)
        milliseconds.append((time.perf_counter() - start) * 1e3)
    p50, p99 = np.percentile(milliseconds[3:], [50, 99])
    return {"p50": p50, "p99": p99}


def peak_mib() -> float:
    """Most resident memory so far. `ru_maxrss` would also count the process that started this."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def answer(peer: Peer, command: dict) -> dict:
    texts = json.loads(Path(command["texts"]).read_text()) if "texts" in command else []
    match command["do"]:
        case "vectors":
            np.save(command["output"], peer.embed(texts, command["batch_size"]))
            return {"saved": command["output"]}
        case "throughput":
            return throughput(peer, texts, command["batch_size"])
        case "latency":
            return latency(peer, command["text"], command["seconds"])
        case "batch-sizes":
            return {"batch_sizes": peer.batch_sizes(command["set"])}
        case "tokens":
            return {"tokens": peer.tokens(texts)}
        case "memory":
            return {"peak_mib": peak_mib()}
    raise ValueError(f"unknown command `{command['do']}`")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--once", action="store_true", help="embed one text and end")
    arguments = parser.parse_args()
    # Libraries print to standard output at times; the answers keep it for themselves.
    answers, sys.stdout = sys.stdout, sys.stderr
    peer = open_peer(arguments.engine, arguments.models, arguments.threads)
    if arguments.once:
        peer.embed_one("hello")
        print(json.dumps({"peak_mib": peak_mib()}), file=answers)
        return
    for line in sys.stdin:
        print(json.dumps(answer(peer, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
