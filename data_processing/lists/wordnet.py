"""WordNet 3.0, read by NLTK. Its nouns are what ImageNet's ids name: "n" and the synset's offset in that version.

Any other version has other offsets, so that ids would silently mean other things; it is refused.
"""

import io
from pathlib import Path
import re
import warnings
import zipfile

import nltk
from nltk.corpus.reader.wordnet import WordNetCorpusReader

VERSION = "3.0"
# The last synset of data.noun.
LAST = "n15300051"
# Where Debian's package wordnet-base puts its files.
DEBIAN = "/usr/share/wordnet"
# Names of the files that lexicographers wrote WordNet in, by number (lexnames(5WN)). NLTK wants them, and Debian's
# package leaves them out.
LEXICOGRAPHER_FILES = (
    "adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition "
    "noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object noun.person "
    "noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation noun.shape noun.state "
    "noun.substance noun.time verb.body verb.change verb.cognition verb.communication verb.competition "
    "verb.consumption verb.contact verb.creation verb.emotion verb.motion verb.perception verb.possession verb.social "
    "verb.stative verb.weather adj.ppl"
).split()


class WordNetError(ValueError):
    """WordNet is not there, is not 3.0, or has no such synset; the message says what to do."""


class _Reader(WordNetCorpusReader):
    def open(self, file):
        try:
            return super().open(file)
        except OSError:
            if file != "lexnames":
                raise
        return io.StringIO("".join(f"{k:02d}\t{name}\t0\n" for k, name in enumerate(LEXICOGRAPHER_FILES)))

    def map_wn(self, version="wordnet"):
        # For other languages' WordNets, which nobody asks for here; it would want a second copy of the data.
        return None


def load() -> WordNetCorpusReader:
    """Returns WordNet 3.0: NLTK's data where `nltk.data.path` has it, else that of Debian's wordnet-base.

    Raises WordNetError if there is neither, or the one found is damaged or of another version.
    """
    root = _find()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The multilingual functions")
            reader = _Reader(root, None)
        version = reader.get_version()
        if version is None:
            raise WordNetError("data.adj does not say its version")
        if version == VERSION:
            synset(reader, LAST)
    # NLTK does not expect damage, and raises whatever it stumbles over.
    except Exception as error:
        raise WordNetError(f"{root}: {_damaged(error)}") from error
    if version != VERSION:
        raise WordNetError(
            f"{root}: this is WordNet {version}, and ImageNet's ids are offsets in WordNet {VERSION}: install that one "
            f"({_how()}) and put it before the other in NLTK_DATA"
        )
    return reader


def _find():
    for name in ("corpora/wordnet", "corpora/wordnet.zip/wordnet/"):
        try:
            return nltk.data.find(name)
        except LookupError:
            pass
        except zipfile.BadZipFile as error:
            raise WordNetError(f"corpora/wordnet.zip in {nltk.data.path}: {_damaged(error)}") from error
    if not Path(DEBIAN, "data.noun").is_file():
        raise WordNetError(f"WordNet {VERSION} is not here: {_how()}")
    if DEBIAN not in nltk.data.path:
        # NLTK opens nothing outside of its own folders.
        nltk.data.path.append(DEBIAN)
    return DEBIAN


def _damaged(error):
    return f"WordNet is damaged or not whole ({error}); delete it and install it anew: {_how()}"


def _how():
    return "python -c \"import nltk; nltk.download('wordnet')\", or on Debian and Ubuntu: apt-get install wordnet-base"


def wnid(synset) -> str:
    """Returns the id of a noun's synset, "n02084071" say."""
    return f"n{synset.offset():08d}"


def synset(reader, identifier):
    """Returns the synset of a WordNet id. Raises WordNetError if WordNet has none at that offset."""
    if re.fullmatch(r"n\d{8}", identifier):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No WordNet synset")
            known = reader.synset_from_pos_and_offset("n", int(identifier[1:]))
        if known is not None:
            return known
    raise WordNetError(f"'{identifier}' is no noun of WordNet {VERSION}; an id is n and 8 digits, n02084071 for dog")


def hypernyms(reader, identifier) -> list[str]:
    """Returns the ids of what a synset is a kind of, or an instance of, sorted: NLTK gives them in a random order."""
    one = synset(reader, identifier)
    return sorted({wnid(above) for above in one.hypernyms() + one.instance_hypernyms()})


def ancestors(reader, identifier) -> list[list[str]]:
    """Returns the ids of all that a synset descends from: those one step up, those two steps up and no fewer, …."""
    seen, steps = {identifier}, [[identifier]]
    while steps[-1]:
        above = {parent for one in steps[-1] for parent in hypernyms(reader, one)}
        steps.append(sorted(above - seen))
        seen |= above
    return steps[1:-1]


def names(reader, identifier) -> str:
    """Returns a synset's names as dictionaries have them: "object, physical object"."""
    return ", ".join(name.replace("_", " ") for name in synset(reader, identifier).lemma_names())
