"""Labels with all that they imply: against a naive reference on random hierarchies."""

from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
import pytest

from data_processing.lists import closure, dictionary, image_list

ROOT = Path(__file__).parents[3]


def entries_of(parents):
    return [dictionary.Entry(k, f"n{k:08d}", parent, f"class {k}") for k, parent in enumerate(parents)]


@st.composite
def forests(draw):
    """Parents of classes in an order of their own: a parent may stand after its child."""
    size = draw(st.integers(1, 12))
    order = draw(st.permutations(range(size)))
    parents = [-1] * size
    for place in range(1, size):
        above = draw(st.integers(-1, place - 1))
        parents[order[place]] = -1 if above == -1 else order[above]
    return parents


@st.composite
def databases(draw):
    parents = draw(forests())
    label = st.integers(0, len(parents) - 1)
    ancestors = dictionary.ancestors(entries_of(parents))
    pairs = draw(st.lists(st.tuples(label, label), max_size=4))
    pairs = [(a, b) for a, b in pairs if a != b and a not in ancestors[b] and b not in ancestors[a]]
    confidence = st.sampled_from([-1.0, 0.1, 0.5, 0.75, 1.0])
    rows = draw(st.lists(st.lists(st.tuples(label, confidence), min_size=1, max_size=6), min_size=1, max_size=6))
    return parents, pairs, rows


def reference(labels, parents, pairs):
    """Repeats single steps, from one class to one that it implies, until nothing changes."""
    closed = {}
    for label, confidence in labels:
        closed[label] = max(confidence, closed.get(label, confidence))
    while True:
        before = dict(closed)
        steps = [(k, parent) for k, parent in enumerate(parents) if parent != -1] + list(pairs)
        for one, other in steps:
            if closed.get(one, -1) > 0:
                closed[other] = max(closed[one], closed.get(other, -1.0))
        if closed == before:
            return closed


@given(databases())
@settings(max_examples=300, deadline=None)
def test_closed_as_the_reference_and_once_for_all(database):
    parents, pairs, rows = database
    implied = closure.implied(entries_of(parents), pairs)
    for labels in rows:
        closed = closure.close(labels, implied)
        assert closed == reference(labels, parents, pairs)
        assert list(closed) == sorted(closed)
        assert closure.close(list(closed.items()), implied) == closed
        for label, confidence in closed.items():
            if confidence > 0 and parents[label] != -1:
                assert closed[parents[label]] >= confidence
        counted = dict(zip(closure.COUNTED, closure.compare(labels, closed), strict=True))
        assert counted["labels"] == len(dict(labels)) and counted["labels added"] == len(closed) - len(dict(labels))


def test_pairs_that_are_not_utf_8(tmp_path):
    (tmp_path / "pairs.tsv").write_bytes(b"wnid\tco-occurring wnid\nn00000000\tn\xff\n")
    with pytest.raises(image_list.ImageListError, match="pairs.tsv:2: not UTF-8"):
        closure.read_pairs(tmp_path / "pairs.tsv", entries_of([-1, 0]))


PIECES = ["n00000000", "n00000001", "n00000002", "wnid", "#", "\t", "\n", "\r", "\ufeff", "é"]
FUZZED = st.lists(st.sampled_from(PIECES))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.one_of(st.binary(), FUZZED.map("".join).map(str.encode)))
@example(b"wnid\tco\nn00000000\tn00000002")
@example(b"n00000000\tn00000001")
def test_any_pairs_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "pairs.tsv"
    path.write_bytes(content)
    try:
        pairs = closure.read_pairs(path, entries_of([-1, 0, -1]))
    except (image_list.ImageListError, dictionary.DictionaryError) as error:
        assert str(error).startswith(f"{path}:")
        return
    assert set(pairs) <= {(0, 2), (2, 0), (1, 2), (2, 1)}


def test_published_rows_that_are_there_can_be_closed(tmp_path):
    """Rows of the published list, where they are here: what they hold stays, at its confidence."""
    path = ROOT.parent / "shared" / "data" / "train_urls_head.txt"
    if not path.exists():
        path = tmp_path / "rows.txt"
        path.write_text("http://a/b.jpg\t4097:1\t2:1\nhttp://a/c.jpg\t4767:0.9\t4765:0.9\n")
    rows = list(image_list.read(path, 11166))
    parents = [-1] * 11166
    parents[4097], parents[4767] = 4089, 4765
    implied = closure.implied(entries_of(parents))
    for row in rows:
        labels = dict(zip(row.labels, row.confidences, strict=True))
        closed = closure.close(labels.items(), implied)
        assert all(closed[label] >= value for label, value in labels.items())
        assert 4097 not in labels or closed[4089] == 1
