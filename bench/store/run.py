"""Search beside NumPy, faiss, hnswlib and usearch on this machine, in turns within one run: `bench/store/run`.

Rows are clustered: 1,000 gaussian centres with gaussian noise, at unit length, as are the queries.
NumPy multiplies in f32 with its BLAS and picks ten with argpartition; wenyi searches a collection on
disk and gives back ids and scores: exactly, then by bits, by leading dimensions, and through its graph.
All use all cores, but for single queries of the graphs, which use one. Each gets a turn in each round;
times are medians over all rounds (p99 over all their queries), recall is counted against NumPy's ten.
The peers are called through their Python API, wenyi from Rust.

With `--folder` data and indexes are kept there: `--build` makes them and measures nothing else, so that
a run of a million rows can be built long before it is measured.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import faiss
import hnswlib
import numpy
from usearch.index import Index as Usearch

TOP_K, BATCH = 10, 64

# Threads of a peer that wait for more work spin for some time: nobody's turn begins beside them.
REST = 0.5

M, EF_CONSTRUCTION = 16, 200
EFS = (10, 16, 20, 24, 32, 48, 64, 96, 128, 160, 192, 256)


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


def status(process, *names):
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(names)}
    return [int(sizes[name]) / 1024 for name in names]


class Folder:
    """The rows, the queries and the ten closest of each, made once."""

    def __init__(self, folder, rows, dimensions, queries):
        self.path = Path(folder)
        self.path.mkdir(exist_ok=True)
        self.files = [self.path / "rows.f32", self.path / "queries.f32"]
        if not self.files[1].exists():
            for values, file in zip(data(rows, dimensions, queries), self.files):
                values.tofile(file)
        read = [numpy.fromfile(file, numpy.float32).reshape(-1, dimensions) for file in self.files]
        self.rows, self.queries = read
        if len(self.rows) != rows or len(self.queries) != queries:
            raise SystemExit(f"error: {folder} has other rows or queries\nhint: name another folder")
        truth = self.path / "truth.npy"
        if not truth.exists():
            found = [numpy_search(self.rows, self.queries[start : start + BATCH]) for start in range(0, queries, BATCH)]
            numpy.save(truth, numpy.concatenate(found))
        self.truth = numpy.load(truth)

    def recall(self, found):
        hits = sum(len(set(a) & set(b)) for a, b in zip(found, self.truth))
        return hits / (TOP_K * len(found))


class Wenyi:
    """The program, which answers lines."""

    def __init__(self, program, folder):
        files = [*folder.files, folder.path / "bench.db"]
        command = [program, str(folder.rows.shape[1]), *map(str, files)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def use(self, method):
        answer = self.ask(method)
        built = f"made in {answer['build']:.1f} s" if answer["build"] else "kept"
        if answer["recall"]:
            print(f"wenyi, {method}: {built}, {answer['bytes'] / 2**20:.0f} MiB, work {answer['work']}, "
                  f"recall {answer['recall']:.4f} of its own vectors")
        print(f"wenyi, {method}: opened and searched in {answer['open']:.3f} s", flush=True)

    def search(self, size):
        answer = self.ask("batch" if size > 1 else "single")
        # Ids count from 1 in the order of the rows.
        return answer["seconds"], numpy.array(answer["found"]) - 1

    def memory(self):
        own, mapped = status(self.process.pid, "RssAnon", "RssFile")
        return f"{own:.0f} MiB of its own, {mapped:.0f} MiB of mapped files"

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


def compare(title, size, searches, folder, rounds):
    """Gives each search its turns; the first is the measure of the others."""
    times, recall = {name: [] for name in searches}, {}
    for _ in range(rounds):
        for name, search in searches.items():
            time.sleep(REST)
            seconds, found = search(size)
            times[name] += seconds
            recall[name] = min(recall.get(name, 1.0), folder.recall(found))
    print(title)
    measure = numpy.median(times[next(iter(searches))])
    for name, seconds in times.items():
        median, late = numpy.median(seconds), numpy.percentile(seconds, 99)
        print(f"  {name:8} p50 {median / size * 1e3:8.3f} p99 {late / size * 1e3:8.3f} ms a query "
              f"({size / median:8,.0f}/s) {measure / median:6.2f}x  recall {recall[name]:.4f}", flush=True)


def exact(wenyi, folder, rounds):
    flat = faiss.IndexFlatIP(folder.rows.shape[1])
    flat.add(folder.rows)
    wenyi.use("exact")
    searches = {
        "numpy": timed(lambda q: numpy_search(folder.rows, q), folder.queries),
        "faiss": timed(lambda q: flat.search(q, TOP_K)[1], folder.queries),
        "wenyi": wenyi.search,
    }
    compare("exact, one query at a time", 1, searches, folder, rounds)
    compare(f"exact, {BATCH} queries at a time", BATCH, searches, folder, rounds)
    print(f"wenyi's memory: {wenyi.memory()}; f32 rows {folder.rows.nbytes / 2**20:.0f} MiB")


def coarse(wenyi, folder, rounds):
    searches = {"numpy": timed(lambda q: numpy_search(folder.rows, q), folder.queries), "wenyi": wenyi.search}
    for method in ("binary", f"leading {folder.rows.shape[1] // 2}"):
        wenyi.use(method)
        compare(f"{method}, one query at a time", 1, searches, folder, rounds)
        compare(f"{method}, {BATCH} queries at a time", BATCH, searches, folder, rounds)


class Graph:
    """A peer's graph: made, or read from the folder."""

    def __init__(self, name, folder, make, restore, save, restored_with):
        file = folder.path / f"{name}.index"
        (before,), started = status(os.getpid(), "VmRSS"), time.perf_counter()
        if file.exists():
            self.index, built = restore(file), "kept"
        else:
            self.index = make(folder.rows)
            built = f"made in {time.perf_counter() - started:.1f} s"
            save(self.index, file)
        (after,) = status(os.getpid(), "VmRSS")
        print(f"{name}: {built}, {after - before:.0f} MiB, {file.stat().st_size / 2**20:.0f} MiB on disk", flush=True)
        self.name, self.folder, self.set_ef = name, folder, restored_with

    def tune(self, search, floor):
        """The least ef with this recall of the queries."""
        for ef in EFS:
            self.set_ef(self.index, ef)
            recall = self.folder.recall(search(self.folder.queries))
            if recall >= floor:
                break
        print(f"{self.name}: ef {ef} for recall {recall:.4f} of the queries", flush=True)


def hnswlib_graph(folder):
    def new():
        return hnswlib.Index("ip", folder.rows.shape[1])

    def make(rows):
        index = new()
        index.init_index(len(rows), M=M, ef_construction=EF_CONSTRUCTION)
        index.add_items(rows)
        return index

    def restore(file):
        index = new()
        index.load_index(str(file))
        return index

    return Graph("hnswlib", folder, make, restore, lambda index, file: index.save_index(str(file)),
                 lambda index, ef: index.set_ef(ef))


def usearch_graph(folder):
    def new():
        return Usearch(ndim=folder.rows.shape[1], metric="ip", dtype="f16", connectivity=M,
                       expansion_add=EF_CONSTRUCTION)

    def make(rows):
        index = new()
        index.add(numpy.arange(len(rows)), rows, threads=os.cpu_count())
        return index

    def restore(file):
        index = new()
        index.load(str(file))
        return index

    return Graph("usearch", folder, make, restore, lambda index, file: index.save(str(file)),
                 lambda index, ef: setattr(index, "expansion_search", ef))


def graphs(wenyi, folder, rounds, floor, with_usearch, build_only):
    hnsw = hnswlib_graph(folder)
    usearch = usearch_graph(folder) if with_usearch else None
    wenyi.use("graph")
    if build_only:
        return

    def by_hnsw(queries):
        return hnsw.index.knn_query(queries, TOP_K)[0]

    def by_usearch(queries):
        return usearch.index.search(queries, TOP_K, threads=os.cpu_count()).keys.reshape(-1, TOP_K)

    hnsw.tune(by_hnsw, floor)
    hnsw.index.set_num_threads(1)
    searches = {"hnswlib": timed(by_hnsw, folder.queries), "wenyi": wenyi.search}
    if usearch:
        usearch.tune(by_usearch, floor)
        searches["usearch"] = timed(by_usearch, folder.queries)
    compare("graph, one query at a time", 1, searches, folder, rounds)
    hnsw.index.set_num_threads(-1)
    compare(f"graph, {BATCH} queries at a time", BATCH, searches, folder, rounds)
    print(f"wenyi's memory: {wenyi.memory()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--queries", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5, help="turns that each gets")
    parser.add_argument("--no-usearch", action="store_true", help="its graph takes as long as hnswlib's to make")
    parser.add_argument("--recall", type=float, default=0.95, help="what the peers' graphs are to find")
    parser.add_argument("--folder", help="keep rows and indexes here")
    parser.add_argument("--build", action="store_true", help="make what is not in the folder, and end")
    parser.add_argument("--only", choices=("exact", "coarse", "graph"))
    arguments = parser.parse_args()
    build = ["cargo", "build", "-q", "--release", "-p", "wenyi-store", "--example", "bench_search"]
    root = Path(__file__).resolve().parents[2]
    subprocess.run(build, check=True, cwd=root)
    metadata = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    target = json.loads(subprocess.run(metadata, check=True, cwd=root, capture_output=True).stdout)
    program = Path(target["target_directory"]) / "release/examples/bench_search"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Folder(arguments.folder or temporary, arguments.rows, arguments.dimensions, arguments.queries)
        print(f"{arguments.rows:,} x {arguments.dimensions}")
        wenyi = Wenyi(program, folder)
        parts = [arguments.only] if arguments.only else ["exact", "coarse", "graph"]
        if "exact" in parts and not arguments.build:
            exact(wenyi, folder, arguments.rounds)
        if "coarse" in parts and not arguments.build:
            coarse(wenyi, folder, arguments.rounds)
        if "graph" in parts:
            # Its memory is to be that of the graph alone.
            wenyi.close()
            wenyi = Wenyi(program, folder)
            graphs(wenyi, folder, arguments.rounds, arguments.recall, not arguments.no_usearch, arguments.build)
        wenyi.close()


if __name__ == "__main__":
    main()
