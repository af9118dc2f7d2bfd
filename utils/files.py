"""Files that appear complete or not at all: written under a temporary name, on the disk before they get their own."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
import secrets


@contextlib.contextmanager
def atomic_write(path):
    """Gives a temporary path beside `path`; what is there at the end gets the name `path`. After an error it goes.

    Its folder is made. Raises ValueError if `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    temp_path = path.with_name(f".{path.name}.part")
    try:
        yield temp_path
        os.replace(temp_path, path)
    finally:
        temp_path.unlink(missing_ok=True)


def write_json(path, content):
    """Writes `content` as JSON."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path, text):
    """Writes `text` in UTF-8. Several processes may write the same file, if they write the same."""
    temp_path = temporary_name(path)
    with open(temp_path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        sync(file)
    os.replace(temp_path, path)


def write_tsv(path, header, rows):
    """Writes a header, fields between tabs, and rows of fields; white space inside of a field becomes one blank."""
    lines = ("\t".join(" ".join(str(field).split()) for field in row) for row in rows)
    write_text(path, "".join(f"{line}\n" for line in [header, *lines]))


def sha256(path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def sync(file):
    """Puts an open file's content on the disk: after a power cut a name must not stand there without it."""
    file.flush()
    os.fsync(file.fileno())


def temporary_name(path):
    """Returns a path beside `path` that no other process takes, not even on another machine."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(8)}.part")
