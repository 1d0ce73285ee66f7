"""qdrant-client, unmodified: what our server answers is what the client's own local mode does."""

import random
import uuid

import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from conftest import KEY

DIMENSIONS = 6
WORDS = ["春眠不觉晓", "处处闻啼鸟", "the night wind", "rain on petals", "how many fell"]


@pytest.fixture(scope="module")
def remote(server):
    # The client compares versions when it starts, and warns if it cannot: warnings are errors here.
    client = QdrantClient(url=server, api_key=KEY, timeout=60)
    yield client
    client.close()


@pytest.fixture
def both(remote):
    """Runs the same on our server and on the client's local mode; compares what they answer."""
    return Both(remote, QdrantClient(":memory:"))


class Both:
    def __init__(self, ours, theirs):
        self.clients = [ours, theirs]
        self.name = f"集合 {uuid.uuid4()}"

    def do(self, method, *args, **keywords):
        """The change is made at both."""
        return [getattr(client, method)(self.name, *args, **keywords) for client in self.clients]

    def same(self, method, *args, **keywords):
        """Both answer the same; that is what is returned."""
        ours, theirs = (plain(answer) for answer in self.do(method, *args, **keywords))
        assert_same(ours, theirs)
        return ours


def plain(answer):
    if hasattr(answer, "model_dump"):
        return plain(answer.model_dump(exclude_none=True))
    if isinstance(answer, dict):
        # The local mode numbers no changes, and prints an empty payload where the server prints one.
        return {key: plain(value) for key, value in answer.items() if key not in ("version", "shard_key")}
    if isinstance(answer, (list, tuple)):
        return [plain(value) for value in answer]
    return answer


def assert_same(ours, theirs):
    assert type(ours) is type(theirs), (ours, theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), (ours, theirs)
        for key in ours:
            assert_same(ours[key], theirs[key])
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), (ours, theirs)
        for a, b in zip(ours, theirs):
            assert_same(a, b)
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, abs=2e-5)
    else:
        assert ours == theirs


def vector(chance, size=DIMENSIONS):
    numbers = [chance.gauss(0, 1) for _ in range(size)]
    length = sum(number * number for number in numbers) ** 0.5
    # Of unit length: local mode gives back what it normalised.
    return [number / length for number in numbers]


def sparse(chance):
    indices = chance.sample(range(20), 5)
    return models.SparseVector(indices=indices, values=[chance.random() + 0.1 for _ in indices])


def payload(chance, n):
    return {
        "n": n,
        "lang": ["zh", "en", "de"][n % 3],
        "tags": chance.sample(["a", "b", "c", "d"], 2),
        "ratio": n / 7,
        "author": {"name": "李白" if n % 4 == 0 else "杜甫", "born": 701 + n},
        "text": WORDS[n % len(WORDS)],
        "parts": [{"kind": "x", "size": n}, {"kind": "y", "size": n + 1}],
        **({"draft": n % 2 == 0} if n % 5 else {"draft": None}),
        **({"rare": 1} if n % 9 == 0 else {}),
    }


def points(chance, number=60):
    """Half of the ids are numbers, half are UUIDs."""
    ids = [n if n % 2 else str(uuid.UUID(int=chance.getrandbits(128))) for n in range(number)]
    return [
        models.PointStruct(id=id, vector=vector(chance), payload=payload(chance, n)) for n, id in enumerate(ids)
    ]


def match(key, value):
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def span(key, **bounds):
    return models.FieldCondition(key=key, range=models.Range(**bounds))


def filters(points):
    ids = [points[3].id, points[4].id, points[8].id.upper()]
    some = models.FieldCondition(key="lang", match=models.MatchAny(any=["zh", "de"]))
    return [
        models.Filter(must=[match("lang", "zh")]),
        models.Filter(must=match("author.name", "李白"), must_not=[match("lang", "en")]),
        models.Filter(should=[match("lang", "en"), span("n", gte=50)]),
        models.Filter(must=[span("ratio", gt=1, lte=4.5), some]),
        models.Filter(must=[models.FieldCondition(key="lang", match=models.MatchExcept(**{"except": ["zh"]}))]),
        models.Filter(must=[match("tags", "a"), models.Filter(should=[match("tags", "b"), match("tags", "c")])]),
        models.Filter(must=[models.HasIdCondition(has_id=ids)]),
        models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="rare"))]),
        models.Filter(must=[models.IsNullCondition(is_null=models.PayloadField(key="draft"))]),
        models.Filter(must=[match("draft", True)]),
        models.Filter(must=[models.FieldCondition(key="tags", values_count=models.ValuesCount(gte=2))]),
        models.Filter(
            must=[
                models.NestedCondition(
                    nested=models.Nested(key="parts", filter=models.Filter(must=[match("kind", "x"), span("size", lt=20)]))
                )
            ]
        ),
        models.Filter(must=[match("parts[].size", 21)]),
        models.Filter(min_should=models.MinShould(conditions=[match("lang", "zh"), match("tags", "a"), span("n", lt=30)], min_count=2)),
        models.Filter(must=[models.FieldCondition(key="text", match=models.MatchText(text="wind"))]),
        models.Filter(must=[match("none.such", 1)]),
    ]


def made(both, distance=models.Distance.COSINE):
    chance = random.Random(5)
    both.do("create_collection", vectors_config=models.VectorParams(size=DIMENSIONS, distance=distance))
    all = points(chance)
    both.do("upsert", all)
    return chance, all


@pytest.mark.parametrize("distance", list(models.Distance))
def test_searches_agree(both, distance):
    chance, all = made(both, distance)
    for condition in [None, *filters(all)]:
        query = vector(chance)
        both.same("query_points", query=query, query_filter=condition, limit=7, with_payload=True, with_vectors=True)
        both.same("query_points", query=query, query_filter=condition, limit=5, offset=3, with_payload=["n", "author.name"])
        both.same("count", count_filter=condition, exact=True)
        both.same("scroll", scroll_filter=condition, limit=11)
    found = both.same("query_points", query=vector(chance), limit=60)
    threshold = (found["points"][20]["score"] + found["points"][21]["score"]) / 2
    kept = both.do("query_points", query=found and vector(random.Random(1)), score_threshold=threshold, limit=60)
    assert_same(*(plain(answer) for answer in kept))
    assert 0 < len(kept[0].points) < 60
    # Points are examples, and are not found themselves.
    assert all[5].id not in [p["id"] for p in both.same("query_points", query=all[5].id, limit=60)["points"]]


@pytest.mark.parametrize("distance", list(models.Distance))
def test_more_than_searches_agrees(both, distance):
    chance, all = made(both, distance)
    zh = filters(all)[0]
    examples = dict(positive=[all[1].id, all[2].id], negative=[all[3].id])
    for strategy in models.RecommendStrategy:
        query = models.RecommendQuery(recommend=models.RecommendInput(**examples, strategy=strategy))
        both.same("query_points", query=query, limit=9)
        both.same("query_points", query=query, query_filter=zh, limit=9)
        given = models.RecommendInput(positive=[vector(chance)], negative=[vector(chance), all[7].id], strategy=strategy)
        both.same("query_points", query=models.RecommendQuery(recommend=given), limit=9)
    pairs = [models.ContextPair(positive=all[n].id, negative=all[n + 1].id) for n in (10, 20, 30)]
    both.same("query_points", query=models.DiscoverQuery(discover=models.DiscoverInput(target=vector(chance), context=pairs)), limit=9)
    # Most points are on the right side of all pairs, so only those that are not are told apart.
    ours, theirs = both.do("query_points", query=models.ContextQuery(context=pairs), limit=60)
    scores = lambda answer: {point.id: point.score for point in answer.points}
    assert scores(ours) == pytest.approx(scores(theirs), abs=2e-5)
    for diversity in (0.0, 0.3, 1.0):
        for candidates in (None, 8, 60):
            mmr = models.Mmr(diversity=diversity, candidates_limit=candidates)
            query = models.NearestQuery(nearest=vector(chance), mmr=mmr)
            both.same("query_points", query=query, limit=5, with_payload=True)
    both.same("query_points", limit=7, offset=2)
    sampled = both.clients[0].query_points(both.name, query=models.SampleQuery(sample=models.Sample.RANDOM), limit=60)
    assert {point.id for point in sampled.points} == {point.id for point in all}


def test_prefetches_and_fusions_agree(both):
    chance, all = made(both)
    def fetch(limit=20, condition=None):
        return models.Prefetch(query=vector(chance), limit=limit, filter=condition)

    for _ in range(5):
        both.same("query_points", prefetch=[fetch()], query=vector(chance), limit=6)
        both.same("query_points", prefetch=[fetch(5), fetch(3, filters(all)[2])], query=vector(chance), limit=20)
        sources = [fetch(20), fetch(30)]
        ours, theirs = both.do("query_points", prefetch=sources, query=models.FusionQuery(fusion=models.Fusion.RRF), limit=50)
        # Many sums of ranks are equal: such points may come in any order.
        scores = lambda answer: sorted((point.score, str(point.id)) for point in answer.points)
        assert [a[0] for a in scores(ours)] == pytest.approx([b[0] for b in scores(theirs)], abs=1e-5)
        both.same("query_points", prefetch=sources, query=models.FusionQuery(fusion=models.Fusion.DBSF), limit=9)
        rrf = models.RrfQuery(rrf=models.Rrf(k=7, weights=[0.83, 0.29]))
        both.same("query_points", prefetch=sources, query=rrf, limit=9)
        nested = models.Prefetch(prefetch=[fetch(30)], query=vector(chance), limit=10)
        both.same("query_points", prefetch=nested, query=vector(chance), limit=4)


def test_batches_groups_and_facets_agree(both):
    chance, all = made(both)
    requests = [models.QueryRequest(query=vector(chance), limit=n, with_payload=True) for n in (1, 5, 9)]
    both.same("query_batch_points", requests)
    both.same("query_points_groups", group_by="lang", query=vector(chance), limit=2, group_size=4)
    both.same("query_points_groups", group_by="author.born", query=vector(chance), limit=5)
    both.same("query_points_groups", group_by="tags", query=vector(chance), limit=9, group_size=2)
    for key in ("lang", "tags", "author.name", "draft"):
        both.same("facet", key=key)
        both.same("facet", key=key, facet_filter=filters(all)[2], limit=2)
    ordered = dict(order_by=models.OrderBy(key="ratio", direction=models.Direction.DESC, start_from=5.0))
    both.same("scroll", limit=9, **ordered)
    both.same("query_points", query=models.OrderByQuery(order_by="author.born"), limit=9)


def test_points_are_read_and_changed(both):
    chance, all = made(both)
    ids = [all[1].id, all[2].id, 999, all[0].id]
    both.same("retrieve", ids, with_vectors=True)
    both.same("retrieve", [uuid.UUID(all[0].id).hex, all[0].id.upper()][:1], with_payload=False)
    both.same("retrieve", ids, with_payload=models.PayloadSelectorExclude(exclude=["author.name", "tags"]))
    some = models.Filter(must=[match("lang", "en")])
    both.do("set_payload", {"lang": "fr", "new": {"a": 1}}, points=some)
    both.do("set_payload", {"b": [1, None, "文"]}, points=[all[1].id], key="new.deep")
    both.do("delete_payload", ["tags", "author.born"], points=models.Filter(must=[match("lang", "fr")]))
    both.do("overwrite_payload", {"only": "this"}, points=[all[2].id, all[3].id])
    both.do("clear_payload", [all[4].id])
    both.do("update_vectors", [models.PointVectors(id=all[6].id, vector=vector(chance))])
    both.do("delete", [all[7].id, 12345])
    both.do("delete", models.Filter(must=[span("n", gte=55)]))
    both.do("upsert", models.Batch(ids=[500, 501], vectors=[vector(chance), vector(chance)], payloads=[{"n": 1}, {"n": 2}]))
    both.do("upsert", [models.PointStruct(id=500, vector=vector(chance), payload={"again": True})])
    operations = [
        models.UpsertOperation(upsert=models.PointsList(points=[models.PointStruct(id=600, vector=vector(chance), payload={"x": 1})])),
        models.SetPayloadOperation(set_payload=models.SetPayload(payload={"y": 2}, points=[600])),
        models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=["x"], points=[600])),
        models.DeleteOperation(delete=models.PointIdsList(points=[501])),
    ]
    both.do("batch_update_points", operations)
    everything = both.same("scroll", limit=1000, with_vectors=True)[0]
    assert [p["payload"] for p in everything if p["id"] == 600] == [{"y": 2}]
    both.same("query_points", query=vector(chance), limit=100, with_payload=True)
    # Page by page, all of them once.
    seen, offset = [], None
    while True:
        page, offset = both.clients[0].scroll(both.name, limit=7, offset=offset)
        seen += [record.id for record in page]
        if offset is None:
            break
    assert seen == [record["id"] for record in everything]


def test_conditional_upserts_agree(both):
    chance, all = made(both)
    changed = [models.PointStruct(id=id, vector=vector(chance), payload={"n": 1000}) for id in (1, 3, 700)]
    both.do("upsert", changed, update_mode=models.UpdateMode.INSERT_ONLY)
    both.same("retrieve", [1, 3, 700])
    changed = [models.PointStruct(id=id, vector=vector(chance), payload={"n": 2000}) for id in (1, 5, 701)]
    both.do("upsert", changed, update_mode=models.UpdateMode.UPDATE_ONLY)
    both.same("retrieve", [1, 5, 701])
    both.do("upsert", changed, update_filter=models.Filter(must=[span("n", lt=10)]))
    both.same("retrieve", [1, 5, 701], with_vectors=True)


def test_named_and_sparse_vectors_agree(both):
    chance = random.Random(11)
    both.do(
        "create_collection",
        vectors_config={
            "title": models.VectorParams(size=4, distance=models.Distance.COSINE),
            "body": models.VectorParams(size=DIMENSIONS, distance=models.Distance.EUCLID),
        },
        sparse_vectors_config={
            "words": models.SparseVectorParams(),
            "rare words": models.SparseVectorParams(modifier=models.Modifier.IDF),
        },
    )

    def some(n):
        vectors = {"title": vector(chance, 4), "body": vector(chance), "words": sparse(chance), "rare words": sparse(chance)}
        # Points need not have all of them.
        if n % 7 == 0:
            vectors.pop("title")
        if n % 5 == 0:
            vectors.pop("words")
        return models.PointStruct(id=n, vector=vectors, payload=payload(chance, n))

    both.do("upsert", [some(n) for n in range(50)])
    zh = models.Filter(must=[match("lang", "zh")])

    def ask():
        for condition in (None, zh):
            both.same("query_points", query=vector(chance, 4), using="title", query_filter=condition, limit=50)
            both.same("query_points", query=vector(chance), using="body", query_filter=condition, limit=6, with_vectors=["title"])
            both.same("query_points", query=sparse(chance), using="words", query_filter=condition, limit=8)
            both.same("query_points", query=sparse(chance), using="rare words", query_filter=condition, limit=8, with_vectors=True)
        sources = [
            models.Prefetch(query=vector(chance, 4), using="title", limit=20),
            models.Prefetch(query=sparse(chance), using="words", limit=20),
        ]
        rrf = models.RrfQuery(rrf=models.Rrf(k=3, weights=[0.71, 0.37]))
        both.same("query_points", prefetch=sources, query=rrf, limit=9)
        both.same("query_points", prefetch=sources, query=vector(chance), using="body", limit=9)
        for strategy in models.RecommendStrategy:
            recommend = models.RecommendInput(positive=[1, 2], negative=[3], strategy=strategy)
            both.same("query_points", query=models.RecommendQuery(recommend=recommend), using="title", limit=5)
        recommend = models.RecommendInput(positive=[3, 4], negative=[6])
        both.same("query_points", query=models.RecommendQuery(recommend=recommend), using="words", limit=5)
        both.same("scroll", limit=60, with_vectors=True)

    ask()
    both.do("update_vectors", [models.PointVectors(id=7, vector={"title": vector(chance, 4)})])
    both.do("update_vectors", [models.PointVectors(id=8, vector={"words": sparse(chance), "body": vector(chance)})])
    both.do("delete_vectors", vectors=["words"], points=[1, 9])
    both.do("delete", [2 + 40, 11])
    both.do("upsert", [some(n) for n in (7, 12, 60)])
    ask()


def test_collections_are_described(remote):
    name = f"described {uuid.uuid4()}"
    assert not remote.collection_exists(name)
    params = {"": models.VectorParams(size=3, distance=models.Distance.DOT)}
    assert remote.create_collection(name, vectors_config=params, metadata={"model": "文"})
    assert remote.collection_exists(name)
    assert name in [collection.name for collection in remote.get_collections().collections]
    remote.create_payload_index(name, "lang", models.PayloadSchemaType.KEYWORD)
    remote.create_payload_index(name, "text", models.TextIndexParams(type="text", tokenizer=models.TokenizerType.WORD))
    remote.upsert(name, [models.PointStruct(id=1, vector=[1, 2, 3], payload={"lang": "zh"})])
    remote.update_collection(name, metadata={"more": 1})
    info = remote.get_collection(name)
    assert info.config.params.vectors == params[""]
    assert info.config.metadata == {"model": "文", "more": 1}
    assert info.points_count == 1 and info.status == models.CollectionStatus.GREEN
    assert {key: index.points for key, index in info.payload_schema.items()} == {"lang": 1, "text": 0}
    remote.delete_payload_index(name, "text")
    assert list(remote.get_collection(name).payload_schema) == ["lang"]
    assert remote.delete_collection(name) and not remote.delete_collection(name)
    assert not remote.collection_exists(name)


def refused(status, words, call, *args, **keywords):
    with pytest.raises(UnexpectedResponse) as caught:
        call(*args, **keywords)
    assert caught.value.status_code == status
    message = caught.value.structured()["status"]["error"]
    assert words in message, message


def test_what_is_wrong_is_refused(remote, server):
    name = f"wrong {uuid.uuid4()}"
    params = models.VectorParams(size=3, distance=models.Distance.COSINE)
    refused(404, f"Collection `{name}` doesn't exist!", remote.get_collection, name)
    refused(404, "doesn't exist!", remote.query_points, name, query=[1.0, 2.0, 3.0])
    refused(400, "0", remote.create_collection, name, vectors_config=models.VectorParams(size=0, distance=models.Distance.DOT))
    remote.create_collection(name, vectors_config=params)
    refused(409, f"Collection `{name}` already exists!", remote.create_collection, name, vectors_config=params)
    point = models.PointStruct(id=1, vector=[1, 2, 3])
    wide = models.PointStruct(id=2, vector=[1, 2, 3, 4])
    refused(400, "4 dimensions", remote.upsert, name, [point, wide])
    assert remote.count(name).count == 0
    refused(400, "dimensions", remote.query_points, name, query=[1.0, 2.0])
    refused(400, "no vector `other`", remote.query_points, name, query=[1.0, 2.0, 3.0], using="other")
    refused(400, "no vector `other`", remote.upsert, name, [models.PointStruct(id=1, vector={"other": [1, 2, 3]})])
    refused(404, "No point with id 77 found", remote.query_points, name, query=77)
    refused(404, "No point with id", remote.update_vectors, name, [models.PointVectors(id=77, vector=[1, 2, 3])])
    geo = models.FieldCondition(key="at", geo_radius=models.GeoRadius(center=models.GeoPoint(lon=1, lat=1), radius=1))
    refused(400, "geo_radius", remote.count, name, count_filter=models.Filter(must=[geo]))
    with pytest.raises(UnexpectedResponse) as caught:
        QdrantClient(url=server, api_key="wrong", check_compatibility=False).get_collections()
    assert caught.value.status_code == 401


def test_uploads_come_whole(remote):
    name = f"uploaded {uuid.uuid4()}"
    remote.create_collection(name, vectors_config=models.VectorParams(size=DIMENSIONS, distance=models.Distance.COSINE))
    chance = random.Random(3)
    all = [models.PointStruct(id=n, vector=vector(chance), payload={"n": n}) for n in range(1000)]
    remote.upload_points(name, all, batch_size=64, wait=True)
    remote.upload_collection(name, vectors=[vector(chance) for _ in range(100)], ids=range(1000, 1100), wait=True)
    assert remote.count(name).count == 1100
    assert remote.query_points(name, query=all[123].vector, limit=1).points[0].id == 123


async def test_the_async_client_works(server):
    client = AsyncQdrantClient(url=server, api_key=KEY)
    name = f"async {uuid.uuid4()}"
    await client.create_collection(name, vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    await client.upsert(name, [models.PointStruct(id=n, vector=[n, 1]) for n in range(9)])
    found = await client.query_points(name, query=[1.0, 0.0], limit=3)
    assert [point.id for point in found.points] == [8, 7, 6]
    await client.close()
