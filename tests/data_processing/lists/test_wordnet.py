"""WordNet where NLTK or Debian put it, and only in the version that ImageNet's ids are of."""

import os
from pathlib import Path
import shutil
import subprocess
import sys
import zipfile

import nltk
import pytest

from data_processing.lists import wordnet

ROOT = Path(__file__).parents[3]


def copied(reader, folder):
    """A folder of NLTK's data with the files of the WordNet that is here."""
    target = folder / "corpora" / "wordnet"
    target.mkdir(parents=True)
    for path in Path(str(reader.root)).iterdir():
        if path.is_file() and path.name != "lexnames":
            shutil.copy(path, target)
    return target


def test_ids_are_offsets_in_wordnet_3_0(reader):
    # ImageNet's ids, as published: dog, sea snake, sea.
    assert wordnet.names(reader, "n02084071") == "dog, domestic dog, Canis familiaris"
    assert wordnet.names(reader, "n01751748") == "sea snake"
    assert wordnet.wnid(reader.synsets("sea", "n")[0]) == "n09426788"


def test_ancestors_by_steps(reader):
    steps = wordnet.ancestors(reader, "n02084071")
    assert steps[0] == ["n01317541", "n02083346"]  # domestic animal; canine: sorted, as NLTK's order is random
    assert steps[-1] == ["n00001740"]  # entity
    assert wordnet.ancestors(reader, "n00001740") == []
    assert len({one for step in steps for one in step}) == sum(map(len, steps))


@pytest.mark.parametrize("wrong", ["n99999999", "n02084072", "02084071", "n2084071", "v00001740", "dog"])
def test_an_id_that_is_none(reader, wrong):
    with pytest.raises(wordnet.WordNetError, match=f"'{wrong}' is no noun of WordNet 3.0"):
        wordnet.synset(reader, wrong)


def test_the_order_is_the_same_in_every_process():
    code = "from data_processing.lists import wordnet as w; r = w.load(); print(w.ancestors(r, 'n02084071'))"
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "NLTK_DATA": ":".join(nltk.data.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1


def test_found_as_folder_and_as_archive(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(wordnet, "DEBIAN", str(tmp_path / "nowhere"))
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "data")])
    with pytest.raises(wordnet.WordNetError, match="nltk.download.*apt-get install wordnet-base"):
        wordnet.load()
    folder = copied(reader, tmp_path / "data")
    assert wordnet.names(wordnet.load(), "n09426788") == "sea"
    # NLTK's downloader may leave it packed.
    (folder / "lexnames").write_text("".join(f"{k:02d}\t{n}\t0\n" for k, n in enumerate(wordnet.LEXICOGRAPHER_FILES)))
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"wordnet/{path.name}")
    shutil.rmtree(folder)
    assert wordnet.names(wordnet.load(), "n09426788") == "sea"


def test_another_version_is_refused(reader, tmp_path, monkeypatch):
    folder = copied(reader, tmp_path)
    data = (folder / "data.adj").read_bytes()
    (folder / "data.adj").write_bytes(data.replace(b"WordNet 3.0 Copyright", b"WordNet 3.1 Copyright", 1))
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(wordnet.WordNetError, match="this is WordNet 3.1.*WordNet 3.0"):
        wordnet.load()


@pytest.mark.parametrize(
    "name, size", [("data.noun", 10**7), ("data.adj", 0), ("index.noun", 1000), ("index.noun", None)]
)
def test_damaged(reader, tmp_path, monkeypatch, name, size):
    folder = copied(reader, tmp_path)
    if size is None:
        (folder / name).unlink()
    else:
        os.truncate(folder / name, size)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(wordnet.WordNetError, match=f"{folder}: .*damaged.*nltk.download.*apt-get install"):
        wordnet.load()


def test_an_empty_folder_and_a_damaged_archive(tmp_path, monkeypatch):
    (tmp_path / "corpora" / "wordnet").mkdir(parents=True)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(wordnet.WordNetError, match=f"{tmp_path}/corpora/wordnet: .*damaged.*nltk.download"):
        wordnet.load()
    (tmp_path / "corpora" / "wordnet").rmdir()
    (tmp_path / "corpora" / "wordnet.zip").write_bytes(b"no archive")
    with pytest.raises(wordnet.WordNetError, match="damaged.*nltk.download"):
        wordnet.load()
