"""Small archives in the layouts of published datasets, for several tests."""

import gzip
import io
import tarfile

import numpy as np
from PIL import Image
from scipy.io import savemat

WNIDS = ["n01440764", "n01443537", "n01484850"]


def jpeg(seed):
    encoded = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 9, 3), np.uint8)).save(encoded, "JPEG")
    return encoded.getvalue()


def archive(members):
    """A tar archive, as bytes, of names and contents; None is a link out of the folder."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            member.size = len(content or b"")
            file.addfile(member, io.BytesIO(content or b""))
    return data.getvalue()


def caltech(classes=("001.ak47", "002.american-flag", "257.clutter"), images=6):
    return {
        f"256_ObjectCategories/{name}/{name[:3]}_{k:04d}.jpg": jpeg([int(name[:3]), k])
        for name in classes
        for k in range(1, images + 1)
    }


def imagenet(folder, form):
    """ILSVRC2012 as archives, or as folders; validation images are of the classes 2, 0, 1, 2."""
    truth = [2, 0, 1, 2]
    train = {wnid: {f"{wnid}_{n}.JPEG": jpeg([k, n]) for n in range(3)} for k, wnid in enumerate(WNIDS)}
    val = {f"ILSVRC2012_val_{k + 1:08d}.JPEG": jpeg([7, k]) for k in range(len(truth))}
    # In the devkit ids go by another order than WordNet's, from 1.
    ids = {"n01484850": 1, "n01440764": 2, "n01443537": 3}
    synsets = np.array(
        [(ids[wnid], wnid, f"name {wnid}, other") for wnid in ids],
        dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")],
    )
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets})
    lines = "".join(f"{ids[WNIDS[k]]}\n" for k in truth).encode()
    devkit = "ILSVRC2012_devkit_t12/data/"
    kit = {f"{devkit}meta.mat": meta.getvalue(), f"{devkit}ILSVRC2012_validation_ground_truth.txt": lines}
    if form == "archives":
        inner = {f"{wnid}.tar": archive(images) for wnid, images in train.items()}
        (folder / "ILSVRC2012_img_train.tar").write_bytes(archive(inner))
        (folder / "ILSVRC2012_img_val.tar").write_bytes(archive(val))
        (folder / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(gzip.compress(archive(kit)))
        return truth
    for wnid, images in train.items():
        (folder / "train" / wnid).mkdir(parents=True)
        for name, data in images.items():
            (folder / "train" / wnid / name).write_bytes(data)
    for (name, data), k in zip(val.items(), truth, strict=True):
        place = folder / "val" / WNIDS[k] / name if form == "folders" else folder / "val" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    if form == "folders and devkit":
        for name, data in kit.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    return truth
