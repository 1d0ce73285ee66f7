"""langchain-qdrant, unmodified, and LangChain's own suite for vector stores over it."""

import uuid

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_qdrant import QdrantVectorStore, RetrievalMode, SparseEmbeddings, SparseVector
from langchain_tests.integration_tests import VectorStoreIntegrationTests
from qdrant_client import models

from conftest import KEY


class Store(QdrantVectorStore):
    """The suite compares documents whole; the integration puts the id into the metadata instead."""

    @classmethod
    def _document_from_point(cls, *arguments):
        document = super()._document_from_point(*arguments)
        id = str(document.metadata.pop("_id"))
        document.metadata.pop("_collection_name")
        try:
            # Ids that the integration makes have no hyphens when it gives them back.
            id = uuid.UUID(id).hex
        except ValueError:
            pass
        return Document(id=id, page_content=document.page_content, metadata=document.metadata)


class TestDense(VectorStoreIntegrationTests):
    options = {}

    @pytest.fixture
    def vectorstore(self, server):
        store = Store.construct_instance(
            embedding=self.get_embeddings(),
            client_options={"url": server, "api_key": KEY},
            collection_name=f"suite {uuid.uuid4()}",
            **self.options,
        )
        yield store
        store.client.delete_collection(store.collection_name)


    reason = "the integration takes ids for all documents or for none"

    @pytest.mark.xfail(reason=reason)
    def test_add_documents_with_existing_ids(self, vectorstore):
        super().test_add_documents_with_existing_ids(vectorstore)

    @pytest.mark.xfail(reason=reason)
    async def test_add_documents_with_existing_ids_async(self, vectorstore):
        await super().test_add_documents_with_existing_ids_async(vectorstore)


class TestNamed(TestDense):
    options = {"vector_name": "named"}


class Words(SparseEmbeddings):
    """The letters of a text: enough to find equal ones."""

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text):
        letters = sorted(set(text))
        return SparseVector(indices=[ord(letter) for letter in letters], values=[float(text.count(l)) for l in letters])


class TestHybrid(TestDense):
    options = {"retrieval_mode": RetrievalMode.HYBRID, "sparse_embedding": Words()}


TEXTS = ["春眠不觉晓", "处处闻啼鸟", "夜来风雨声", "花落知多少"]


@pytest.mark.parametrize("mode", list(RetrievalMode))
def test_all_modes_find_filter_and_forget(server, mode):
    store = QdrantVectorStore.from_texts(
        TEXTS,
        DeterministicFakeEmbedding(size=8),
        metadatas=[{"line": n, "season": {"of": "spring"}} for n in range(4)],
        ids=[n + 1 for n in range(4)],
        url=server,
        api_key=KEY,
        collection_name=f"modes {uuid.uuid4()}",
        retrieval_mode=mode,
        sparse_embedding=Words(),
    )
    assert store.similarity_search(TEXTS[2], k=1)[0].page_content == TEXTS[2]
    second = models.Filter(must=[models.FieldCondition(key="metadata.line", match=models.MatchValue(value=1))])
    # Words in common are needed where nothing but words is compared.
    assert [d.page_content for d in store.similarity_search(TEXTS[1], filter=second)] == [TEXTS[1]]
    scored = store.similarity_search_with_score(TEXTS[0], k=4)
    assert [score for _, score in scored] == sorted((score for _, score in scored), reverse=True)
    store.delete([3])
    assert TEXTS[2] not in [document.page_content for document in store.similarity_search(TEXTS[2], k=4)]
    # Opened again, the collection is what the integration expects of it.
    QdrantVectorStore.from_existing_collection(
        store.collection_name, DeterministicFakeEmbedding(size=8), url=server, api_key=KEY,
        retrieval_mode=mode, sparse_embedding=Words(),
    )


def test_retrievers_of_all_kinds(server):
    store = QdrantVectorStore.from_texts(
        TEXTS * 2, DeterministicFakeEmbedding(size=8), url=server, api_key=KEY, collection_name=f"mmr {uuid.uuid4()}"
    )
    # The integration passes `lambda_mult` on as the diversity.
    different = store.as_retriever(search_type="mmr", search_kwargs={"k": 4, "fetch_k": 8, "lambda_mult": 1.0})
    assert len({document.page_content for document in different.invoke(TEXTS[0])}) == 4
    near = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.99})
    assert [document.page_content for document in near.invoke(TEXTS[3])] == [TEXTS[3]] * 2
