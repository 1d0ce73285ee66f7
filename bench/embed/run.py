#!/usr/bin/env python3
"""Compare wenyi with other embedding engines on this machine: one command, one table.

Sets up a virtual environment with the peers (once, several GB), builds wenyi, and hands over to
`compare.py`, whose options are taken here as they are: `python3 bench/embed/run.py --help`.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "wenyi"
VENV = CACHE / "bench-venv"


def environment() -> Path:
    """The Python of a virtual environment that has what `requirements.txt` asks for."""
    python = VENV / "bin" / "python"
    wanted = (HERE / "requirements.txt").read_text()
    stamp = VENV / "requirements.installed.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    if not python.exists():
        venv.create(VENV, with_pip=True)
    print(f"installing the peers into {VENV}", file=sys.stderr)
    requirements = str(HERE / "requirements.txt")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
    stamp.write_text(wanted)
    return python


def build() -> None:
    """Builds the `wenyi` program, where cargo puts it."""
    command = ["cargo", "build", "--release", "-p", "wenyi-cli"]
    subprocess.run(command, cwd=HERE.parents[1], check=True)


def main() -> None:
    python = environment()
    if not {"--help", "-h", "--no-wenyi"} & set(sys.argv):
        build()
    os.execv(python, [str(python), str(HERE / "compare.py"), *sys.argv[1:]])


if __name__ == "__main__":
    main()
