"""Names of classes put into WordNet 3.0."""

from collections import Counter

import pytest

from data_processing.lists import dictionary, wordnet
from data_processing.sources import csv_labels, multi_label, wordnet_hierarchy

NAMES = ["golden retriever", "crane", "Labrador retriever", "n02084071", "gizmotron 3000", "tabby cat", "Giraffe"]


def add(reader, names, chosen=None):
    entries = [dictionary.Entry(k, name, -1, name) for k, name in enumerate(names)]
    return wordnet_hierarchy.add(reader, entries, Counter(dict.fromkeys(names, 2)), chosen or {})


@pytest.fixture(scope="module")
def reader():
    return wordnet.load()


@pytest.fixture(scope="module")
def added(reader):
    return add(reader, NAMES)


def above(entries, name):
    """The names of a class and of its ancestors."""
    [index] = [entry.index for entry in entries if entry.names == name]
    return [entries[k].names for k in (index, *dictionary.ancestors(entries)[index])]


def test_nouns_get_their_ancestors_and_keep_name_and_index(added):
    entries, _, _ = added
    assert [entry.names for entry in entries[: len(NAMES)]] == NAMES
    assert [entry.index for entry in entries] == list(range(len(entries)))
    assert len({entry.wnid for entry in entries}) == len(entries)
    assert entries[0].wnid == "n02099601" and entries[3].wnid == "n02084071"
    # The dog, named by its id, is an ancestor and a class of the user's.
    assert above(entries, "golden retriever")[:4] == [
        "golden retriever",
        "retriever",
        "sporting dog, gun dog",
        "hunting dog",
    ]
    assert "n02084071" in above(entries, "golden retriever") and "n02084071" in above(entries, "Labrador retriever")
    assert above(entries, "Giraffe")[-1] == above(entries, "n02084071")[-1]
    assert not {"entity", "physical entity"} & {entry.names for entry in entries}


def test_what_is_ambiguous_or_unknown_stays_flat_and_is_listed(added):
    entries, found, review = added
    flat = [(entry.wnid, entry.names) for entry in entries[: len(NAMES)] if entry.parent == -1]
    assert flat == [("crane", "crane"), ("gizmotron 3000", "gizmotron 3000")]
    assert found["names that are of several senses in WordNet, and stay without parents"] == ["'crane'"]
    assert found["names that are no nouns of WordNet, and stay without parents"] == ["'gizmotron 3000'"]
    assert {row[0] for row in review} == {"crane"} and len(review) >= 4


def test_a_person_chooses(reader):
    entries, _, _ = add(reader, NAMES, {"crane": "n02012849", "tabby cat": "-"})
    assert entries[1].wnid == "n02012849" and "bird" in above(entries, "crane")
    assert entries[5] == (5, "tabby cat", -1, "tabby cat")


def test_two_names_of_one_synset(reader):
    entries, found, _ = add(reader, ["golden retriever", "dog sled", "dogsled"])
    assert [entry.wnid for entry in entries[1:3]] == ["n03218198", "dogsled"]
    [places] = [places for what, places in found.items() if what.startswith("names whose synset another")]
    assert places == ["'dogsled' (as 'dog sled')"]


def test_labels_of_a_csv_are_closed(reader, tmp_path):
    (tmp_path / "labels.csv").write_text("path,label\na.jpg,golden retriever:0.5|crane\nb.jpg,giraffe\n")
    table = csv_labels.read(tmp_path / "labels.csv", csv_labels.CsvConfig())
    entries, _, _ = wordnet_hierarchy.add(
        reader, multi_label.entries_of(table, "appearance"), multi_label.image_counts(table), {}
    )
    source = multi_label.to_source(table, entries, tmp_path / "labels.csv", multi_label.Images(val_fraction=0.0))
    row = source.train[0]
    labels = {entries[k].names: value for k, value in zip(row.labels, row.confidences, strict=True)}
    assert labels.pop("crane") == 1.0 and set(labels) == set(above(entries, "golden retriever"))
    assert set(labels.values()) == {0.5}
