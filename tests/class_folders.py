"""A single-label dataset in class folders, for several tests."""

from tests.archives import jpeg


def class_folders(folder, classes=3, images=6):
    for k in range(classes):
        (folder / f"class {k}").mkdir(parents=True)
        for n in range(images):
            (folder / f"class {k}" / f"{n}.jpg").write_bytes(jpeg([k, n]))
    return folder
