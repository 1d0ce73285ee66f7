"""Mixed good, bad, huge, cut, slow and abandoned requests; memory must stay flat and vectors right.

Usage: soak.py WENYI MODEL_FOLDER CHAT_FOLDER [SECONDS]. Needs Python alone. Exits with 1 on a wrong vector, a
status that the interface does not declare, a 5xx status, or memory that grows by more than a tenth after the
first two fifths of the time.
"""

import base64
import json
import pathlib
import random
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

wenyi, folder, chat_folder = sys.argv[1:4]
seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 600
command = [wenyi, "serve", "--port", "0", "--model", f"m={folder}", "--chat-model", f"c={chat_folder}", "--offline",
           "--log-level", "error", "--cache", "4", "--max-body", "4", "--read-timeout", "2"]
process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
address = process.stdout.readline().strip()
host, port = address.removeprefix("http://").split(":")
problems, counts, lock = [], {}, threading.Lock()

DASHSCOPE = "/api/v1/services/embeddings/text-embedding/text-embedding"


def post(path, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data)
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        # The server may close before a refused body has been sent.
        return 0, b""


def raw(path, body, length=None):
    """A connection on which a request has been sent, perhaps not all of it."""
    connection = socket.create_connection((host, int(port)), timeout=60)
    length = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    try:
        connection.sendall(head.encode() + body)
    except OSError:
        pass
    return connection


def floats(text):
    data = base64.b64decode(text)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def as_f32(vector):
    """JSON's decimals as what they stand for."""
    return list(struct.unpack(f"<{len(vector)}f", struct.pack(f"<{len(vector)}f", *vector)))


# How each dialect asks for vectors, and where it has them.
DIALECTS = [
    ("/v1/embeddings", lambda texts: {"model": "m", "input": texts},
     lambda reply: [entry["embedding"] for entry in reply["data"]]),
    ("/v1/embeddings", lambda texts: {"model": "m", "input": texts, "encoding_format": "base64"},
     lambda reply: [floats(entry["embedding"]) for entry in reply["data"]]),
    (DASHSCOPE, lambda texts: {"model": "m", "input": {"texts": texts}},
     lambda reply: [entry["embedding"] for entry in reply["output"]["embeddings"]]),
    ("/embed", lambda texts: {"inputs": texts}, lambda reply: reply),
    ("/api/embed", lambda texts: {"model": "m", "input": texts}, lambda reply: reply["embeddings"]),
]


def ask(dialect, asked):
    path, request, answer = dialect
    status, body = post(path, request(asked))
    return status, [as_f32(vector) for vector in answer(json.loads(body))] if status == 200 else None


texts = [f"text {number} 文意 " + "word " * (number % 60) for number in range(200)]
expected = [ask(DIALECTS[0], [text])[1][0] for text in texts]
end = time.monotonic() + seconds


def good(chance):
    picked = chance.sample(range(len(texts)), chance.randint(1, 20))
    status, found = ask(chance.choice(DIALECTS), [texts[index] for index in picked])
    if status == 429:
        return status
    if found != [expected[index] for index in picked]:
        problems.append(f"wrong vectors, status {status}")
    return status


def bad(chance):
    path = chance.choice(DIALECTS)[0]
    status, _ = post(path, chance.choice([
        b"{", b"\xff", b"[" * 50000, {"model": "x", "input": "a"}, {"model": "m", "input": [[[1]]]},
        {"model": "m", "input": [10**9]}, {"inputs": {}}, {"model": "m", "input": {"texts": [1]}}]))
    if status not in (400, 404, 422):
        problems.append(f"a bad request got status {status} at {path}")
    return status


def huge(chance):
    kind = chance.randrange(3)
    if kind == 0:
        return post("/v1/embeddings", {"model": "m", "input": "a" * (5 << 20)})[0]
    if kind == 1:
        return post("/v1/embeddings", {"model": "m", "input": ["word " * 200] * 2048})[0]
    return post("/v1/embeddings", {"model": "m", "input": "word " * 8000})[0]


def cut(chance):
    """Ends in the middle of the body."""
    body = json.dumps({"model": "m", "input": texts}).encode()
    raw("/v1/embeddings", body[: chance.randint(0, len(body))], len(body)).close()
    return 0


def slow(chance):
    """Sends a byte now and then, until the server loses its patience or has it all."""
    body = json.dumps({"model": "m", "input": "slow"}).encode()
    with raw("/v1/embeddings", b"", len(body)) as connection:
        try:
            for byte in body:
                connection.sendall(bytes([byte]))
                time.sleep(chance.choice([0, 0, 0, 0.05, 3]))
            reply = connection.recv(1 << 16)
        except OSError:
            return 0
    return int(reply.split(b" ")[1]) if reply else 0


def abandoned(chance):
    """Does not wait for the answer."""
    body = json.dumps({"model": "m", "input": [f"{chance.random()} {text}" for text in texts]}).encode()
    connection = raw("/v1/embeddings", body)
    time.sleep(chance.random() / 50)
    connection.close()
    return 0


def talk(chance):
    """Leaves a stream of words in the middle, or hears it out."""
    body = json.dumps({"model": "c", "messages": [{"role": "user", "content": "你好"}], "stream": True,
                       "max_tokens": chance.randint(1, 60)}).encode()
    with raw("/v1/chat/completions", body) as connection:
        heard = b""
        while piece := connection.recv(4096):
            heard += piece
            if chance.random() < 0.3:
                return 0
    status = int(heard.split(b" ")[1])
    if status == 200 and b"[DONE]" not in heard:
        problems.append("a stream ended early")
    return status


def memory():
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


KINDS = {good: 20, bad: 8, huge: 1, cut: 6, slow: 1, abandoned: 4, talk: 4}


def client(seed):
    chance = random.Random(seed)
    while time.monotonic() < end:
        kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
        try:
            status = kind(chance)
        except Exception as error:
            problems.append(f"{kind.__name__}: {error!r}")
            continue
        with lock:
            key = (kind.__name__, status)
            counts[key] = counts.get(key, 0) + 1
        if status >= 500:
            problems.append(f"{kind.__name__}: status {status}")


threads = [threading.Thread(target=client, args=(seed,)) for seed in range(12)]
for thread in threads:
    thread.start()
# The highest of each fifth: between two huge requests memory goes down again.
peaks = []
for fifth in range(5):
    until, peak = end - seconds * (4 - fifth) / 5, 0
    while time.monotonic() < until:
        peak = max(peak, memory())
        time.sleep(0.5)
    peaks.append(peak)
for thread in threads:
    thread.join()
process.terminate()
code = process.wait(timeout=60)
print(f"highest memory of each fifth of the time: {peaks} KiB; exit code {code}")
for key, count in sorted(counts.items()):
    print(*key, count)
if max(peaks[2:]) > max(peaks[:2]) * 1.1:
    problems.append("memory grew")
for problem in sorted(set(problems)):
    print("PROBLEM", problem)
sys.exit(1 if problems or code else 0)
