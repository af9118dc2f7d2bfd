"""Classes that are names, put into WordNet: its nouns get a synset, and their ancestors become classes."""

from data_processing.lists import dictionary, vocabulary, wordnet
from data_processing.sources.labeled_images import WNID

REVIEW_COLUMNS = "id\twnid\tlabel\timages\tnames\tgloss"


def add(reader, entries, counts, chosen):
    """Gives classes their synsets, and adds what these are kinds of.

    A name keeps its index and stays as it is; ancestors come after, under WordNet's names. A name of several senses,
    one that WordNet does not have, and one whose synset another name has already, stay without parent.

    Args:
      reader: of `wordnet.load`.
      entries: of a dictionary, none with a parent.
      counts: {name: images}.
      chosen: {name: WordNet id, or "-" for none} of names with several senses.

    Returns the entries of the larger dictionary; {what was found: [names]}; and the rows of REVIEW_COLUMNS, one for
    each sense of a name that has several.
    """
    synsets = {one.names: one.names for one in entries if _is_synset(reader, one.names)}
    names = [one.names for one in entries if one.names not in synsets]
    words = [vocabulary.Class(name, name, counts[name]) for name in names]
    mapped, unmapped, review = vocabulary.map_labels(reader, words, chosen)
    synsets |= {one.id: one.wnid for one in mapped}
    found, taken = {}, {}
    for name, decision in unmapped.items():
        what = "of several senses in WordNet" if decision.outcome == "unsure" else "no nouns of WordNet"
        found.setdefault(f"names that are {what}, and stay without parents", []).append(repr(name))
    for entry in entries:
        if (wnid := synsets.get(entry.names)) is None:
            continue
        if taken.setdefault(wnid, entry.index) != entry.index:
            found.setdefault("names whose synset another name has, which stay without parents", []).append(
                f"{entry.names!r} (as {entries[taken[wnid]].names!r})"
            )
    parents = _parents(reader, taken)
    # A class that is there keeps its index; the others come after, in the order of their ids.
    index = taken | {wnid: len(entries) + k for k, wnid in enumerate(sorted(parents.keys() - taken.keys()))}
    above = {wnid: -1 if parent is None else index[parent] for wnid, parent in parents.items()}
    own = {number: wnid for wnid, number in taken.items()}
    larger = [one._replace(wnid=own[k], parent=above[own[k]]) if k in own else one for k, one in enumerate(entries)]
    for wnid in sorted(parents.keys() - taken.keys()):
        larger.append(dictionary.Entry(len(larger), wnid, above[wnid], wordnet.names(reader, wnid)))
    return larger, found, review


def _is_synset(reader, name):
    """Whether a class is named by a WordNet id."""
    if not WNID.fullmatch(name):
        return False
    try:
        wordnet.synset(reader, name)
    except wordnet.WordNetError:
        return False
    return True


def _parents(reader, wnids):
    """{synset: its parent or None} of synsets and of what they are kinds of, but for what is too general."""
    ancestors = {one for wnid in wnids for step in wordnet.ancestors(reader, wnid) for one in step}
    ancestors -= vocabulary.GENERAL.keys() | vocabulary.ABSTRACT.keys()
    parents = vocabulary.hierarchy(reader, sorted(ancestors | set(wnids)))
    # A synset may be a kind of several; only those on the way that was taken are kept.
    kept, ahead = {}, list(wnids)
    for one in ahead:
        if one is not None and one not in kept:
            kept[one] = parents[one]
            ahead.append(parents[one])
    return kept
