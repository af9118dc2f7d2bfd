"""Checkpoints, in the one format that the released system wrote and that we write: TensorFlow-1 variable names.

A checkpoint is a TensorFlow "tensor bundle", `<prefix>.index` and `<prefix>.data-…`, of named tensors. Since ours and
the released ones have the same names and layouts, importing is restoring and exporting is saving, without loss:

    init/init_conv/conv2d/kernel
    stages_<i>_block_<j>/conv1_b1_bn/batch_normalization/{gamma,beta,moving_mean,moving_variance}   shortcut, j = 0 only
    stages_<i>_block_<j>/conv1_b1/conv2d/kernel                                                     shortcut, j = 0 only
    stages_<i>_block_<j>/conv{1,2,3}_b2_bn/batch_normalization/…, …/conv{1,2,3}_b2/conv2d/kernel
    global_pool/bn/batch_normalization/…, logits/dense/{kernel,bias}
    <any of the trainable ones>/Momentum, global_step                                               while training
    loss/{pos_count,neg_count,step}, loss_scale/{value,good_steps}, records_seen                    ours, while training
    <any>/ExponentialMovingAverage, weight_average/steps                                            ours
    rpn/{conv,objectness,offsets}/conv2d/…, regions/{classes,offsets}/dense/…                       ours, of detectors
    aspp/…, decoder/…, segmentation/logits/conv2d/{kernel,bias}                                     ours, with masks
    head, loss, image_size, dictionary, anchors, long_side, output_stride, decoder                  ours, see `Metadata`
"""

import contextlib
from pathlib import Path
import re
import shutil
import tempfile

import keras
import numpy as np
import tensorflow as tf

from models.metadata import Description, Metadata
from models.resnet import DEPTHS

NAME = "model.ckpt"
# How names of what is not written to its end begin.
SAVING = ".saving-"
FIRST_KERNEL = "init/init_conv/conv2d/kernel"
# What a checkpoint of this network must not hold beyond the network's own variables. Other names are training state.
NETWORK_SCOPES = ("init/", "stages_", "global_pool/", "logits/")
# What TensorFlow raises for a file that is truncated or holds something else; each layer has its own.
UNREADABLE = (tf.errors.OpError, ValueError, RuntimeError, IndexError)
SLOT = re.compile(r"/(Momentum|Adam|Adam_1|RMSProp|RMSProp_1|ExponentialMovingAverage)$")


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or does not fit the network."""


class DamagedError(CheckpointError):
    """A checkpoint cannot be read: truncated, say, or of other bytes than were written."""


def model_variables(*models):
    """Returns the variables of networks of `models.resnet`: a dictionary from the TensorFlow-1 name to the variable."""
    kinds = {
        keras.layers.BatchNormalization: "batch_normalization",
        keras.layers.Conv2D: "conv2d",
        keras.layers.Dense: "dense",
    }
    return {
        f"{layer.name.replace('.', '/')}/{kinds[type(layer)]}/{variable.name}": variable
        for model in models
        for layer in model.layers
        for variable in layer.variables
    }


def resolve(path):
    """Returns the prefix of a checkpoint given as a prefix, as its `.index` file, or as a folder.

    In a folder it is the newest of ours, or else the one that the folder's `checkpoint` file names, or the only one.
    """
    path = Path(path)
    if path.is_dir():
        indices = list(path.glob("*.index"))
        only = str(indices[0]) if len(indices) == 1 else None
        prefix = newest(path) or tf.train.latest_checkpoint(str(path)) or only
        if prefix is None:
            raise CheckpointError(f"{path}: this folder holds {len(indices)} checkpoints; name one, or train first")
        path = prefix
    prefix = str(path).removesuffix(".index")
    if not Path(f"{prefix}.index").exists():
        raise CheckpointError(
            f"{path}: no such checkpoint; give a folder of checkpoints or a prefix such as {NAME}-1000, for which "
            f"{NAME}-1000.index and {NAME}-1000.data-00000-of-00001 exist"
        )
    return prefix


def newest(folder):
    """Returns the prefix of the newest checkpoint in `folder`, or None."""
    prefixes = _prefixes(Path(folder))
    return prefixes[-1] if prefixes else None


def describe_newest(folder):
    """Returns prefix and `Description` of the newest checkpoint in `folder` that can be described; or two None."""
    for prefix in reversed(_prefixes(Path(folder))):
        with contextlib.suppress(DamagedError):
            return prefix, describe(prefix)
    return None, None


def describe(prefix):
    """Returns the `Description` of the checkpoint with this prefix. Raises CheckpointError if it is none of ours."""
    reader = _reader(prefix)
    shapes = reader.get_variable_to_shape_map()
    if FIRST_KERNEL not in shapes:
        raise CheckpointError(f"{prefix}: no variable {FIRST_KERNEL}, so this is no checkpoint of our network")
    blocks = tuple(sum(f"stages_{i}_block_{j}/conv1_b2/conv2d/kernel" in shapes for j in range(99)) for i in range(4))
    bottleneck = "stages_0_block_0/conv3_b2/conv2d/kernel" in shapes
    width = shapes.get("stages_0_block_0/conv1_b1/conv2d/kernel", [0])[-1]
    size = next((size for size, depth in DEPTHS.items() if depth == (blocks, bottleneck, width)), 0)
    try:
        said = {name: reader.get_tensor(name) for name in Metadata._fields if name in shapes}
        step = int(reader.get_tensor("global_step")) if "global_step" in shapes else 0
    except UNREADABLE as error:
        raise DamagedError(f"{prefix}: damaged ({error}); take an older checkpoint") from error
    metadata = {name: value.decode() if isinstance(value, bytes) else int(value) for name, value in said.items()}
    if "decoder" in metadata:
        metadata["decoder"] = bool(metadata["decoder"])
    return Description(size, _class_num(shapes), step, **metadata)


def _class_num(shapes):
    """The number of classes of a classification, a segmentation or a detector, which has one more, the background."""
    for name in ("logits/dense/kernel", "segmentation/logits/conv2d/kernel"):
        if name in shapes:
            return shapes[name][-1]
    return shapes.get("regions/classes/dense/kernel", [1])[-1] - 1


def restore(prefix, variables, ignored=()):
    """Assigns to `variables`, a dictionary from name to variable, the tensors of the checkpoint, bit for bit.

    Training state that the checkpoint holds and `variables` does not ask for is left alone. Raises CheckpointError,
    with nothing assigned, if variables are missing or have another shape, or if the checkpoint has variables of the
    network that `variables` lacks and whose names do not begin with one of `ignored`, a tuple.
    """
    reader = _reader(prefix)
    shapes = reader.get_variable_to_shape_map()
    wanted = {name: tuple(variable.shape) for name, variable in variables.items()}
    missing = sorted(wanted.keys() - shapes.keys())
    extra = sorted(n for n in shapes.keys() - wanted.keys() if n.startswith(NETWORK_SCOPES) and not SLOT.search(n))
    extra = [name for name in extra if not name.startswith(ignored)]
    misshapen = sorted(n for n in wanted.keys() & shapes.keys() if wanted[n] != tuple(shapes[n]))
    if missing or extra or misshapen:
        raise CheckpointError(_explain(prefix, wanted, shapes, missing, extra, misshapen))
    try:
        tensors = {name: reader.get_tensor(name) for name in variables}
    except UNREADABLE as error:
        raise DamagedError(f"{prefix}: damaged ({error}); take an older checkpoint") from error
    for name, variable in variables.items():
        variable.assign(tensors[name])


def restore_pretrained(prefix, variables, new_scopes=(), anew=()):
    """Restores the weights that another run left, see `restore`; returns those of `new_scopes` that it did not have.

    Where one variable of a scope, like "logits/", is missing or of another shape, all of that scope keep their values;
    and so do those of the scopes in `anew`. Parts that this network has none of, as a detector has no logits, are left.
    """
    shapes = _reader(prefix).get_variable_to_shape_map()
    new = tuple(
        scope
        for scope in new_scopes
        if scope in anew
        or any(n.startswith(scope) and tuple(v.shape) != tuple(shapes.get(n, ())) for n, v in variables.items())
    )
    unused = tuple(scope for scope in NETWORK_SCOPES if not any(name.startswith(scope) for name in variables))
    restore(prefix, {name: v for name, v in variables.items() if not name.startswith(new)}, ignored=new + unused)
    return new


def restore_newest(folder, variables):
    """Restores the newest checkpoint in `folder` that is not damaged, see `restore`.

    Returns its prefix, or None if there is no checkpoint, and the errors of newer ones, which are damaged. Raises
    DamagedError if all are.
    """
    damaged = []
    for prefix in reversed(_prefixes(Path(folder))):
        try:
            restore(prefix, variables)
            return prefix, damaged
        except DamagedError as error:
            damaged.append(error)
    if damaged:
        raise damaged[0]
    return None, []


def save(folder, step, variables, max_to_keep, metadata=Metadata()):
    """Writes a checkpoint of `variables`, name to variable or array, and `global_step`; returns its prefix.

    It appears as a whole or not at all: files are written to temporary names and renamed, the index, which makes it a
    checkpoint, last. Then TensorFlow's `checkpoint` file is brought up to date, and all are deleted but this one and
    the newest others, `max_to_keep` in all: one of a later step may be there that is damaged, or of a run that was
    begun anew. Raises CheckpointError if it cannot be written; the others are as they were then.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        said = {name: tf.constant(value) for name, value in metadata._asdict().items() if value is not None}
        _write(folder, f"{NAME}-{step}", {**variables, **said, "global_step": np.int64(step)})
        written = str(folder / f"{NAME}-{step}")
        # What was found of weights that had this name before is not true of these.
        for stale in folder.glob(f"{NAME}-{step}.*.json"):
            stale.unlink()
        keep = [path for path in _prefixes(folder) if path != written] + [written]
        for old in keep[:-max_to_keep]:
            for part in [Path(f"{old}.index"), *folder.glob(f"{Path(old).name}.*")]:
                part.unlink(missing_ok=True)
        _write_state(folder, [Path(path).name for path in keep[-max_to_keep:]])
    except (OSError, tf.errors.OpError) as error:
        raise CheckpointError(
            f"{folder}: step {step:,} could not be saved ({error}); make room there, or give another --model_dir. The "
            f"newest checkpoint is {newest(folder) if folder.is_dir() else None}"
        ) from error
    return written


def sweep(folder):
    """Deletes what processes that were killed while they saved left in `folder`, in which nobody else may save now."""
    for path in Path(folder).glob(f"{SAVING}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _write(folder, name, tensors):
    """Writes a tensor bundle to a temporary folder and gives it its name in `folder`."""
    names, tensors = zip(*sorted(tensors.items()), strict=True)
    temp_path = Path(tempfile.mkdtemp(prefix=SAVING, dir=folder))
    try:
        tf.raw_ops.SaveV2(
            prefix=str(temp_path / NAME),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tf.convert_to_tensor(tensor) for tensor in tensors],
        )
        for part in sorted(temp_path.glob(f"{NAME}.*")):  # "data-…" sorts before "index"
            part.replace(folder / f"{name}{part.name.removeprefix(NAME)}")
    finally:
        shutil.rmtree(temp_path, ignore_errors=True)


def _write_state(folder, names):
    """Writes the file by which TensorFlow's own functions find the newest of the checkpoints `names`, oldest first."""
    lines = [f'model_checkpoint_path: "{names[-1]}"', *(f'all_model_checkpoint_paths: "{name}"' for name in names)]
    temp_path = folder / f"{SAVING}checkpoint"
    temp_path.write_text("\n".join(lines) + "\n")
    temp_path.replace(folder / "checkpoint")


def _prefixes(folder):
    """Prefixes of the complete checkpoints in `folder`, oldest first."""
    steps = (re.fullmatch(rf"{re.escape(NAME)}-(\d+)\.index", path.name) for path in folder.glob(f"{NAME}-*.index"))
    return [str(folder / f"{NAME}-{step}") for step in sorted(int(match[1]) for match in steps if match)]


def _reader(prefix):
    try:
        return tf.train.load_checkpoint(prefix)
    except UNREADABLE as error:
        raise DamagedError(f"{prefix}: cannot be read as a checkpoint ({error}); take another one") from error


def _explain(prefix, wanted, shapes, missing, extra, misshapen):
    """The message for a checkpoint that does not fit: what to change first, then the variables concerned."""
    lines = [
        f"{prefix} does not fit: {len(missing)} missing, {len(extra)} extra, {len(misshapen)} misshapen variables."
    ]
    logits = "logits/dense/kernel"
    if logits in misshapen:
        lines.append(
            f"It has {shapes[logits][1]} classes and this run {wanted[logits][1]}: set "
            f"--class_num={shapes[logits][1]}, or take a checkpoint of {wanted[logits][1]} classes."
        )
    if "loss/pos_count" in misshapen and logits not in misshapen:
        before, now = (_counted(sizes["loss/pos_count"]) for sizes in (shapes, wanted))
        lines.append(f"Its loss counted {before}, and this run's {now}: start as it was, or anew in a new --model_dir.")
    if any("/conv" in name and not SLOT.search(name) for name in missing + extra):
        size = describe(prefix).resnet_size if FIRST_KERNEL in shapes else 0
        lines.append(f"It is a ResNet-{size}: set --resnet_size={size}." if size else "Its blocks are none of ours.")
    elif missing and all(not name.startswith(NETWORK_SCOPES) or SLOT.search(name) for name in missing):
        lines.append("It holds no training state: start from its weights with --pretrain_ckpt and a new --model_dir.")
    described = [f"missing: {name} {wanted[name]}" for name in missing]
    described += [f"extra: {name} {tuple(shapes[name])}" for name in extra]
    described += [f"shape: {name} is {tuple(shapes[name])}, needed {wanted[name]}" for name in misshapen]
    shown = described if len(described) <= 20 else described[:20] + [f"… and {len(described) - 20} more"]
    return "\n  ".join(lines + shown)


def _counted(shape):
    """How a loss counts in which batches classes are present, by the shape of its counters."""
    return f"on each of {shape[0]} processes (--presence=rank or part)" if len(shape) > 1 else "with --presence=global"
