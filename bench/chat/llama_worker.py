"""llama.cpp behind the same lines as `chat_bench`: `llama_worker.py MODEL THREADS`.

Calls the C API itself, so that Python's part is one call a token.
"""

import ctypes
import json
import sys
import time
from pathlib import Path

import llama_cpp as api
import numpy as np

CONTEXT = 1024


class Engine:
    def __init__(self, model: str, threads: int) -> None:
        self.lines: list[str] = []
        self.callback = api.llama_log_callback(self.log)
        api.llama_log_set(self.callback, ctypes.c_void_p(0))
        api.llama_backend_init()
        self.model = api.llama_model_load_from_file(
            model.encode(), api.llama_model_default_params()
        )
        options = api.llama_context_default_params()
        options.n_ctx = CONTEXT
        options.n_batch = options.n_ubatch = 512
        options.n_threads = options.n_threads_batch = threads
        self.context = api.llama_init_from_model(self.model, options)
        self.vocabulary = api.llama_model_get_vocab(self.model)
        self.width = api.llama_vocab_n_tokens(self.vocabulary)

    def log(self, _level, text, _data) -> None:
        self.lines.append(text.decode(errors="replace"))

    def facts(self) -> dict:
        """What ran: the CPU features it was built with, and where it put the weights."""
        system = api.llama_print_system_info().decode()
        buffers = [line.strip() for line in self.lines if "buffer size" in line]
        return {"system": system, "buffers": buffers}

    def clear(self) -> None:
        api.llama_memory_clear(api.llama_get_memory(self.context), True)

    def read(self, ids) -> None:
        array = (api.llama_token * len(ids))(*ids)
        failed = api.llama_decode(self.context, api.llama_batch_get_one(array, len(ids)))
        if failed:
            raise RuntimeError(f"llama_decode: {failed}")

    def logits(self, index: int) -> np.ndarray:
        pointer = api.llama_get_logits_ith(self.context, index)
        return np.ctypeslib.as_array(pointer, shape=(self.width,))

    def decode(self, depth: int, count: int) -> dict:
        self.clear()
        if depth:
            self.read(ids(depth))
            self.logits(-1)
        tokens = ids(count)
        started = time.perf_counter()
        for token in tokens:
            self.read([token])
            api.llama_get_logits_ith(self.context, -1)
        return {"seconds": time.perf_counter() - started}

    def prompt(self, count: int) -> dict:
        self.clear()
        tokens = ids(count)
        started = time.perf_counter()
        self.read(tokens)
        api.llama_get_logits_ith(self.context, -1)
        return {"seconds": time.perf_counter() - started}

    def tokenize(self, file: str, count: int) -> dict:
        text = Path(file).read_bytes()
        room = (api.llama_token * (len(text) + 16))()
        found = api.llama_tokenize(self.vocabulary, text, len(text), room, len(room), True, False)
        return {"ids": list(room[: min(found, count)])}

    def perplexity(self, file: str, chunk: int) -> dict:
        tokens = [int(word) for word in Path(file).read_text().split()]
        total, scored = 0.0, 0
        for start in range(0, len(tokens) - chunk + 1, chunk):
            part = tokens[start : start + chunk]
            self.clear()
            batch = api.llama_batch_init(chunk, 0, 1)
            batch.n_tokens = chunk
            for index, token in enumerate(part):
                batch.token[index] = token
                batch.pos[index] = index
                batch.n_seq_id[index] = 1
                batch.seq_id[index][0] = 0
                batch.logits[index] = index >= chunk // 2
            if api.llama_decode(self.context, batch):
                raise RuntimeError("llama_decode failed")
            # The token at `index + 1` is foretold by the scores at `index`.
            for index in range(chunk // 2, chunk - 1):
                logits = self.logits(index).astype(np.float64)
                largest = logits.max()
                total += largest + np.log(np.exp(logits - largest).sum()) - logits[part[index + 1]]
                scored += 1
            api.llama_batch_free(batch)
        return {"perplexity": float(np.exp(total / scored)), "scored": scored}


def ids(count: int) -> list[int]:
    """Tokens that are no text, the same on both sides."""
    return [300 + index * 7 % 1000 for index in range(count)]


def memory() -> dict:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {"kib": next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))}


def main() -> None:
    engine = Engine(sys.argv[1], int(sys.argv[2]))
    print(json.dumps(engine.facts()), flush=True)
    for line in sys.stdin:
        kind, *words = line.split()
        if kind == "memory":
            answer = memory()
        elif kind in ("tokenize", "perplexity"):
            answer = getattr(engine, kind)(words[0], int(words[1]))
        else:
            answer = getattr(engine, kind)(*map(int, words))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
