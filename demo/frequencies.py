"""How often the scenes of the large world show each class, and what follows from that."""

from collections import Counter
import csv

from demo import scenes, world

GROUPS = ("frequent", "middle", "rare")
# Things that are shown alone: so many of each of GROUPS.
OF_GROUP = 33
# Scenes that a class is present in or not, in what `describe` says.
BATCH = 64


def count(train) -> Counter:
    """Returns {class index: how many of the scenes `train` show it, mostly hidden or not}; `train`: list of `Made`."""
    return Counter(label for one in train for label in scenes.labels(one.objects, one.ground, "large"))


def groups(train) -> dict[str, list[int]]:
    """Returns the things of each of GROUPS, as indices, commonest first.

    They are the thirds of the things that `train` shows and that are no ancestors of other classes.
    """
    things, classes, _ = world.read("large")
    counts, parents = count(train), {entry.parent for entry in classes}
    shown = [k for k, thing in enumerate(things) if counts[thing.label] and thing.label not in parents]
    shown.sort(key=lambda k: -counts[things[k].label])
    ends = [k * len(shown) // len(GROUPS) for k in range(len(GROUPS) + 1)]
    return {group: shown[ends[k] : ends[k + 1]] for k, group in enumerate(GROUPS)}


def spread(train) -> list[int]:
    """Returns the things to be shown alone, as indices: up to OF_GROUP of each group, evenly from common to rare."""
    chosen = []
    for group in groups(train).values():
        number = min(OF_GROUP, len(group))
        chosen += [group[k * len(group) // number] for k in range(number)]
    return chosen


def write(path, train):
    """Writes a table of all classes: index, name, images of `train` with it, and the group of a thing or "-"."""
    things, classes, _ = world.read("large")
    counts = count(train)
    group_of = {things[k].label: group for group, members in groups(train).items() for k in members}
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["class", "name", "images", "group"])
        for entry in classes:
            name = entry.names.split(", ")[0]
            table.writerow([entry.index, name, counts[entry.index], group_of.get(entry.index, "-")])


def share_present(label_sets, class_num) -> float:
    """Returns the share of the classes present in BATCH scenes, on average over whole batches of `label_sets`.

    If these are fewer than BATCH, they are taken as one batch.
    """
    starts = range(0, max(1, len(label_sets) // BATCH * BATCH), BATCH)
    present = [len(set().union(*label_sets[start : start + BATCH])) for start in starts]
    return sum(present) / len(present) / class_num


def describe(train) -> str:
    """Returns what the world is like, in a sentence."""
    things, classes, _ = world.read("large")
    sets = [set(scenes.labels(one.objects, one.ground, "large")) for one in train]
    novel = sum(thing.label is None for thing in things)
    share = share_present(sets, len(classes))
    return (
        f"{len(classes)} classes, {len(set().union(*sets))} of them in train; {len(things) - novel} things in scenes "
        f"and {novel} novel ones; {sum(map(len, sets)) / len(sets):.1f} labels a scene; "
        f"{share:.1%} of the classes in {BATCH} scenes"
    )
