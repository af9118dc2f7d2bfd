"""Every flag that more than one script uses, under its published name, and what all scripts do at their start.

Names and defaults are those of the released code, so that a published command line still runs. Flags that no longer do
anything are accepted and say so. A flag of one script alone is defined in that script. Only scripts read `FLAGS`; what
they call takes named tuples, whose fields bear the flags' names: `config(RunConfig)` fills one. Importing a script
changes no flag: what it wants otherwise, it says to `run`.
"""

import os
import sys
import typing

# Python puts a script's own folder first on its path, where data_processing/statistics.py would be taken for its own.
FOLDER = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [one for one in sys.path if os.path.realpath(one) != os.path.join(FOLDER, "data_processing")]

from absl import app, flags, logging  # noqa: E402

# TensorFlow reads this at its import, so scripts import this module first. Only errors are worth a user's eye.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# TensorFlow leaves oneDNN off on processors without AVX-512, where a training step then takes four times as long.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

FLAGS = flags.FLAGS

# Flags of the release that are accepted and do nothing (here), each with the reason that is printed when it is set.
OBSOLETE = {
    "with_bbox": "no code ever read it; crops are sampled in the whole image",
    "tmp_model_dir": "checkpoints are written to a temporary name and renamed inside --model_dir",
    "num_gpus": "one process drives one GPU, mpirun starts several; only --dry_run plans for so many",
    "mode": "each script has one job: train.py trains, evaluate.py evaluates",
    "restore": "train.py resumes from --model_dir by itself; start from other weights with --pretrain_ckpt",
    "file_shuffle_buffer": "all shards are shuffled anew in each epoch",
    "prof_interval": "--log_interval alone says how often a line is printed",
    "epoch_iter": "the number of steps in an epoch follows from the records and --batch_size",
    "piclist": "give the list to --images",
    "interval": "no code ever read it",
    "start": "no code ever read it",
    "drop_rate": "it belongs to train.py and finetune.py",
    "FixBlock2": "it belongs to finetune.py",
}


# Names that flags had before.
ALIASES = {"recoloured": "color_jitter"}


def _define_data():
    flags.DEFINE_string("data_dir", "./data/train/", "Folder of TFRecord shards, or the folder of train/ and val/.")
    flags.DEFINE_integer("batch_size", 512, "Images in a batch of one process.", lower_bound=1)
    flags.DEFINE_integer("num_preprocess_threads", 4, "Images decoded at the same time.", lower_bound=1)
    flags.DEFINE_integer("shuffle_buffer", 2048, "Records shuffled together, after the shards were.", lower_bound=1)
    flags.DEFINE_integer("image_size", 224, "Height and width of the network's input, in pixels.", lower_bound=32)
    flags.DEFINE_integer("image_channels", 3, "Channels of the input: RGB.", lower_bound=3, upper_bound=3)
    flags.DEFINE_float("max_skipped", 0.01, "Share of corrupt records at which a run stops.", 0.0, 1.0)
    flags.DEFINE_float("max_rejected", 0.01, "Share of images that building records may leave out.", 0.0, 1.0)
    flags.DEFINE_string("dictionary", "", "Class dictionary: multi-label with hierarchy, or index and words.")
    flags.DEFINE_string("output_dir", None, "Folder to write into.")


def _define_augmentation():
    flags.DEFINE_float("crop_min_area", 0.7, "Smallest crop, as a share of the image (paper: 0.05).", 0.01, 1.0)
    flags.DEFINE_float("crop_min_covered", 0.7, "Share of the image that a crop must cover.", 0.0, 1.0)
    flags.DEFINE_float("rotated", 0.25, "Share of images that are rotated, with color jitter in order A.", 0.0, 1.0)
    flags.DEFINE_float("color_jitter", 0.5, "Share of images with color jitter, in order A or B.", 0.0, 1.0)


def _define_network():
    flags.DEFINE_integer("class_num", 1000, "Number of classes (11166 in ML-Images).", lower_bound=1)
    sizes = (10, 18, 34, 50, 101, 152, 200)
    flags.DEFINE_integer("resnet_size", 101, "Depth of the network: 18, 34, 50, 101, 152 or 200; 10 is for tests.")
    flags.register_validator("resnet_size", sizes.__contains__, f"choose one of {', '.join(map(str, sizes))}")
    flags.DEFINE_enum(
        "data_format",
        "channels_first",
        ["NCHW", "NHWC", "channels_first", "channels_last"],
        "Layout inside the network. NCHW needs a GPU; without one the network runs in NHWC, with the same weights.",
    )
    flags.DEFINE_enum("precision", "float32", ["float32", "bfloat16", "float16"], "Precision of the activations.")
    flags.DEFINE_float("batch_norm_decay", 0.997, "Decay of the moving averages of batch normalisation.", 0.0, 1.0)
    flags.DEFINE_float("batch_norm_epsilon", 1e-5, "Added to the variance in batch normalisation.", lower_bound=0.0)


def _define_loss():
    flags.DEFINE_float("mask_thres", 0.7, "A class is positive in a batch if a label reaches this.", 0.0, 1.0)
    flags.DEFINE_float("neg_select", 0.3, "Share of the all-negative classes in a step's loss.", 0.0, 1.0)


def _define_optimizer():
    flags.DEFINE_enum("optimizer", "mom", ["mom"], "Momentum, in the form of TensorFlow 1.")
    flags.DEFINE_float("opt_momentum", 0.9, "Momentum.", 0.0, 1.0)
    flags.DEFINE_float("weight_decay", 1e-4, "Factor of half the squared weights outside batch norm.", lower_bound=0.0)
    flags.DEFINE_float("lr", 0.1, "Learning rate after the warm-up.", lower_bound=0.0)
    flags.DEFINE_integer("lr_decay_step", 0, "Steps between two decays, at most four; 0: never.", lower_bound=0)
    flags.DEFINE_enum("lr_schedule", "step", ["step", "cosine"], "How it falls: in steps, or as half a cosine to 0.")
    flags.DEFINE_float("lr_decay_factor", 0.1, "Factor of one decay.", lower_bound=0.0)
    flags.DEFINE_integer("warmup", 0, "Steps of warm-up.", lower_bound=0)
    flags.DEFINE_float("lr_warmup", 0.1, "Learning rate of the first step of the warm-up.", lower_bound=0.0)
    flags.DEFINE_integer("lr_warmup_decay_step", 0, "Steps between two raises of the warm-up; 0: none.", lower_bound=0)
    flags.DEFINE_float("lr_warmup_decay_factor", 1.414, "Factor of one raise of the warm-up.", lower_bound=0.0)
def _define_run():
    flags.DEFINE_integer("max_iter", 1000000, "Steps to train; -1: for ever.", lower_bound=-1)
    flags.DEFINE_integer("test_interval", 0, "Steps between two validations; 0: none.", lower_bound=0)
    flags.DEFINE_integer("test_iter", 0, "Batches of one validation; 0: all.", lower_bound=0)
    flags.DEFINE_integer("log_interval", 0, "Steps between two lines of progress; 0: 100.", lower_bound=0)
    flags.DEFINE_integer("snapshot", 0, "Steps between two checkpoints; 0: at the end only.", lower_bound=0)
    flags.DEFINE_integer("max_to_keep", 200, "Newest checkpoints to keep.", lower_bound=1)
    flags.DEFINE_string("log_dir", "./out/log/", "Folder of TensorBoard's files.", allow_override=True)
    flags.DEFINE_string("model_dir", "./out/checkpoint/", "Folder of checkpoints, or one checkpoint to use.")
    flags.DEFINE_string("pretrain_ckpt", "", "Checkpoint of another run to start from, or to extract with.")
    flags.DEFINE_integer("random_seed", 1234, "The one seed of all random numbers.", lower_bound=0)
    flags.DEFINE_string("visiable_gpu", "0", "GPUs to use, by number: one a process; spelled as published.")
    flags.DEFINE_bool("xla", False, "Compile with XLA.")


def _define_distributed():
    flags.DEFINE_integer("accumulate_steps", 1, "Batches of a process that make one step together.", lower_bound=1)
    flags.DEFINE_enum(
        "lr_scaling",
        "none",
        ["none", "linear"],
        "linear: all learning rates times the number of batches in a step, processes x --accumulate_steps.",
    )
    flags.DEFINE_enum("compression", "none", ["none", "fp16"], "How gradients travel between processes.")
    flags.DEFINE_bool("dry_run", False, "Print the run's plan and what it will need, and exit.")


def _define_use():
    flags.DEFINE_string("images", "", "Images: a folder, a list, or one file.")
    flags.DEFINE_string("result", "", "File to write.")
    flags.DEFINE_float("threshold", 0.5, "Probability from which on a class is predicted.", 0.0, 1.0)
    flags.DEFINE_enum(
        "crop",
        "center",
        ["center", "10crop"],
        "What of an image is used: its centre, or the mean over ten crops (corners and centre, and mirrored).",
    )
    flags.DEFINE_enum(
        "head",
        None,
        ["softmax", "sigmoid"],
        "One class an image, or any number; if not set, the checkpoint says so, or the dictionary, or the records do.",
    )
    flags.DEFINE_integer("top_k_pred", 5, "Classes to name for each image.", lower_bound=1)


def _define_obsolete():
    for name in ("with_bbox", "restore"):
        flags.DEFINE_bool(name, None, f"Does nothing here: {OBSOLETE[name]}.")
    for name in ("num_gpus", "file_shuffle_buffer", "prof_interval", "epoch_iter", "interval", "start"):
        flags.DEFINE_integer(name, None, f"Does nothing here: {OBSOLETE[name]}.")
    for name in ("tmp_model_dir", "mode", "piclist"):
        flags.DEFINE_string(name, None, f"Does nothing here: {OBSOLETE[name]}.")
    for name, present in ALIASES.items():
        flags.DEFINE_alias(name, present)


def _define_published():
    flags.DEFINE_float("drop_rate", 0.0, "Share of the features that dropout sets to 0 in training.", 0.0, 0.99)
    flags.DEFINE_bool("FixBlock2", False, "finetune.py: train stages_2, stages_3, global_pool and logits only.")


_define_data()
_define_augmentation()
_define_network()
_define_loss()
_define_optimizer()
_define_run()
_define_distributed()
_define_use()
_define_published()
_define_obsolete()


# Flags that several scripts have and the others do not know: how `use` defines them, default, help, and least and
# greatest value.
SHARED = {
    "image_list": (flags.DEFINE_string, None, "Image list: path<TAB>index:confidence…, paths relative to --images."),
    "split": (flags.DEFINE_string, "train", "Which records, or what the shards' names begin with: train or val."),
    "max_pixels": (flags.DEFINE_integer, 50_000_000, "Largest image, in pixels.", 1),
    "min_images": (flags.DEFINE_integer, 100, "Fewest images of a class that counts.", 0),
    "dataset": (
        flags.DEFINE_string,
        "",
        "Single-label dataset to make records of: folder:FOLDER, caltech256:256_ObjectCategories.tar, "
        "imagenet:FOLDER or tfds:NAME.",
    ),
    "train_per_class": (flags.DEFINE_list, ["0"], "Training images of a class; 0: all but --val_share."),
    "val_share": (flags.DEFINE_float, 0.2, "Share of the images that are for validation.", 0.0, 1.0),
    "manual_dir": (flags.DEFINE_string, None, "Where --dataset=tfds:… finds files that a person must fetch."),
    "splits": (flags.DEFINE_integer, 3, "Number of seeded splits.", 1),
    "label_smoothing": (flags.DEFINE_float, 0.0, "Share of a label that is spread over all classes.", 0.0, 0.99),
    "lr_layer_decay": (flags.DEFINE_float, 1.0, "Factor of the rate from a stage to the one before it.", 0.0, 1.0),
    "ema_decay": (flags.DEFINE_float, 0.0, "Decay of the average of the weights that is validated; 0: none.", 0.0, 1.0),
    "num_images": (flags.DEFINE_integer, 7500, "Scenes to draw; a fifth of them are for validation.", 5),
    "class_images": (flags.DEFINE_integer, 20, "Images of each single thing, in class folders.", 0),
    "seed": (flags.DEFINE_integer, 1234, "Seed of the drawn images.", 0),
}
_used = []


def use(*names):
    """Defines flags of SHARED that a script has; called where the script defines its own."""
    for name in names:
        if name not in FLAGS:
            define, *how = SHARED[name]
            define(name, *how)
    _used.extend(names)


def config(kind, **others):
    """Returns a named tuple of the class `kind`, whose fields are the flags of the same names.

    A field that is in `others` has that value; one that is a named tuple itself is filled likewise; one that is no flag
    keeps its default.
    """
    hints = typing.get_type_hints(kind)
    values = {}
    for name in kind._fields:
        if hasattr(hints[name], "_fields"):
            values[name] = config(hints[name])
        elif name in FLAGS:
            values[name] = FLAGS[name].value
    return kind(**values | others)


def train_per_class(single=False):
    """Returns the numbers of --train_per_class, or the one that it is to be. Raises ValueError if it is not so."""
    for text in FLAGS.train_per_class:
        if not str(text).isdigit():
            raise ValueError(
                f"--train_per_class: '{text}' is no number of images; write 15,30,… or 0 for all but --val_share"
            )
    counts = [int(text) for text in FLAGS.train_per_class]
    if not single:
        return counts
    if len(counts) != 1:
        raise ValueError(f"--train_per_class={','.join(FLAGS.train_per_class)}: one number is needed here")
    return counts[0]


def run(main, *, required=(), defaults=None, uses=()):
    """Runs the script whose `main(argv)` this is, and ends the process.

    Says which flags do nothing, and chooses the GPU. A `ValueError` or `OSError` is the user's to mend: one line on
    standard error, exit status 1; and so after Ctrl-C. Any other exception is a defect of ours and keeps its traceback.

    Args:
      main: function of the command line's arguments.
      required: names of the flags that must be given.
      defaults: {name: default} of the flags that have another default in this script.
      uses: names of those of OBSOLETE that the script does use.
    """
    for name, value in (defaults or {}).items():
        FLAGS.set_default(name, value)
    flags.mark_flags_as_required(list(required))
    for name in _used:
        FLAGS.register_key_flag_for_module(sys.argv[0], FLAGS[name])  # for --help
    app.run(_checked(main, uses))


def _checked(main, uses):
    def start(argv):
        if len(argv) > 1:
            raise app.UsageError(f"'{argv[1]}' is not a flag; write flags as --name=value")
        for name, reason in OBSOLETE.items():
            if FLAGS[name].present and name not in uses and not (name == "num_gpus" and FLAGS.dry_run):
                print(f"--{name} has no effect: {reason}.", file=sys.stderr)
        if FLAGS["visiable_gpu"].present:
            os.environ["CUDA_VISIBLE_DEVICES"] = FLAGS.visiable_gpu
        logging.set_verbosity(logging.INFO)
        try:
            main(argv)
            return
        except (ValueError, OSError) as error:
            message = f"error: {error}"
        except KeyboardInterrupt:
            message = "stopped"
        # Outside of `except`: the traceback is gone, and with it the input pipeline, whose threads may be calling
        # Python and would wait for ever in an interpreter that is shutting down.
        sys.exit(message)

    return start
