"""Programs as people write them; nothing in them knows of wenyi but the model names."""

import warnings

import numpy
import pytest

TEXTS = ["the sense of a text", "文意：句子的意思", "naïve 🚀 <|endoftext|>", ""]


def cosine(one, other):
    one, other = numpy.array(one), numpy.array(other)
    return one @ other / numpy.linalg.norm(one) / numpy.linalg.norm(other)


@pytest.fixture(scope="module")
def vectors():
    """The vectors of TEXTS, through the plainest client."""
    import openai

    reply = openai.OpenAI().embeddings.create(model="bert", input=TEXTS, encoding_format="float")
    assert [entry.index for entry in reply.data] == list(range(len(TEXTS)))
    assert reply.usage.total_tokens > 0
    return [entry.embedding for entry in reply.data]


def check(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert numpy.allclose(one, other, atol=1e-6)


def test_openai_in_base64_as_it_asks_by_default(vectors):
    import openai

    reply = openai.OpenAI().embeddings.create(model="bert", input=TEXTS)
    check([entry.embedding for entry in reply.data], vectors)


async def test_openai_async_with_dimensions(vectors):
    import openai

    reply = await openai.AsyncOpenAI().embeddings.create(
        model="bert", input=TEXTS, dimensions=8, user="someone"
    )
    for entry, whole in zip(reply.data, vectors):
        short = numpy.array(whole[:8]) / numpy.linalg.norm(whole[:8])
        assert numpy.allclose(entry.embedding, short, atol=1e-6)


def test_openai_errors_are_its_own_classes():
    import openai

    client = openai.OpenAI(max_retries=0)
    with pytest.raises(openai.NotFoundError) as error:
        client.embeddings.create(model="no-such-model", input="a")
    assert error.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="bert", input=[])
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(api_key="wrong", max_retries=0).models.list()
    assert "bert" in [model.id for model in client.models.list()]
    assert client.models.retrieve("bert").id == "bert"


@pytest.mark.parametrize("model", ["text-embedding-ada-002", "text-embedding-3-large", "bert"])
def test_langchain_openai_sends_token_ids(vectors, model):
    from langchain_openai import OpenAIEmbeddings

    embeddings = OpenAIEmbeddings(model=model)
    check(embeddings.embed_documents(TEXTS), vectors)
    check([embeddings.embed_query(TEXTS[1])], vectors[1:2])


def test_langchain_openai_without_a_model_name(vectors):
    from langchain_openai import OpenAIEmbeddings

    check(OpenAIEmbeddings().embed_documents(TEXTS[:3]), vectors[:3])


async def test_langchain_openai_sends_texts(vectors):
    from langchain_openai import OpenAIEmbeddings

    embeddings = OpenAIEmbeddings(model="bert", check_embedding_ctx_length=False)
    check(await embeddings.aembed_documents(TEXTS), vectors)


def test_langchain_openai_with_many_and_long_texts():
    from langchain_openai import OpenAIEmbeddings

    embeddings = OpenAIEmbeddings(model="text-embedding-3-large")
    many = [f"text {number}" for number in range(2500)]
    found = embeddings.embed_documents(many)
    assert len(found) == 2500
    check([embeddings.embed_query(many[1234])], [found[1234]])
    # Cut by the client inside of characters, averaged by the client.
    long = embeddings.embed_query("杏" * 6000)
    assert abs(numpy.linalg.norm(long) - 1) < 1e-6


def test_langchain_community_dashscope(vectors):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_community.embeddings import DashScopeEmbeddings

        embeddings = DashScopeEmbeddings()
    check(embeddings.embed_documents(TEXTS[:3] * 10), vectors[:3] * 10)
    assert len(embeddings.embed_query("文意")) == len(vectors[0])


def test_dashscope_sdk(vectors):
    import dashscope

    reply = dashscope.TextEmbedding.call(model="text-embedding-v4", input=TEXTS[:3], text_type="document")
    assert reply.status_code == 200, reply
    check([entry["embedding"] for entry in reply.output["embeddings"]], vectors[:3])
    short = dashscope.TextEmbedding.call(model="text-embedding-v4", input="a", dimension=8)
    assert len(short.output["embeddings"][0]["embedding"]) == 8
    sparse = dashscope.TextEmbedding.call(model="splade", input="a", output_type="sparse")
    assert sparse.output["embeddings"][0]["sparse_embedding"][0].keys() == {"index", "value", "token"}
    wrong = dashscope.TextEmbedding.call(model="text-embedding-v4", input="a", dimension=100000)
    assert (wrong.status_code, wrong.code) == (400, "InvalidParameter")
    refused = dashscope.TextEmbedding.call(model="text-embedding-v4", input="a", api_key="wrong")
    assert (refused.status_code, refused.code) == (401, "InvalidApiKey")


def test_dashscope_rerank():
    import dashscope

    reply = dashscope.TextReRank.call(
        model="cross_encoder", query="meaning", documents=TEXTS[:3], top_n=2, return_documents=True
    )
    assert reply.status_code == 200, reply
    scores = [result["relevance_score"] for result in reply.output["results"]]
    assert len(scores) == 2 and scores == sorted(scores, reverse=True)
    assert reply.output["results"][0]["document"]["text"] in TEXTS


@pytest.mark.parametrize("version", ["Client", "ClientV2"])
def test_cohere_rerank(version):
    import cohere

    client = getattr(cohere, version)()
    reply = client.rerank(model="cross_encoder", query="meaning", documents=TEXTS[:3], top_n=2)
    scores = [result.relevance_score for result in reply.results]
    assert len(scores) == 2 and scores == sorted(scores, reverse=True)
    with pytest.raises(cohere.NotFoundError):
        client.rerank(model="no-such-model", query="a", documents=["a"])
