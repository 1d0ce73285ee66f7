"""nDCG@10 of dense search by the reference pipeline of a model, to lay beside `wenyi eval retrieval`.

The reference is what sentence-transformers computes: the model's own tokenizer and PyTorch weights in
f32, texts cut to `max_seq_length`, the mean of the hidden states, unit length; then the cosine of each
query with each document by NumPy. Needs `torch`, `transformers` and `numpy`:

    python bench/retrieval/dense.py MODEL_FOLDER SCIFACT_FOLDER
"""

import argparse
import json
from pathlib import Path

import numpy
import torch
from transformers import AutoModel, AutoTokenizer

TOP_K = 10


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


class Model:
    def __init__(self, folder):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval()
        self.length = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]

    @torch.inference_mode()
    def embed(self, texts, batch=32):
        # Texts of one length side by side, so that little is spent on padding.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        vectors = [None] * len(texts)
        for start in range(0, len(texts), batch):
            some = order[start : start + batch]
            tokens = self.tokenizer([texts[index] for index in some], padding=True, truncation=True,
                                    max_length=self.length, return_tensors="pt")
            states = self.model(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1).float()
            means = (states * mask).sum(1) / mask.sum(1)
            for index, vector in zip(some, torch.nn.functional.normalize(means).numpy()):
                vectors[index] = vector
        return numpy.stack(vectors)


def ndcg(found, judged):
    gains = [judged.get(document, 0) for document in found[:TOP_K]]
    best = sorted(judged.values(), reverse=True)[:TOP_K]
    discounted = [sum(gain / numpy.log2(place + 2) for place, gain in enumerate(some)) for some in (gains, best)]
    return discounted[0] / discounted[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path, help="with corpus.jsonl, queries.jsonl and qrels/*.tsv")
    arguments = parser.parse_args()
    corpus = {row["_id"]: f"{row.get('title', '')}\n{row['text']}".strip()
              for row in lines(arguments.folder / "corpus.jsonl")}
    queries = {row["_id"]: row["text"] for row in lines(arguments.folder / "queries.jsonl")}
    judged = {}
    for file in sorted((arguments.folder / "qrels").glob("*.tsv")):
        for line in file.read_text().splitlines()[1:]:
            query, document, gain = line.split("\t")
            if int(gain) > 0:
                judged.setdefault(query, {})[document] = int(gain)
    model = Model(arguments.model)
    documents = list(corpus)
    vectors = model.embed([corpus[document] for document in documents])
    asked = [query for query in queries if query in judged]
    scores = model.embed([queries[query] for query in asked]) @ vectors.T
    values = []
    for query, row in zip(asked, scores):
        found = [documents[index] for index in numpy.argsort(-row, kind="stable")[: TOP_K + 1]]
        values.append(ndcg([document for document in found if document != query], judged[query]))
    print(f"{arguments.folder.name}: {len(documents):,} documents, {len(asked)} queries, "
          f"nDCG@10 {numpy.mean(values):.4f}")


if __name__ == "__main__":
    main()
