"""A `wenyi serve` process with tiny models; the clients find it through the environment alone."""

import os
import pathlib
import subprocess

import provider as imitation
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "crates/engine/tests/fixtures"
KEY = "sk-a-key-of-the-tests"
# The names that clients ask for when their user names none.
ALIASES = [
    "text-embedding-ada-002",
    "text-embedding-3-large",
    "gpt-4o",
    "text-embedding-v1",
    "text-embedding-v4",
]


CONFIG = """
[providers.imitation]
base_url = "http://127.0.0.1:{port}/v1"
api_key_env = "IMITATION_KEY"
"""


@pytest.fixture(scope="session")
def provider():
    provider = imitation.start()
    yield provider
    provider.shutdown()


@pytest.fixture(scope="session")
def server(provider, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    (folder / "wenyi.toml").write_text(CONFIG.format(port=provider.server_port))
    command = [os.environ["WENYI"], "serve", "--port", "0", "--log-level", "error"]
    for name in ["bert", "cross_encoder", "splade"]:
        command += ["--model", f"{name}={FIXTURES / name}"]
    for alias in ALIASES:
        command += ["--alias", f"{alias}=bert"]
    command += ["--chat-model", f"chat={FIXTURES / 'decoders/llama'}"]
    command += ["--chat-model", "smollm2-135m-instruct"]
    command += ["--chat-model", "far-away=imitation:a-model"]
    command += ["--store", str(folder / "kept")]
    environment = {**os.environ, "WENYI_API_KEYS": KEY, "IMITATION_KEY": "sk-of-the-provider"}
    process = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://"), address
        yield address
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0


@pytest.fixture(scope="session", autouse=True)
def environment(server):
    os.environ.update(
        OPENAI_API_KEY=KEY,
        OPENAI_BASE_URL=f"{server}/v1",
        OPENAI_API_BASE=f"{server}/v1",
        DASHSCOPE_API_KEY=KEY,
        DASHSCOPE_HTTP_BASE_URL=f"{server}/api/v1",
        CO_API_KEY=KEY,
        CO_API_URL=server,
        NO_PROXY="127.0.0.1",
    )
