"""Makes the text that the program carries, for a first run without any file of the user's.

It is our own: the documents of this repository, and of its sources first the comments of every file, then whole files, until
there is a megabyte. Files come in the order of a checksum of their names, so that what is held out is like the rest. The result
is checked in and renewed only on purpose, since the losses that documents name depend on it:

    python tools/carried_text.py
"""

import hashlib
import re
import subprocess
import zlib
from pathlib import Path

SIZE = 1_000_000
TARGET = "crates/train/assets/carried.zz"


def comments(source: str) -> str:
    """The comments of a file, a paragraph for each run of lines."""
    paragraphs, run = [], []
    for line in source.splitlines():
        found = re.match(r"\s*//[/!]?(?: (.*))?$", line)
        if found:
            run.append((found[1] or "").rstrip())
        elif run:
            paragraphs.append("\n".join(run).strip())
            run = []
    if run:
        paragraphs.append("\n".join(run).strip())
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    names = subprocess.run(["git", "ls-files"], cwd=root, check=True, capture_output=True, text=True).stdout.split()
    names.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
    read = {name: (root / name).read_text(encoding="utf-8") for name in names if name.endswith((".md", ".rs"))}
    pieces = [(name, text if name.endswith(".md") else comments(text)) for name, text in read.items()]
    size = sum(len(text.encode()) for _, text in pieces)
    for name, text in read.items():
        # Models and layers, and what shows their use, read best.
        if name.startswith(("crates/nn/src", "crates/models/src", "crates/tensor/src/ops")) and size < SIZE:
            pieces.append((name + " ", text))
            size += len(text.encode())
    pieces.sort(key=lambda piece: hashlib.sha256(piece[0].encode()).digest())
    text = "\n\n".join(text.strip() for _, text in pieces if text.strip()) + "\n"
    packed = zlib.compress(text.encode(), 9)
    (root / TARGET).write_bytes(packed)
    print(f"{TARGET}: {len(text.encode())} bytes of text in {len(packed)}")


if __name__ == "__main__":
    main()
