"""Indexing a folder of Markdown end to end, in turns within one run: `bench/index/run --docs FOLDER --model FOLDER`.

Both sides read the files, cut them, embed the passages with the same model (f32 for
sentence-transformers, `--precision` for wenyi) and write a store on disk, on all cores. Loading the
model is not counted on either side. LangChain cuts at 1,000 characters with an overlap of 100, which is
its splitter's quick way and about as long as wenyi's 256 tokens; it embeds in batches of 32, the
default.

The third turn is the engine alone: `wenyi bench embed` on the very passages that `wenyi index` made. Its
rate is what indexing could reach if reading, cutting and writing cost nothing.
"""

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def peer(docs: Path, model: Path) -> dict:
    """One run of the pipeline; imports and loading the model come first."""
    from langchain_chroma import Chroma
    from langchain_community.document_loaders import DirectoryLoader, TextLoader
    from langchain_huggingface import HuggingFaceEmbeddings
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    embeddings = HuggingFaceEmbeddings(model_name=str(model), encode_kwargs={"batch_size": 32})
    embeddings.embed_query("warm up")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        loader = DirectoryLoader(str(docs), glob="**/*.md", loader_cls=TextLoader)
        splitter = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=100)
        passages = splitter.split_documents(loader.load())
        Chroma.from_documents(passages, embeddings, persist_directory=folder)
        return {"seconds": time.perf_counter() - start, "passages": len(passages)}


def wenyi_index(program: Path, arguments: list, docs: Path, collection: Path) -> dict:
    command = [program, "index", docs, "--collection", collection, "--reindex", "--json", *arguments]
    output = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE).stdout
    report = json.loads(output)["collections"][0]
    return {name: report[name] for name in ("seconds", "tokens", "embedded_chunks")}


def embedded_texts(collection: Path):
    """What was embedded of each passage: the headings that it does not show, and its text."""
    rows = sqlite3.connect(collection).execute("SELECT heading_path, text FROM chunks")
    for headings, text in rows:
        headings = json.loads(headings)
        first = text.split("\n", 1)[0]
        shown = next((i for i, title in enumerate(headings) if title and title in first), len(headings))
        context = " > ".join(headings[:shown])
        yield f"{context}\n{text}" if context else text


def engine(program: Path, arguments: list, texts: Path, seconds: float) -> float:
    command = [program, "bench", "embed", "--input", texts, "--seconds", seconds, "--json", *arguments]
    output = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output)["results"][0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, required=True, help="folder of Markdown files")
    parser.add_argument("--model", type=Path, required=True, help="folder of a sentence-transformers model")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--program", type=Path, default=Path(__file__).parents[2] / "target/release/wenyi")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true", help="wenyi alone")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        print(json.dumps(peer(options.docs, options.model)))
        return
    model = ["--model", options.model, "--precision", options.precision, "--offline"]
    indexing, engines, peers = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        collection, texts = Path(folder) / "book.db", Path(folder) / "texts.jsonl"
        for _ in range(options.rounds):
            indexing.append(wenyi_index(options.program, model, options.docs, collection))
            texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in embedded_texts(collection)))
            engines.append(engine(options.program, model, texts, 5))
            if not options.no_peer:
                command = [sys.executable, __file__, "--peer", "--docs", options.docs, "--model", options.model]
                output = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE).stdout
                peers.append(json.loads(output.splitlines()[-1]))
    seconds = statistics.median(run["seconds"] for run in indexing)
    rate = statistics.median(run["tokens"] / run["seconds"] for run in indexing)
    alone = statistics.median(run["rates"][0]["tokens_per_second"] for run in engines)
    print(f"wenyi index   {seconds:.2f} s, {indexing[0]['embedded_chunks']} passages, {rate:,.0f} tokens/s")
    print(f"engine alone  {alone:,.0f} tokens/s: indexing runs at {rate / alone:.0%} of it")
    if peers:
        other = statistics.median(run["seconds"] for run in peers)
        print(f"LangChain     {other:.2f} s, {peers[0]['passages']} passages: wenyi is {other / seconds:.1f} times as fast")


if __name__ == "__main__":
    main()
