"""Mixed good, bad, huge, cut and abandoned requests; memory must stay flat and vectors right.

Usage: soak.py WENYI MODEL_FOLDER [SECONDS]. Needs Python alone. Exits with 1 on a wrong vector, a 5xx
status, or memory that grows by more than a tenth after the first fifth of the time.
"""

import json
import pathlib
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

wenyi, folder = sys.argv[1:3]
seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 600
command = [wenyi, "serve", "--port", "0", "--model", f"m={folder}", "--offline",
           "--log-level", "error", "--cache", "4", "--max-body", "4"]
process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
address = process.stdout.readline().strip()
host, port = address.removeprefix("http://").split(":")
end = time.monotonic() + seconds
problems, counts, lock = [], {}, threading.Lock()


def post(body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}/v1/embeddings", data)
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except urllib.error.URLError:
        # The server may close before a refused body has been sent.
        return 0, b""


def vector(text):
    return json.loads(post({"model": "m", "input": text})[1])["data"][0]["embedding"]


texts = [f"text {number} 文意 " + "word " * (number % 60) for number in range(200)]
expected = [vector(text) for text in texts]


def good(chance):
    picked = chance.sample(range(len(texts)), chance.randint(1, 20))
    status, body = post({"model": "m", "input": [texts[index] for index in picked]})
    if status == 429:
        return status
    found = [entry["embedding"] for entry in json.loads(body)["data"]] if status == 200 else None
    if found != [expected[index] for index in picked]:
        problems.append(f"wrong vectors, status {status}")
    return status


def bad(chance):
    return post(chance.choice([b"{", b"\xff", b"[" * 50000, {"model": "x", "input": "a"},
                               {"model": "m", "input": [[[1]]]}, {"model": "m", "input": [10**9]}]))[0]


def huge(chance):
    if chance.random() < 0.5:
        return post({"model": "m", "input": "a" * (5 << 20)})[0]
    return post({"model": "m", "input": "word " * 8000})[0]


def cut(chance):
    body = json.dumps({"model": "m", "input": texts}).encode()
    sent = body[: chance.randint(0, len(body))]
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + sent)
    return 0


def memory():
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def client(seed):
    chance = random.Random(seed)
    while time.monotonic() < end:
        kind = chance.choices([good, bad, huge, cut], [10, 4, 1, 4])[0]
        status = kind(chance)
        with lock:
            key = (kind.__name__, status)
            counts[key] = counts.get(key, 0) + 1
        if status >= 500:
            problems.append(f"{kind.__name__}: status {status}")


threads = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
for thread in threads:
    thread.start()
time.sleep(seconds / 5)
warm = memory()
for thread in threads:
    thread.join()
last = memory()
process.terminate()
code = process.wait(timeout=60)
print(f"memory {warm} KiB after the first fifth, {last} KiB at the end; exit code {code}")
for key, count in sorted(counts.items()):
    print(*key, count)
if last > warm * 1.1:
    problems.append("memory grew")
for problem in sorted(set(problems)):
    print("PROBLEM", problem)
sys.exit(1 if problems or code else 0)
