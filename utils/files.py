"""Files that appear complete or not at all: written under a temporary name, on the disk before they get their own."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
import secrets

# That one path may be made of, as in Linux.
MOST_LINKS = 40


@contextlib.contextmanager
def atomic_write(path):
    """Gives a temporary path beside `path`; what is there at the end gets the name `path`. After an error it goes.

    Its folder is made. Where `path` is a link, what it leads to is written. Raises ValueError as `writable` does.
    """
    path = writable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temp_path = path.with_name(f".{path.name}.part")
    try:
        yield temp_path
        os.replace(temp_path, path)
    finally:
        temp_path.unlink(missing_ok=True)


def writable(path) -> Path:
    """Returns `path` or, if it is a link, the path that it leads to, to be replaced by a new file.

    Raises ValueError if there is a folder, or what no new file can take the place of: a device, a pipe, a socket.
    """
    target = Path(path)
    for _ in range(MOST_LINKS):
        folder = os.path.realpath(target.parent)
        # /dev/stdout and the like may lead to a file, which the shell has opened already.
        if folder in ("/dev", "/dev/fd", "/proc") or folder.startswith("/proc/"):
            raise ValueError(f"{path} is no regular file; name a file to write")
        if not target.is_symlink():
            break
        target = Path(folder, os.readlink(target))
    else:
        raise ValueError(f"{path} is a link that leads in a circle; name a file to write")
    if target.is_dir():
        raise ValueError(f"{path} is a folder; name a file to write")
    if target.exists() and not target.is_file():
        raise ValueError(f"{path} is no regular file, but a device, pipe or socket; name a file to write")
    return target


def read_json(path, advice="delete it, or take it from a backup"):
    """Returns the content of a file of JSON. Raises ValueError, with the file and `advice`, if it is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); {advice}") from error


def write_json(path, content):
    """Writes `content` as JSON."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def create_json(path, content) -> bool:
    """Writes `content` as JSON unless `path` is there; returns whether it was not. Of several processes one does."""
    temp_path = temporary_name(path)
    write_json(temp_path, content)
    try:
        os.link(temp_path, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(temp_path.read_text(encoding="utf-8"))
                sync(file)
        except FileExistsError:
            return False
    finally:
        temp_path.unlink(missing_ok=True)
    return True


def write_text(path, text):
    """Writes `text` in UTF-8 as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path, content):
    """Writes `content`, through a link. Several processes may write the same file, if they write the same."""
    path = writable(path)
    temp_path = temporary_name(path)
    try:
        with open(temp_path, "wb") as file:
            file.write(content)
            sync(file)
        os.replace(temp_path, path)
    finally:
        temp_path.unlink(missing_ok=True)


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
