"""Indexing a folder of Markdown end to end, in turns within one run.

    bench/index/run --docs FOLDER [--model FOLDER] [--rounds 5]

A round has four turns, each a process of its own; loading the model is counted in none:

- `wenyi index`: reads, cuts, embeds (`--precision`), writes vectors and text index to SQLite.
- the engine alone: `wenyi bench embed` on the very texts that were embedded. Its rate is what
  indexing could reach if reading, cutting and writing cost nothing.
- LangChain: DirectoryLoader, RecursiveCharacterTextSplitter (1,000 characters, 100 overlap: its
  quick way, about as long as wenyi's 256 tokens), HuggingFaceEmbeddings (sentence-transformers,
  f32, batches of 32, its default), Chroma on disk.
- LangChain given wenyi's passages: `Chroma.from_texts` of them, so that nothing is read or cut.

Ratios are taken within each round; what is printed and kept is their median, least and greatest.
"""

import argparse
import datetime
import importlib.metadata
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "embed"))

PEERS = ("langchain-core", "langchain-chroma", "sentence-transformers", "torch", "chromadb")


def peer(docs: Path, model: Path, passages: Path | None) -> dict:
    """One run of the pipeline; imports and loading the model come first."""
    from langchain_chroma import Chroma
    from langchain_community.document_loaders import DirectoryLoader, TextLoader
    from langchain_huggingface import HuggingFaceEmbeddings
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    embeddings = HuggingFaceEmbeddings(model_name=str(model), encode_kwargs={"batch_size": 32})
    embeddings.embed_query("warm up")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        if passages is None:
            loader = DirectoryLoader(str(docs), glob="**/*.md", loader_cls=TextLoader)
            splitter = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=100)
            documents = splitter.split_documents(loader.load())
            Chroma.from_documents(documents, embeddings, persist_directory=folder)
            texts = [document.page_content for document in documents]
        else:
            texts = [json.loads(line)["text"] for line in passages.open()]
            Chroma.from_texts(texts, embeddings, persist_directory=folder)
        seconds = time.perf_counter() - start
    limit = embeddings._client.max_seq_length
    count = embeddings._client.tokenizer(texts, truncation=True, max_length=limit)
    tokens = sum(len(ids) for ids in count["input_ids"])
    return {"seconds": seconds, "passages": len(texts), "tokens": tokens}


def output_of(command: list) -> str:
    run = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True)
    return run.stdout


def wenyi_index(program: Path, arguments: list, docs: Path, collection: Path) -> dict:
    command = [program, "index", docs, "--collection", collection, "--reindex", "--json"]
    report = json.loads(output_of([*command, *arguments]))["collections"][0]
    names = {"seconds": "seconds", "passages": "embedded_chunks", "tokens": "tokens"}
    return {name: report[key] for name, key in names.items()}


def embedded_texts(collection: Path):
    """What was embedded of each passage: the headings that it does not show, and its text."""
    rows = sqlite3.connect(collection).execute("SELECT heading_path, text FROM chunks")
    for headings, text in rows:
        headings = json.loads(headings)
        first = text.split("\n", 1)[0]
        places = (i for i, title in enumerate(headings) if title and title in first)
        context = " > ".join(headings[: next(places, len(headings))])
        yield f"{context}\n{text}" if context else text


def engine(program: Path, arguments: list, texts: Path, seconds: float) -> dict:
    command = [program, "bench", "embed", "--input", texts, "--seconds", seconds, "--json"]
    rate = json.loads(output_of([*command, *arguments]))["results"][0]["rates"][0]
    return {name: rate[name] for name in ("tokens", "tokens_per_second")}


def spread(values: list) -> dict:
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def ratios(rounds: list) -> dict:
    def rate(run: dict) -> float:
        return run["tokens"] / run["seconds"]

    found = {
        "share_of_engine": [
            rate(turn["wenyi"]) / turn["engine"]["tokens_per_second"] for turn in rounds
        ]
    }
    for name in ("langchain", "langchain_same_passages"):
        if name in rounds[0]:
            seconds = [turn[name]["seconds"] / turn["wenyi"]["seconds"] for turn in rounds]
            found[f"faster_than_{name}"] = seconds
            tokens = [rate(turn["wenyi"]) / rate(turn[name]) for turn in rounds]
            found[f"token_rate_over_{name}"] = tokens
    return {name: spread(values) for name, values in found.items()}


def run_rounds(options: argparse.Namespace) -> tuple[list, list]:
    from machine import Foreign

    model = ["--model", options.model, "--precision", options.precision, "--offline"]
    rounds, foreign = [], []
    with tempfile.TemporaryDirectory() as folder:
        collection, texts = Path(folder) / "docs.db", Path(folder) / "texts.jsonl"
        for number in range(options.rounds):
            others = Foreign([])
            turn = {"wenyi": wenyi_index(options.program, model, options.docs, collection)}
            lines = (json.dumps({"text": text}) + "\n" for text in embedded_texts(collection))
            texts.write_text("".join(lines))
            turn["engine"] = engine(options.program, model, texts, options.seconds)
            if not options.no_peer:
                command = [sys.executable, __file__, "--peer", "--docs", options.docs]
                command += ["--model", options.model]
                same = ["--passages", texts]
                for name, more in (("langchain", []), ("langchain_same_passages", same)):
                    turn[name] = json.loads(output_of([*command, *more]).splitlines()[-1])
            foreign.append(others.share())
            rounds.append(turn)
            print(f"round {number + 1}: {json.dumps(turn)}", file=sys.stderr)
    return rounds, foreign


def shown(result: dict) -> str:
    def median(name: str, of: str) -> float:
        return statistics.median(turn[name][of] for turn in result["rounds"])

    lines = []
    for name in result["rounds"][0]:
        if name != "engine":
            seconds, passages = median(name, "seconds"), median(name, "passages")
            tokens = statistics.median(t[name]["tokens"] / t[name]["seconds"] for t in result["rounds"])
            lines.append(
                f"{name:24} {seconds:7.2f} s  {passages:6,.0f} passages  {tokens:9,.0f} tokens/s"
            )
    lines.append(f"{'engine alone':45} {median('engine', 'tokens_per_second'):9,.0f} tokens/s")
    for name, of in result["ratios"].items():
        lines.append(f"{name:45} {of['median']:.2f} ({of['least']:.2f} to {of['greatest']:.2f})")
    return "\n".join(lines)


def main():
    from machine import describe

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--docs", type=Path, required=True, help="folder of Markdown files")
    parser.add_argument("--model", type=Path, required=True, help="folder of a sentence-transformers model")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--program", type=Path, default=HERE.parents[1] / "target/release/wenyi")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="for the engine's turn")
    parser.add_argument("--no-peer", action="store_true", help="wenyi alone")
    parser.add_argument("--output", type=Path, help="file for the figures as JSON")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--passages", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        print(json.dumps(peer(options.docs, options.model, options.passages)))
        return
    rounds, foreign = run_rounds(options)
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": describe(),
        "model": options.model.name,
        "precision": options.precision,
        "documents": len(list(options.docs.rglob("*.md"))),
        "peers": {name: importlib.metadata.version(name) for name in PEERS},
        "foreign": {"median": statistics.median(foreign), "worst": max(foreign)},
        "ratios": ratios(rounds),
        "rounds": rounds,
    }
    print(shown(result))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
