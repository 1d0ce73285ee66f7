"""LangChain's InMemoryVectorStore and `wenyi store` read each other's dump files."""

import datetime
import json
import os
import subprocess

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore

EMBEDDING = DeterministicFakeEmbedding(size=6)
METADATA = {
    "n": 1, "f": 0.1, "none": None, "中": ["文", {"b": True}], "lc": 1, "inner": {"lc": {"lc": 2}},
    "escaped": {"__lc_escaped__": {"x": 1}},
}


@pytest.fixture(scope="session", autouse=True)
def environment():
    """No server is needed here."""


def wenyi(*arguments):
    return subprocess.run([os.environ["WENYI"], "store", *arguments], check=True, capture_output=True, text=True)


def filled():
    store = InMemoryVectorStore(EMBEDDING)
    store.add_documents(
        [
            Document(id="二", page_content="文意 😀 \" \\ \x7f", metadata=METADATA),
            Document(id="a", page_content="plain", metadata={}),
            Document(id="nested", page_content="", metadata={"d": Document(page_content="in it", metadata={"k": 1})}),
        ]
    )
    return store


def test_a_dump_goes_through_a_file_of_ours_and_back(tmp_path):
    theirs, ours = tmp_path / "theirs.json", tmp_path / "ours.json"
    store = filled()
    store.dump(str(theirs))
    wenyi("copy", f"memory:{theirs}", f"sqlite:{tmp_path}/points.db")
    wenyi("copy", f"sqlite:{tmp_path}/points.db", f"memory:{ours}")
    loaded = InMemoryVectorStore.load(str(ours), EMBEDDING)
    assert loaded.store.keys() == store.store.keys()
    for id, entry in store.store.items():
        other = loaded.store[id]
        assert {**entry, "vector": 0} == {**other, "vector": 0}
        assert other["vector"] == pytest.approx(entry["vector"], rel=1e-6)
    for query in ["plain", "文意"]:
        a = store.similarity_search_with_score(query, k=3)
        b = loaded.similarity_search_with_score(query, k=3)
        assert [d.id for d, _ in a] == [d.id for d, _ in b]
        assert [s for _, s in a] == pytest.approx([s for _, s in b], abs=1e-6)


def test_what_langchain_cannot_load_any_more_is_read(tmp_path):
    path = tmp_path / "dump.json"
    store = filled()
    store.store["a"]["metadata"] = {"when": datetime.datetime(2026, 1, 2), "nan": float("nan")}
    store.dump(str(path))
    with pytest.raises(NotImplementedError):
        InMemoryVectorStore.load(str(path), EMBEDDING)
    lines = wenyi("export", f"memory:{path}").stdout.splitlines()
    points = {point["id"]: point for point in map(json.loads, lines)}
    assert points["a"]["payload"]["nan"] is None
    assert "2026" in points["a"]["payload"]["when"]["repr"]
    assert points["二"]["payload"] == METADATA
    ours = tmp_path / "ours.json"
    wenyi("copy", f"memory:{path}", f"memory:{ours}")
    assert InMemoryVectorStore.load(str(ours), EMBEDDING).similarity_search("plain", k=1)[0].id == "a"


def test_numpy_vectors_that_langchain_printed_are_read(tmp_path):
    numpy = pytest.importorskip("numpy")

    class Numpy(DeterministicFakeEmbedding):
        def embed_documents(self, texts):
            return [numpy.asarray(v, dtype=numpy.float32) for v in super().embed_documents(texts)]

    path = tmp_path / "dump.json"
    store = InMemoryVectorStore(Numpy(size=6))
    store.add_documents([Document(id="a", page_content="plain")])
    store.dump(str(path))
    point = json.loads(wenyi("export", f"memory:{path}").stdout)
    assert point["vector"] == pytest.approx(store.store["a"]["vector"].tolist())
