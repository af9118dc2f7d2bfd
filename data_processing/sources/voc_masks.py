"""PASCAL VOC 2012's masks of classes, and with them the extra ones of SBD (Hariharan 2011), which VOC's lack."""

from pathlib import Path

from data_processing.lists import mask_list
from data_processing.sources import voc, voc_files
from data_processing.sources.labeled_images import Source, SourceError, check_links

KIND, YEAR = "voc2012seg", 2012
CLASSES = ("background", *voc.CLASSES)
# Where SBD's masks may lie in the folder that is given: as published, or as the usual PNGs made of them.
SBD_FOLDERS = ("", "cls", "dataset/cls", "benchmark_RELEASE/dataset/cls", "SegmentationClassAug")
SBD_ENDINGS = (".mat", ".png")


def read(place, sbd="") -> Source:
    """Returns the images of the lists train and val of VOC 2012's segmentation.

    Args:
      place: VOCdevkit, the folder that holds it or VOC2012 itself, or VOCtrainval_11-May-2012.tar.
      sbd: folder of SBD's masks, or "". With it, all its images but those of VOC's val are for training, too; of those
        of VOC's train, VOC's own masks count. (10,582 images, known as train_aug.)

    Raises SourceError for a place without the year or its lists, and a folder without masks.
    """
    root, devkits = voc_files.find(place, (YEAR,))
    devkit = devkits[YEAR]
    lists = {split: voc.ids(devkit, f"ImageSets/Segmentation/{split}.txt") for split in ("train", "val")}
    if empty := [split for split, names in lists.items() if not names]:
        where = devkit.where(f"ImageSets/Segmentation/{empty[0]}.txt")
        raise SourceError(f"{where}: there is no image in it; write an id a line")
    rows = {
        split: [_row(devkit, name, root, devkit.image(f"SegmentationClass/{name}.png")) for name in names]
        for split, names in lists.items()
    }
    if sbd:
        folder, masks = _sbd(sbd)
        more = [name for name in masks if name not in {*lists["train"], *lists["val"]}]
        print(f"{len(more):,} images with a mask of SBD's beside {len(rows['train']):,} of VOC's train")
        rows["train"] += [_row(devkit, name, folder, masks[name]) for name in more]
    return Source(root, list(CLASSES), rows["train"], rows["val"], kind="masks")


def _row(devkit, name, folder, mask):
    path = devkit.image(f"JPEGImages/{name}.jpg")
    return mask_list.Row(path, str(folder), mask, "" if voc.ID.fullmatch(name) else "no id of an image in the list")


def _sbd(place):
    """The folder of SBD's masks, and {id: file in it}, sorted."""
    root = Path(place).resolve()
    for folder in (root / name for name in SBD_FOLDERS):
        for ending in SBD_ENDINGS:
            if files := sorted(path.name for path in folder.glob(f"*{ending}")):
                check_links(root, [folder])
                return folder, {Path(name).stem: name for name in files}
    raise SourceError(
        f"--sbd={place}: no masks in it; give the folder of SBD's dataset/cls/*.mat (benchmark_RELEASE), or of "
        "SegmentationClassAug/*.png"
    )
