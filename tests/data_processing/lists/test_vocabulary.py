"""The steps from classes of several sources to one vocabulary, one by one."""

from collections import Counter
from pathlib import Path

from data_processing.lists import vocabulary, wordnet
from data_processing.lists.vocabulary import Class

PUBLISHED = Path(__file__).parents[4] / "shared" / "data" / "wnids_11166.txt"


def closest(reader, one, classes):
    """Which classes are nearest above a synset, by a plain walk over NLTK's own paths to the top."""
    distances = {}
    for path in wordnet.synset(reader, one).hypernym_paths():
        for steps, above in enumerate(reversed(path[:-1]), start=1):
            if (name := wordnet.wnid(above)) in classes:
                distances[name] = min(steps, distances.get(name, steps))
    return {name for name, steps in distances.items() if steps == min(distances.values())}


def test_rare_and_synonyms(reader):
    kept, decisions = vocabulary.drop_rare([Class("a", "a", 9), Class("b", "b", 10), Class("c", "c", None)], 10)
    assert [one.id for one in kept] == ["b", "c"] and decisions["a"].outcome == "rare"
    pair = [Class("n02084071", "dog", None, "n02084071"), Class("/m/2", "Canis", None, "n02084071")]
    kept, decisions, _ = vocabulary.merge_synonyms(reader, pair)
    assert [one.id for one in kept] == ["n02084071"] and decisions["/m/2"].wnid == "n02084071"
    # car, automobile; railcar: both vehicles with wheels, both "car".
    pair = [Class("n02958343", "car", None, "n02958343"), Class("/m/3", "railcar", None, "n02959942")]
    kept, decisions, namesakes = vocabulary.merge_synonyms(reader, pair)
    near = set(wordnet.hypernyms(reader, "n02958343")) & set(wordnet.hypernyms(reader, "n02959942"))
    assert (len(kept) == 1) == bool(near) and bool(namesakes) == (not near)


def test_a_child_of_its_nearest_ancestor(reader):
    """Against NLTK's own paths, over the published ids if they are here."""
    names = "n02084071 n02083346 n02075296 n01886756 n00015388 n00002684 n09229709 n06791372 n11425580 n02121620"
    wnids = PUBLISHED.read_text().split() if PUBLISHED.exists() else names.split()
    parents = vocabulary.hierarchy(reader, wnids)
    classes = set(wnids)
    for one in wnids[:: max(1, len(wnids) // 500)]:
        expected = closest(reader, one, classes)
        assert parents[one] in expected if expected else parents[one] in (None, "n00002684")
    assert parents["n09229709"] == "n00002684"  # a bubble is a shape in WordNet, and an object in images
    roots = Counter(root is None for root in parents.values())[True]
    assert roots == (4 if PUBLISHED.exists() else 2)
    entries = vocabulary.number(reader, parents)
    assert sorted(entry.wnid for entry in entries) == sorted(wnids)
    assert all(entry.parent < entry.index for entry in entries)
    assert {e.wnid: entries[e.parent].wnid if e.parent != -1 else None for e in entries} == parents
