"""Exact search beside NumPy on this machine, in turns within one run.

    python3 bench/store/run.py [--rows 100000] [--dimensions 384]

Needs NumPy. Rows are clustered: 1,000 gaussian centres with gaussian noise, at unit length, as are
the queries. NumPy multiplies in f32 with its BLAS and picks ten with argpartition; wenyi searches a
collection on disk whose rows are packed in memory, and gives back ids and scores. Both use all
cores. Ratios are of medians; recall is counted against NumPy's ten.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy

TOP_K, BATCH, ROUNDS = 10, 64, 5


def data(rows: int, dimensions: int, queries: int):
    random = numpy.random.default_rng(1)
    centres = random.standard_normal((1000, dimensions), dtype=numpy.float32)

    def draw(count):
        noise = random.standard_normal((count, dimensions), dtype=numpy.float32)
        points = centres[random.integers(0, 1000, count)] + noise
        return points / numpy.linalg.norm(points, axis=1, keepdims=True)

    return draw(rows), draw(queries)


def numpy_search(rows, queries):
    scores = queries @ rows.T
    best = numpy.argpartition(-scores, TOP_K, axis=1)[:, :TOP_K]
    order = numpy.argsort(-numpy.take_along_axis(scores, best, axis=1), axis=1)
    return numpy.take_along_axis(best, order, axis=1)


def numpy_times(rows, queries, size):
    times, found = [], []
    for start in range(0, len(queries), size):
        started = time.perf_counter()
        found.append(numpy_search(rows, queries[start : start + size]))
        times.append(time.perf_counter() - started)
    return times, numpy.concatenate(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--queries", type=int, default=512)
    arguments = parser.parse_args()
    rows, queries = data(arguments.rows, arguments.dimensions, arguments.queries)
    build = ["cargo", "build", "-q", "--release", "-p", "wenyi-store", "--example", "exact_search"]
    root = Path(__file__).resolve().parents[2]
    subprocess.run(build, check=True, cwd=root)
    metadata = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    target = json.loads(subprocess.run(metadata, check=True, cwd=root, capture_output=True).stdout)
    program = Path(target["target_directory"]) / "release/examples/exact_search"
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "rows.f32", Path(folder) / "queries.f32"]
        rows.tofile(files[0])
        queries.tofile(files[1])
        ours = subprocess.Popen(
            [program, str(arguments.dimensions), *map(str, files)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        opened = json.loads(ours.stdout.readline())["open"]
        print(f"{arguments.rows:,} x {arguments.dimensions}: opened and read in {opened:.3f} s")
        status = Path(f"/proc/{ours.pid}/status")
        if status.exists():
            memory = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
            print(f"memory of the process: {int(memory.split()[1]) / 1024:.0f} MiB, "
                  f"f32 rows {rows.nbytes / 2**20:.0f} MiB")
        for kind, size in (("single", 1), ("batch", BATCH)):
            mine, theirs, recall = [], [], 1.0
            for _ in range(ROUNDS):
                times, truth = numpy_times(rows, queries, size)
                theirs += times
                ours.stdin.write(kind + "\n")
                ours.stdin.flush()
                answer = json.loads(ours.stdout.readline())
                mine += answer["seconds"]
                # Ids count from 1 in the order of the rows.
                hits = [len(set(a) & {int(i) + 1 for i in b}) for a, b in zip(answer["found"], truth)]
                recall = min(recall, sum(hits) / (TOP_K * len(hits)))
            a, b = numpy.median(theirs) / size, numpy.median(mine) / size
            print(f"{kind:6}  numpy {a * 1e3:7.3f} ms  wenyi {b * 1e3:7.3f} ms a query "
                  f"({1 / b:,.0f}/s)  {a / b:.1f}x  recall {recall:.4f}")
        ours.stdin.close()
        ours.wait()


if __name__ == "__main__":
    main()
