"""Search beside NumPy, faiss and hnswlib on this machine, in turns within one run: `bench/store/run`.

Rows are clustered: 1,000 gaussian centres with gaussian noise, at unit length, as are the queries.
NumPy multiplies in f32 with its BLAS and picks ten with argpartition; wenyi searches a collection on
disk and gives back ids and scores, exactly and then through its graph. All use all cores, but for
single queries of the graphs, which use one. Each gets a turn in each round; times are medians over
all rounds, recall is counted against NumPy's ten.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import faiss
import hnswlib
import numpy

TOP_K, BATCH, ROUNDS = 10, 64, 5
M, EF_CONSTRUCTION = 16, 200


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


def resident():
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


class Wenyi:
    """The program, which answers lines."""

    def __init__(self, program, dimensions, files):
        self.process = subprocess.Popen(
            [program, str(dimensions), *map(str, files)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.opened = json.loads(self.process.stdout.readline())["open"]

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def search(self, size):
        answer = self.ask("batch" if size > 1 else "single")
        # Ids count from 1 in the order of the rows.
        return answer["seconds"], numpy.array(answer["found"]) - 1

    def memory(self):
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith("Rss")}
        return f"{sizes['RssAnon']:.0f} MiB of its own, {sizes['RssFile']:.0f} MiB of mapped files"

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def timed(search, queries):
    def run(size):
        times, found = [], []
        for start in range(0, len(queries), size):
            started = time.perf_counter()
            found.append(search(queries[start : start + size]))
            times.append(time.perf_counter() - started)
        return times, numpy.concatenate(found)

    return run


def compare(title, size, searches, truth):
    """Gives each search its turns; the first is the measure of the others."""
    times, recall = {name: [] for name in searches}, {}
    for _ in range(ROUNDS):
        for name, search in searches.items():
            seconds, found = search(size)
            times[name] += seconds
            hits = sum(len(set(a) & set(b)) for a, b in zip(found, truth))
            recall[name] = min(recall.get(name, 1.0), hits / truth.size)
    print(title)
    measure = numpy.median(times[next(iter(searches))])
    for name, seconds in times.items():
        median = numpy.median(seconds)
        print(f"  {name:8} {median / size * 1e3:8.3f} ms a query ({size / median:8,.0f}/s) "
              f"{measure / median:6.2f}x  recall {recall[name]:.4f}", flush=True)


def exact(wenyi, rows, queries, truth):
    flat = faiss.IndexFlatIP(rows.shape[1])
    flat.add(rows)
    searches = {
        "numpy": timed(lambda q: numpy_search(rows, q), queries),
        "faiss": timed(lambda q: flat.search(q, TOP_K)[1], queries),
        "wenyi": wenyi.search,
    }
    compare("exact, one query at a time", 1, searches, truth)
    compare(f"exact, {BATCH} queries at a time", BATCH, searches, truth)


def graph(wenyi, rows, queries, truth):
    before, started = resident(), time.perf_counter()
    index = hnswlib.Index("ip", rows.shape[1])
    index.init_index(len(rows), M=M, ef_construction=EF_CONSTRUCTION)
    index.add_items(rows)
    print(f"hnswlib: built in {time.perf_counter() - started:.1f} s, {resident() - before:.0f} MiB")
    built = wenyi.ask("graph")
    print(f"wenyi: built in {built['build']:.1f} s, ef_search {built['ef']} for recall {built['recall']:.4f} "
          "of its own vectors")
    sample = queries[:256]
    for ef in (16, 24, 32, 48, 64, 96, 128, 192, 256):
        index.set_ef(ef)
        found, _ = index.knn_query(sample, TOP_K)
        if sum(len(set(a) & set(b)) for a, b in zip(found, truth)) / (TOP_K * len(sample)) >= 0.95:
            break
    print(f"hnswlib: ef {ef} for recall 0.95 of the queries")
    index.set_num_threads(1)
    searches = {"hnswlib": timed(lambda q: index.knn_query(q, TOP_K)[0], queries), "wenyi": wenyi.search}
    compare("graph, one query at a time", 1, searches, truth)
    index.set_num_threads(-1)
    compare(f"graph, {BATCH} queries at a time", BATCH, searches, truth)
    print(f"wenyi's memory: {wenyi.memory()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--queries", type=int, default=512)
    arguments = parser.parse_args()
    rows, queries = data(arguments.rows, arguments.dimensions, arguments.queries)
    build = ["cargo", "build", "-q", "--release", "-p", "wenyi-store", "--example", "bench_search"]
    root = Path(__file__).resolve().parents[2]
    subprocess.run(build, check=True, cwd=root)
    metadata = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    target = json.loads(subprocess.run(metadata, check=True, cwd=root, capture_output=True).stdout)
    program = Path(target["target_directory"]) / "release/examples/bench_search"
    truth = numpy.concatenate([numpy_search(rows, queries[start : start + BATCH])
                               for start in range(0, len(queries), BATCH)])
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "rows.f32", Path(folder) / "queries.f32"]
        rows.tofile(files[0])
        queries.tofile(files[1])
        wenyi = Wenyi(program, arguments.dimensions, files)
        print(f"{arguments.rows:,} x {arguments.dimensions}: opened and searched in {wenyi.opened:.3f} s; "
              f"f32 rows {rows.nbytes / 2**20:.0f} MiB")
        exact(wenyi, rows, queries, truth)
        print(f"wenyi's memory: {wenyi.memory()}")
        graph(wenyi, rows, queries, truth)
        wenyi.close()


if __name__ == "__main__":
    main()
