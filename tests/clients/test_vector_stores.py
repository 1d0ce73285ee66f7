"""openai, unmodified: files and vector stores."""

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI

POEM = "# 春晓\n\n春眠不觉晓，处处闻啼鸟。\n\n夜来风雨声，花落知多少。\n"
RUST = "# Ownership\n\nEach value in Rust has an owner. When the owner goes out of scope, the value is dropped.\n"


@pytest.fixture(scope="module")
def client(server, environment):
    return OpenAI()


@pytest.fixture
def file(client):
    def upload(name, content):
        return client.files.create(file=(name, content.encode() if isinstance(content, str) else content), purpose="assistants")

    return upload


def test_files_are_kept(client, file):
    kept = file("春晓 poem.md", POEM)
    assert (kept.filename, kept.bytes, kept.purpose, kept.status) == ("春晓 poem.md", len(POEM.encode()), "assistants", "processed")
    assert client.files.retrieve(kept.id) == kept
    assert client.files.content(kept.id).read() == POEM.encode()
    more = [file(f"{n}.txt", f"text {n}") for n in range(5)]
    # Newest first, page by page.
    listed = [each.id for each in client.files.list(limit=2)]
    assert listed[:6] == [each.id for each in reversed(more)] + [kept.id]
    assert client.files.delete(kept.id).deleted
    with pytest.raises(NotFoundError, match="No file found with id"):
        client.files.retrieve(kept.id)
    with pytest.raises(BadRequestError, match="purpose"):
        client.files.create(file=("a.txt", b"a"), purpose="nothing known")


def test_a_vector_store_finds_what_its_files_say(client, file):
    store = client.vector_stores.create(name="笔记", metadata={"of": "a test"})
    assert (store.name, store.metadata, store.status, store.file_counts.total) == ("笔记", {"of": "a test"}, "completed", 0)
    assert client.vector_stores.search(store.id, query="nothing yet").data == []
    poem, rust = file("poem.md", POEM), file("rust.md", RUST)
    attached = client.vector_stores.files.create_and_poll(
        poem.id, vector_store_id=store.id, attributes={"lang": "zh", "year": 730, "author.name": "孟浩然"}, poll_interval_ms=20
    )
    assert (attached.status, attached.last_error) == ("completed", None)
    client.vector_stores.files.create_and_poll(
        rust.id, vector_store_id=store.id, attributes={"lang": "en", "year": 2018}, poll_interval_ms=20,
        chunking_strategy={"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 10}},
    )
    store = client.vector_stores.retrieve(store.id)
    assert store.file_counts.completed == 2 and store.usage_bytes > 0
    # The tiny model of the tests knows nothing but equal texts.
    text = [part.text for part in client.vector_stores.files.content(poem.id, vector_store_id=store.id)]
    assert "春眠不觉晓" in "".join(text)
    found = client.vector_stores.search(store.id, query=text[0], max_num_results=1).data
    assert (found[0].file_id, found[0].filename) == (poem.id, "poem.md")
    assert found[0].attributes == {"lang": "zh", "year": 730, "author.name": "孟浩然"}
    assert found[0].content[0].text == text[0]

    def files(**filters):
        return {hit.file_id for hit in client.vector_stores.search(store.id, query=["啼鸟", "owner"], filters=filters)}

    both = {poem.id, rust.id}
    assert files(type="eq", key="lang", value="en") == {rust.id}
    assert files(type="ne", key="lang", value="en") == {poem.id}
    assert files(type="gte", key="year", value=730) == both
    assert files(type="lt", key="year", value=1000) == {poem.id}
    assert files(type="in", key="lang", value=["zh", "en"]) == both
    assert files(type="nin", key="lang", value=["zh"]) == {rust.id}
    assert files(type="eq", key="author.name", value="孟浩然") == {poem.id}
    either = [{"type": "eq", "key": "lang", "value": "zh"}, {"type": "gt", "key": "year", "value": 2000}]
    assert files(type="or", filters=either) == both and files(type="and", filters=either) == set()
    assert client.vector_stores.search(store.id, query="owner", ranking_options={"score_threshold": 1.0}).data == []
    client.vector_stores.files.update(poem.id, vector_store_id=store.id, attributes={"lang": "lzh"})
    assert files(type="eq", key="lang", value="lzh") == {poem.id} and files(type="eq", key="year", value=730) == set()
    client.vector_stores.files.delete(rust.id, vector_store_id=store.id)
    assert {hit.file_id for hit in client.vector_stores.search(store.id, query="owner")} == {poem.id}
    # A file that is deleted is found nowhere.
    client.files.delete(poem.id)
    assert client.vector_stores.search(store.id, query="啼鸟").data == []
    assert client.vector_stores.update(store.id, name="renamed").name == "renamed"
    assert client.vector_stores.delete(store.id).deleted
    with pytest.raises(NotFoundError, match="No vector store found with id"):
        client.vector_stores.retrieve(store.id)


def test_batches_report_what_cannot_be_read(client, file):
    store = client.vector_stores.create()
    good, bad = file("good.txt", "a text that can be read"), file("bad.bin", bytes(range(256)) * 40)
    batch = client.vector_stores.file_batches.create_and_poll(store.id, file_ids=[good.id, bad.id], poll_interval_ms=20)
    counts = batch.file_counts
    assert (batch.status, counts.completed, counts.failed, counts.total) == ("completed", 1, 1, 2)
    listed = {each.id: each for each in client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id)}
    assert listed[bad.id].status == "failed" and listed[bad.id].last_error.code == "unsupported_file"
    failed = client.vector_stores.files.list(store.id, filter="failed")
    assert [each.id for each in failed] == [bad.id]
    cancelled = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
    assert cancelled.status == "cancelled" and cancelled.file_counts.completed == 1


def test_files_come_with_a_new_store(client, file):
    files = [file(f"{n}.md", f"# Part {n}\n\n" + f"sentence {n}. " * 50) for n in range(3)]
    store = client.vector_stores.create(file_ids=[each.id for each in files], expires_after={"anchor": "last_active_at", "days": 3})
    assert store.expires_at == store.last_active_at + 3 * 86400
    for each in files:
        assert client.vector_stores.files.poll(each.id, vector_store_id=store.id, poll_interval_ms=20).status == "completed"
    assert client.vector_stores.retrieve(store.id).file_counts.completed == 3
    assert {each.id for each in client.vector_stores.files.list(store.id, limit=1)} == {each.id for each in files}
    assert store.id in [each.id for each in client.vector_stores.list()]


def test_what_is_wrong_is_refused(client, file):
    store = client.vector_stores.create()
    kept = file("a.txt", "a")
    for call in [
        lambda: client.vector_stores.create(file_ids=["file-none"]),
        lambda: client.vector_stores.search("vs_none", query="a"),
        lambda: client.vector_stores.files.create("vs_none", file_id=kept.id),
        lambda: client.vector_stores.files.create(store.id, file_id="file-none"),
        lambda: client.vector_stores.files.retrieve(kept.id, vector_store_id=store.id),
        lambda: client.vector_stores.file_batches.retrieve("vsfb_none", vector_store_id=store.id),
    ]:
        with pytest.raises(NotFoundError, match="found with id"):
            call()
    for call in [
        lambda: client.vector_stores.search(store.id, query=" "),
        lambda: client.vector_stores.search(store.id, query="a", max_num_results=51),
        lambda: client.vector_stores.search(store.id, query="a", filters={"type": "like", "key": "a", "value": "b"}),
        lambda: client.vector_stores.create(metadata={str(n): "" for n in range(17)}),
        lambda: client.vector_stores.files.create(store.id, file_id=kept.id, attributes={"a": ["b"]}),
        lambda: client.vector_stores.list(limit=101),
        lambda: client.vector_stores.files.create(
            store.id, file_id=kept.id,
            chunking_strategy={"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 51}},
        ),
    ]:
        with pytest.raises(BadRequestError) as caught:
            call()
        assert caught.value.type == "invalid_request_error"


async def test_the_async_client_works(server, environment, file):
    client = AsyncOpenAI()
    store = await client.vector_stores.create(name="async")
    attached = await client.vector_stores.files.create_and_poll(file("a.txt", POEM).id, vector_store_id=store.id, poll_interval_ms=20)
    assert attached.status == "completed"
    assert len((await client.vector_stores.search(store.id, query="春")).data) == 1
