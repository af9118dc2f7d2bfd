"""Folders of images, one a class: FOLDER/CLASS/…, or already split: FOLDER/train/CLASS/… and FOLDER/val/CLASS/….

Any other nesting is refused with a look at what is there, since a guess would make wrong classes in silence.
"""

from collections import Counter
from pathlib import Path

from data_processing.images import image_files
from data_processing.sources.labeled_images import Source, SourceError, check_links, single_label_rows

# What the folder of a split is called, in lower case.
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
# Folders with images that are shown of what was found.
SHOWN = 8


def read(folder) -> Source:
    """Returns the images of class folders, and those of val/ (else of test/) where the folder is split already.

    Raises SourceError for any other nesting, a class without images, and a class that is in val/ alone.
    """
    tops = _folders(folder)
    check_links(folder, [folder / name for name in tops])
    if not tops:
        raise _refusal(folder, "no folders in it; make one for each class, with its images")
    if loose := _images_in(folder):
        raise _refusal(folder, f"{loose[0]} lies beside the folders")
    parts = _parts(folder, tops)
    train = _classes(folder, parts["train"] if parts else "")
    if empty := [name for name, paths in train.items() if not paths]:
        raise SourceError(
            f"{folder / empty[0]}: no images in this class folder; fill it, or take it away"
            + (f" (and in {len(empty) - 1:,} more)" if len(empty) > 1 else "")
        )
    numbers = {Path(name).name: k for k, name in enumerate(train)}
    val = _validation(folder, parts, numbers) if parts else None
    return Source(folder, list(numbers), _rows(train, numbers), None if val is None else _rows(val, numbers))


def _folders(folder):
    """Returns the names of the folders in a folder, sorted, without hidden ones and what macOS puts into archives."""
    names = (path.name for path in folder.iterdir() if path.is_dir())
    return sorted(name for name in names if not name.startswith(".") and name != "__MACOSX")


def _images_in(folder):
    """Returns the names of the images in a folder itself, sorted."""
    names = (path.name for path in folder.iterdir() if path.is_file())
    return sorted(name for name in names if name.lower().endswith(image_files.EXTENSIONS))


def _parts(folder, tops):
    """Returns {"train": the folder's name, …} if the folders `tops` are splits, None if they are classes."""
    found = {}
    for name in tops:
        if name.casefold() in SPLITS:
            found.setdefault(SPLITS[name.casefold()], []).append(name)
    others = [name for name in tops if name.casefold() not in SPLITS]
    if not any(_folders(folder / name) for names in found.values() for name in names):
        if others:
            return None  # a class may be called so: "train", of trains
        raise _refusal(folder, f"no folders of classes in {tops[0]}/")
    if "train" not in found:
        raise _refusal(folder, f"no train/ beside {tops[0]}/")
    if others:
        raise _refusal(folder, f"{others[0]}/ lies beside the folders of a split")
    if twice := [names for names in found.values() if len(names) > 1]:
        raise _refusal(folder, f"{' and '.join(f'{name}/' for name in twice[0])} are one split")
    return {split: names[0] for split, names in found.items()}


def _classes(folder, part):
    """Returns {class folder, relative to `folder`: its images} of the class folders below `part`, which may be ""."""
    names = _folders(folder / part)
    check_links(folder, [folder / part / name for name in names])
    if not names:
        raise _refusal(folder, f"no folders of classes in {part}/")
    if part and (loose := _images_in(folder / part)):
        raise _refusal(folder, f"{part}/{loose[0]} lies beside the folders of classes")
    classes, links = {}, []
    for name in names:
        place = folder / part / name
        paths = [Path(path).relative_to(folder) for path in image_files.image_paths(place, links)]
        if deep := [path for path in paths if (folder / path).parent != place and not _is_hidden(path)]:
            hint = f"; is it folder:{place}?" if len(names) == 1 and not part else ""
            raise _refusal(folder, f"{deep[0].as_posix()} lies deeper than in the folder of a class{hint}")
        classes[Path(part, name).as_posix()] = [path.as_posix() for path in paths if (folder / path).parent == place]
    if links:
        first = ", ".join(links[:3]) + (", …" if len(links) > 3 else "")
        print(f"{folder / part}: {len(links):,} links to folders, or out of those of classes, are left out: {first}")
    return classes


def _is_hidden(path):
    return any(part.startswith(".") for part in path.parts)


def _validation(folder, parts, numbers):
    """Returns the classes of val/ or, where there is none, of test/; None if neither has classes."""
    part = parts.get("val")
    if "test" in parts:
        place = folder / parts["test"]
        if part or not _folders(place):
            print(f"{place} is left out{'' if part else ': it has no folders of classes'}")
        else:
            part = parts["test"]
            print(f"{place} is used for validation: there is no val/")
    if part is None:
        return None
    val = {name: paths for name, paths in _classes(folder, part).items() if paths}
    if unknown := [name for name in val if Path(name).name not in numbers]:
        raise SourceError(
            f"{folder / unknown[0]}: no such class in {folder / parts['train']}; {len(unknown):,} of the classes in "
            f"{part}/ have no images to train: {', '.join(Path(name).name for name in unknown[:5])}"
        )
    if not val:
        raise SourceError(f"{folder / part}: no images in its class folders; fill them, or take it away")
    return val


def _rows(classes, numbers):
    return single_label_rows([(path, numbers[Path(name).name]) for name, paths in classes.items() for path in paths])


def _refusal(folder, problem):
    """Returns the error for a nesting that is none of the two, with what was found."""
    counts = Counter(Path(path).parent.relative_to(folder).as_posix() for path in image_files.image_paths(folder))
    found = [f"  {name + '/':40} {count:,} images" for name, count in sorted(counts.items())]
    more = [f"  and {len(found) - SHOWN:,} more folders"] if len(found) > SHOWN else []
    tree = [f"{folder} holds:", *found[:SHOWN], *more] if found else []
    expected = ["expected: CLASS/IMAGE, or train/CLASS/IMAGE and val/CLASS/IMAGE"]
    return SourceError("\n".join([f"{folder}: {problem}", *tree, *expected]))
