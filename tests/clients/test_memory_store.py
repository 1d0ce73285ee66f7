"""What LangChain's InMemoryVectorStore answers, and what our store in memory must (`memory.json`).

`crates/store/tests/vector_store/langchain.rs` holds our store to the same file. With the argument
`--rewrite` this file writes it.
"""

import json
import pathlib
import random
import sys

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

FIXTURE = pathlib.Path(__file__).resolve().parents[2] / "crates/store/tests/fixtures/memory.json"
DIMENSIONS = 8

# Conditions as data, and as LangChain has them.
FILTERS = [
    ({"must": [{"key": "lang", "match": {"value": "zh"}}]}, lambda d: d.metadata.get("lang") == "zh"),
    ({"must_not": [{"key": "lang", "match": {"value": "zh"}}]}, lambda d: d.metadata.get("lang") != "zh"),
    ({"must": [{"key": "n", "range": {"gte": 10, "lt": 25}}]}, lambda d: 10 <= d.metadata["n"] < 25),
    (
        {"should": [{"key": "tags[]", "match": {"value": "a"}}, {"key": "author.name", "match": {"value": "李白"}}]},
        lambda d: "a" in d.metadata["tags"] or d.metadata["author"]["name"] == "李白",
    ),
    ({"must": [{"has_id": ["p3", "p7", "none"]}]}, lambda d: d.id in ("p3", "p7")),
    ({"must": [{"key": "no such", "match": {"value": 1}}]}, lambda d: "no such" in d.metadata),
]


@pytest.fixture(scope="session", autouse=True)
def environment():
    """No server is needed here."""


class Given(Embeddings):
    """The vectors of texts, as given."""

    def __init__(self, vectors):
        self.vectors = vectors

    def embed_documents(self, texts):
        return [self.vectors[text] for text in texts]

    def embed_query(self, text):
        return self.vectors[text]


def vector(chance):
    # Whole numbers are the same in f32 and f64.
    return [float(chance.randint(-9, 9)) for _ in range(DIMENSIONS)]


def points(chance):
    languages = ["zh", "en", None]
    return [
        {
            "id": f"p{n}",
            "vector": vector(chance),
            "text": f"text {n} 文",
            "payload": {
                "n": n,
                "lang": languages[n % 3],
                "tags": chance.sample(["a", "b", "c"], 2),
                "author": {"name": "李白" if n % 4 == 0 else "杜甫"},
            },
        }
        for n in range(40)
    ]


def document(point):
    return Document(id=point["id"], page_content=point["text"], metadata=point["payload"])


def answers():
    """All that is asked and answered, as JSON."""
    chance = random.Random(7)
    first = points(chance)
    # Replaced points, one of them twice in a call; and a new one.
    changed = [{**first[3], "vector": vector(chance), "text": "again"}, {**first[9], "text": "once"},
               {**first[9], "vector": vector(chance), "text": "twice"},
               {**first[0], "id": "new", "vector": vector(chance), "text": "new"}]
    removed = ["p5", "p11", "none"]
    embedding = Given({point["text"]: point["vector"] for point in first + changed})
    store = InMemoryVectorStore(embedding)
    store.add_documents([document(point) for point in first])
    store.add_documents([document(point) for point in changed])
    store.delete(removed)
    store.delete([])
    wanted = ["p9", "p5", "new", "p0", "p9"]
    cases = []
    for number in range(6):
        query = vector(chance)
        for conditions, keep in [(None, None), FILTERS[number]]:
            for k in (0, 1, 4, 1000):
                found = store.similarity_search_with_score_by_vector(query, k=k, filter=keep)
                cases.append({
                    "query": query, "top_k": k, "filter": conditions,
                    "found": [[d.id, score] for d, score in found],
                })
            for k, fetch_k, lambda_mult in [(4, 20, 0.5), (5, 10, 0.0), (3, 30, 1.0), (8, 5, 0.25), (0, 5, 0.5)]:
                found = store.max_marginal_relevance_search_by_vector(
                    query, k=k, fetch_k=fetch_k, lambda_mult=lambda_mult, filter=keep
                )
                cases.append({
                    "query": query, "top_k": k, "filter": conditions, "fetch_k": fetch_k,
                    "lambda_mult": lambda_mult, "found": [d.id for d in found],
                })
    return {
        "points": first, "changed": changed, "removed": removed, "wanted": wanted,
        "got": [[d.id, d.page_content, d.metadata] for d in store.get_by_ids(wanted)],
        "order": list(store.store), "cases": cases,
    }


def test_langchain_answers_as_our_store_must():
    expected, answered = json.loads(FIXTURE.read_text("utf-8")), json.loads(json.dumps(answers()))
    for ours, theirs in zip(expected.pop("cases"), answered.pop("cases"), strict=True):
        found, other = ours.pop("found"), theirs.pop("found")
        assert ours == theirs
        if "fetch_k" in ours:
            assert found == other
        else:
            assert [id for id, _ in found] == [id for id, _ in other]
            assert [score for _, score in found] == pytest.approx([score for _, score in other], abs=1e-12)
    assert expected == answered


if __name__ == "__main__" and "--rewrite" in sys.argv:
    FIXTURE.write_text(json.dumps(answers(), ensure_ascii=False), "utf-8")
