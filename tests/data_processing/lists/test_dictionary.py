"""Class dictionaries of both kinds, from a small hierarchy of our own."""

from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
import pytest

from data_processing.lists.dictionary import (
    HEADER,
    DictionaryError,
    Entry,
    ancestors,
    is_multi_label,
    load,
    read,
    read_names,
    write,
)

PUBLISHED_HEAD = Path(__file__).parents[4] / "shared/data/dictionary_head.txt"
# "dog" stands before its parent "mammal", as one class of the published dictionary does.
ANIMALS = [
    Entry(0, "n90000000", -1, "thing, object"),
    Entry(1, "n90000001", 0, "animal"),
    Entry(2, "n90000002", 4, "dog, domestic dog"),
    Entry(3, "n90000003", 2, "poodle, poodle dog"),
    Entry(4, "n90000004", 1, "mammal"),
    Entry(5, "n90000005", -1, "food"),
]


@pytest.fixture
def animals(tmp_path):
    write(tmp_path / "dictionary.txt", ANIMALS)
    return tmp_path / "dictionary.txt"


def lines(tmp_path, *rows):
    path = tmp_path / "dictionary.txt"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_what_is_written_is_read(animals):
    assert animals.read_text().split("\n")[3] == "2\tn90000002\t4\tdog, domestic dog"
    assert read(animals) == ANIMALS
    assert not Path(f"{animals}.part").exists()
    assert is_multi_label(animals)
    assert read_names(animals)[2] == "dog, domestic dog"


def test_ancestors_nearest_first_whatever_the_order(animals):
    assert ancestors(read(animals)) == [(), (0,), (4, 1, 0), (2, 4, 1, 0), (1, 0), ()]
    assert ancestors([]) == []


def test_single_label_dictionary(tmp_path):
    path = lines(tmp_path, "0\ttench\tTinca tinca", "1\tgoldfish", "2\thammerhead\thammerhead shark\t")
    assert not is_multi_label(path)
    assert read_names(path) == ["tench, Tinca tinca", "goldfish", "hammerhead, hammerhead shark"]
    with pytest.raises(DictionaryError, match="dictionary.txt:1: no header line; this is a single-label dictionary"):
        read(path)


def test_names_alone_are_no_dictionary(tmp_path):
    path = lines(tmp_path, "tench", "gold fish")
    for function in (read, read_names, load):
        with pytest.raises(DictionaryError, match="dictionary.txt:1: names without indices; number the lines from 0"):
            function(path)
    with pytest.raises(DictionaryError, match="dictionary.txt: no classes behind the header line"):
        load(lines(tmp_path, HEADER))


@pytest.mark.parametrize("encoding, end", [("utf-8", "\r\n"), ("utf-8-sig", "\n"), ("utf-8-sig", "\r\n")])
def test_byte_order_mark_and_windows_line_ends(tmp_path, encoding, end):
    path = tmp_path / "dictionary.txt"
    path.write_text(end.join(["0\ttench", "1\tgoldfish", ""]), encoding=encoding, newline="")
    assert read_names(path) == ["tench", "goldfish"]
    path.write_text(end.join([HEADER, "0\tn1\t-1\ta, b", ""]), encoding=encoding, newline="")
    assert read(path) == [Entry(0, "n1", -1, "a, b")]


@pytest.mark.parametrize(
    "rows, message",
    [
        (["0\tn1\t-1\ta", "2\tn2\t0\tb"], "dictionary.txt:3: index 2, but 1 comes next; indices have no gaps"),
        (["1\tn1\t-1\ta"], "dictionary.txt:2: index 1, but 0 comes next"),
        (["0\tn1\t-1\ta", "0\tn2\t-1\tb"], "dictionary.txt:3: index 0, but 1 comes next"),
        (["0\tn1\t-1"], "dictionary.txt:2: 3 fields instead of the 4 of 'category_index\t"),
        (["0 n1 -1 a"], "dictionary.txt:2: 1 fields instead of the 4"),
        (["0\tn1\t1\ta"], "dictionary.txt:2: parent 1 is no class of 0 to 0; write -1 for a root"),
        (["0\tn1\t-2\ta"], "dictionary.txt:2: parent -2 is no class"),
        (["0\tn1\tnone\ta"], "dictionary.txt:2: 'none' is no index"),
        (["x\tn1\t-1\ta"], "dictionary.txt:2: 'x' is no index"),
        (["0\tn1\t0\ta"], r"dictionary.txt: class 0 \(a\) is its own ancestor"),
        (["0\tn1\t2\ta", "1\tn2\t0\tb", "2\tn3\t1\tc"], "dictionary.txt: class 0 .* is its own ancestor"),
    ],
)
def test_errors_name_file_and_line(tmp_path, rows, message):
    with pytest.raises(DictionaryError, match=message):
        read(lines(tmp_path, HEADER, *rows))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "dictionary.txt: empty"),
        (b"0\ta\n2\tb\n", "dictionary.txt:2: index 2, but 1 comes next"),
        (b"0\ta\nb\n", "dictionary.txt:2: 'b' is no index"),
        (b"0\tcaf\xe9\n", "dictionary.txt: not UTF-8"),
    ],
)
def test_errors_of_names(tmp_path, content, message):
    path = tmp_path / "dictionary.txt"
    path.write_bytes(content)
    with pytest.raises(DictionaryError, match=message):
        read_names(path)


def test_published_lines_read(tmp_path):
    if not PUBLISHED_HEAD.exists():
        pytest.skip("the published lines are not at hand")
    # The head may name parents that stand below its last line, and then it is no dictionary by itself.
    text = PUBLISHED_HEAD.read_text().splitlines()
    entries = [line.split("\t") for line in text[1:]]
    whole = [line for line in entries if int(line[2]) < len(entries)]
    assert len(whole) == len(entries)
    for entry, (index, wnid, parent, names) in zip(read(PUBLISHED_HEAD), entries, strict=True):
        assert entry == (int(index), wnid, int(parent), names)
    assert ancestors(read(PUBLISHED_HEAD))[9] == (8, 4, 0)
    assert read_names(PUBLISHED_HEAD)[2] == "object, physical object"


NAMES = st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(NAMES, st.integers(-1, 9)), max_size=10), st.randoms(use_true_random=False))
def test_any_forest_comes_back(tmp_path_factory, classes, random):
    path = tmp_path_factory.getbasetemp() / "forest.txt"
    # Parents come first in a random numbering, so there is no cycle but any order.
    number = random.sample(range(len(classes)), len(classes))
    entries = [Entry(number[k], f"n{k}", -1 if p >= k else number[p], name) for k, (name, p) in enumerate(classes)]
    entries = [entry._replace(parent=-1) if classes[k][1] == -1 else entry for k, entry in enumerate(entries)]
    write(path, sorted(entries))
    assert read(path) == sorted(entries)
    for entry, above in zip(read(path), ancestors(read(path)), strict=True):
        assert above[:1] == (() if entry.parent == -1 else (entry.parent,))
        assert len(set(above)) == len(above)


FIELDS = st.one_of(st.integers(-2, 4).map(str), st.text(max_size=3))
ROWS = st.lists(st.lists(FIELDS, max_size=5).map("\t".join), max_size=6).map(lambda rows: "\n".join(rows).encode())
FUZZED = st.one_of(st.binary(), ROWS.map(lambda rows: HEADER.encode() + b"\n" + rows), ROWS)


def check_any_bytes(path, content):
    path.write_bytes(content)
    for function in (read, load, is_multi_label):
        try:
            function(path)
        except DictionaryError as error:
            assert str(error).startswith(str(path))
            continue
        if function is load:
            classes = load(path)
            assert len(classes.names) == len(classes.ids) > 0
            assert classes.ancestors is None or [len(set(above)) for above in classes.ancestors] == [
                len(above) for above in classes.ancestors
            ]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(FUZZED)
@example(b"\xc2\xb2\ta")  # a digit to Python, and no number
@example(b"0\t" + b"9" * 5000)
@example(HEADER.encode() + b"\n0\tn\t" + b"9" * 5000 + b"\ta")
@example(b"0\ta\r1\tb")
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    check_any_bytes(tmp_path_factory.getbasetemp() / "fuzz.txt", content)


@pytest.mark.slow
@settings(max_examples=2_000, deadline=None)
@given(FUZZED)
def test_many_more_bytes_are_read_or_refused(tmp_path_factory, content):
    check_any_bytes(tmp_path_factory.getbasetemp() / "fuzz.txt", content)
