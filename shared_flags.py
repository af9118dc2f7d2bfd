"""Every flag that more than one script uses, under its published name, in the groups of --help.

Names and defaults are those of the released code, so that a published command line still runs. Flags that no longer do
anything are accepted and say so. A flag of one script alone is defined in that script. Scripts take them by flags.py.
"""

from absl import flags

from utils import flag_values

FLAGS = flags.FLAGS
# What may be taken of an image, see --crop.
CROPS = ["center", "10crop"]

# Flags of the release that are accepted and do nothing (here), each with the reason that is printed when it is set.
OBSOLETE = {
    "with_bbox": "no code ever read it; crops are sampled in the whole image",
    "tmp_model_dir": "checkpoints are written to a temporary name and renamed inside --model_dir",
    "num_gpus": "one process drives one GPU, mpirun starts several; only --dry_run plans for so many",
    "mode": "each script has one job: train.py trains, evaluate.py evaluates",
    "restore": "train.py resumes from --model_dir by itself; start from other weights with --pretrain_ckpt",
    "file_shuffle_buffer": "all shards are shuffled anew in each epoch",
    "prof_interval": "--log_interval says how often a line is printed, and --profile=10:20 profiles steps",
    "epoch_iter": "the number of steps in an epoch follows from the records and --batch_size",
    "piclist": "give the list to --images",
    "interval": "no code ever read it",
    "start": "no code ever read it",
    "drop_rate": "it belongs to train.py and finetune.py",
    "FixBlock2": "it belongs to finetune.py",
}


# Names that flags had before.
ALIASES = {"recoloured": "color_jitter", "val_share": "val_fraction"}


def _define_files():
    flags.DEFINE_string("images", "", "Images: a folder, a list, or one file.")
    flags.DEFINE_string("dictionary", "", "Class dictionary: multi-label with hierarchy, or index and words.")
    flags.DEFINE_string("result", "", "What to write: a file; of evaluate.py, a folder.")
    flags.DEFINE_string("output_dir", None, "Folder to write into.")
    flags.DEFINE_float("max_rejected", 0.01, "Share of images that building records may leave out.", 0.0, 1.0)


def _define_data():
    flags.DEFINE_string("data_dir", "./data/train/", "Folder of TFRecord shards, or the folder of train/ and val/.")
    flags.DEFINE_integer("batch_size", 32, "Images in a batch of one process.", lower_bound=1)
    flags.DEFINE_integer("num_preprocess_threads", 4, "Images decoded at the same time.", lower_bound=1)
    flags.DEFINE_integer("shuffle_buffer", 2048, "Records shuffled together, after the shards were.", lower_bound=1)
    flags.DEFINE_integer("image_size", 224, "Height and width of the network's input, in pixels.", lower_bound=32)
    flags.DEFINE_integer("image_channels", 3, "Channels of the input: RGB.", lower_bound=3, upper_bound=3)
    flags.DEFINE_float("max_skipped", 0.01, "Share of corrupt records at which a run stops.", 0.0, 1.0)


def _define_augmentation():
    flags.DEFINE_float("crop_min_area", 0.7, "Smallest crop, as a share of the image (paper: 0.05).", 0.01, 1.0)
    flags.DEFINE_float("crop_min_covered", 0.7, "Share of the image that a crop must cover.", 0.0, 1.0)
    flags.DEFINE_float("rotated", 0.25, "Share of images that are rotated, with color jitter in order A.", 0.0, 1.0)
    flags.DEFINE_float("color_jitter", 0.5, "Share of images with color jitter, in order A or B.", 0.0, 1.0)
    text = "Where images are flipped, rotated, jittered; if not set, on a GPU if there is one."
    flags.DEFINE_enum("augment_on", None, ["device", "host"], text)
    flags.DEFINE_bool("scaled_decode", True, "Decode crops of twice the --image_size and more at 1/2, 1/4 or 1/8.")


def _define_network():
    flags.DEFINE_integer("class_num", 1000, "Classes, if the records do not say how many (11166 in ML-Images).", 1)
    sizes = (10, 18, 34, 50, 101, 152, 200)
    flags.DEFINE_integer("resnet_size", 101, "Depth of the network: 18, 34, 50, 101, 152 or 200; 10 is for tests.")
    flags.register_validator("resnet_size", sizes.__contains__, f"choose one of {', '.join(map(str, sizes))}")
    flags.DEFINE_enum(
        "data_format",
        None,
        ["NCHW", "NHWC", "channels_first", "channels_last"],
        "Layout inside the network; if not set, NCHW on a GPU.",
    )
    flags.DEFINE_enum("precision", "float32", ["float32", "bfloat16", "float16"], "Precision of the activations.")
    flags.DEFINE_float("batch_norm_decay", 0.997, "Decay of the moving averages of batch normalisation.", 0.0, 1.0)
    flags.DEFINE_float("batch_norm_epsilon", 1e-5, "Added to the variance in batch normalisation.", lower_bound=0.0)
    flags.DEFINE_float("drop_rate", 0.0, "Share of the features that dropout sets to 0 in training.", 0.0, 0.99)
    flags.DEFINE_bool("FixBlock2", False, "Train stages_2, stages_3, global_pool and logits only.")


def _define_loss():
    losses = ["weighted", "sigmoid", "plain", "asymmetric", "focal", "class_balanced", "two_way"]
    flags.DEFINE_enum("loss", None, losses, "What to learn by, see docs/losses.md.")
    flags.DEFINE_float("mask_thres", 0.7, "A class is positive in a batch if a label reaches this.", 0.0, 1.0)
    flags.DEFINE_float("neg_select", 0.3, "Share of the all-negative classes in a step's loss.", 0.0, 1.0)
    flags.DEFINE_float("pos_weight", 12.0, "Of weighted, what multiplies the term of positive labels.", lower_bound=0.0)
    flags.DEFINE_bool("adaptive_weights", True, "Of weighted: classes weigh less, the longer they are there or not.")
    flags.DEFINE_float("pos_floor", 0.01, "Least such weight of a class that is positive.", lower_bound=0.0)
    flags.DEFINE_float("neg_floor", 0.001, "Least such weight of a class that is not.", lower_bound=0.0)
    presences = ["global", "rank", "part"]
    text = "A class is there if images have it of all ranks (global), of the rank, of a part of --accumulate_steps."
    flags.DEFINE_enum("presence", "global", presences, text)
    text = "Of new logits: prior, the log-odds of the labels (of sigmoids finetune.py's default), zero, or a number."
    flags.DEFINE_string("head_bias", "zero", text)
    flags.register_validator(
        "head_bias", lambda x: x in (None, "prior", "zero") or flag_values.is_number(x), "give prior, zero or a number"
    )


def _define_optimizer():
    flags.DEFINE_enum("optimizer", "mom", ["mom"], "Momentum, in the form of TensorFlow 1.")
    flags.DEFINE_float("opt_momentum", 0.9, "Momentum.", 0.0, 1.0)
    flags.DEFINE_float("weight_decay", 1e-4, "Factor of half the squared weights outside batch norm.", lower_bound=0.0)
    flags.DEFINE_float("clip_norm", None, "Greatest norm of all gradients together; if not set, any.", 1e-9)
    flags.DEFINE_float("lr", None, "Learning rate after the warm-up; if not set, one for the batch size.", 0.0)
    flags.DEFINE_integer("lr_decay_step", 0, "Steps between two decays, at most four; 0: never.", lower_bound=0)
    flags.DEFINE_enum(
        "lr_schedule",
        None,
        ["step", "cosine", "poly"],
        "In steps, half a cosine to 0, or what is left of the run to the power of 0.9; with --lr: step.",
    )
    flags.DEFINE_float("lr_decay_factor", 0.1, "Factor of one decay.", lower_bound=0.0)
    flags.DEFINE_integer("warmup", 0, "Steps of warm-up.", lower_bound=0)
    flags.DEFINE_float("lr_warmup", 0.1, "Learning rate of the first step of the warm-up.", lower_bound=0.0)
    flags.DEFINE_integer("lr_warmup_decay_step", 0, "Steps between two raises of the warm-up; 0: none.", lower_bound=0)
    flags.DEFINE_float("lr_warmup_decay_factor", 1.414, "Factor of one raise of the warm-up.", lower_bound=0.0)


def _define_run():
    flags.DEFINE_float("epochs", None, "Epochs to train; if not set, so many as suit the number of records.", 0.0)
    flags.DEFINE_integer("max_iter", None, "Steps to train, in place of --epochs; -1: for ever.", lower_bound=-1)
    flags.DEFINE_integer("test_interval", None, "Steps between two validations; 0: none; if not set, about ten.", 0)
    flags.DEFINE_integer("test_iter", 0, "Batches of one validation; 0: all.", lower_bound=0)
    flags.DEFINE_integer("log_interval", 0, "Steps between two lines of progress; 0: 100, or 30 seconds.", 0)
    flags.DEFINE_integer("snapshot", None, "Steps between checkpoints; 0: one at the end; if not set, 20 minutes.", 0)
    flags.DEFINE_string("profile", "", "Steps FIRST:LAST, from 1 on, of which TensorBoard gets a profile.")
    flags.register_validator("profile", flag_values.are_steps, "give two numbers of steps, from 1 on, as in 10:20")
    flags.DEFINE_integer("max_to_keep", 5, "Newest checkpoints to keep.", lower_bound=1)
    flags.DEFINE_string("log_dir", "./out/log/", "Folder of TensorBoard's files.", allow_override=True)
    flags.DEFINE_string("model_dir", "./out/checkpoint/", "Folder of checkpoints, or one checkpoint to use.")
    flags.DEFINE_string("pretrain_ckpt", "", "Checkpoint of another run to start from, or to extract with.")
    flags.DEFINE_integer("random_seed", 1234, "The one seed of all random numbers.", lower_bound=0)
    flags.DEFINE_string("visiable_gpu", "0", "GPUs to use, by number: one a process; spelled as published.")
    flags.DEFINE_bool("xla", False, "Compile with XLA.")


def _define_processes():
    flags.DEFINE_integer("accumulate_steps", 1, "Batches of a process that make one step together.", lower_bound=1)
    flags.DEFINE_enum(
        "lr_scaling",
        "none",
        ["none", "linear"],
        "linear: learning rates times batches in a step, processes x --accumulate_steps.",
    )
    flags.DEFINE_enum("compression", "none", ["none", "fp16"], "How gradients travel between processes.")
    flags.DEFINE_bool("dry_run", False, "Print the run's plan and what it will need, and exit.")
    flags.DEFINE_integer("num_gpus", None, "Processes that --dry_run plans for.", lower_bound=1)


def _define_predictions():
    flags.DEFINE_float(
        "threshold",
        None,
        "Least score of a class or object; unset: of classes the stored best, else --top_k_pred.",
        0.0,
        1.0,
    )
    flags.DEFINE_enum(
        "crop", "center", CROPS, "What of an image is used: its center, or the mean of 10 crops (10crop)."
    )
    heads = ["softmax", "sigmoid"]
    flags.DEFINE_enum(
        "head", None, heads, "One class an image, or any number; if not set, checkpoint or records say so."
    )
    flags.DEFINE_integer("top_k_pred", 5, "Classes to name for each image.", lower_bound=1)


def _define_obsolete():
    for name in ("with_bbox", "restore"):
        flags.DEFINE_bool(name, None, f"Does nothing here: {OBSOLETE[name]}.")
    for name in ("file_shuffle_buffer", "prof_interval", "epoch_iter", "interval", "start"):
        flags.DEFINE_integer(name, None, f"Does nothing here: {OBSOLETE[name]}.")
    for name in ("tmp_model_dir", "mode", "piclist"):
        flags.DEFINE_string(name, None, f"Does nothing here: {OBSOLETE[name]}.")


# The groups of --help in its order, and what defines those flags that all scripts know.
GROUPS = {
    "files": _define_files,
    "CSV": None,
    "boxes": None,
    "masks": None,
    "data": _define_data,
    "augmentation": _define_augmentation,
    "network": _define_network,
    "loss": _define_loss,
    "optimizer": _define_optimizer,
    "run": _define_run,
    "processes": _define_processes,
    "predictions": _define_predictions,
    "obsolete": _define_obsolete,
}
# Flags that several scripts have and the others do not know, by group: how `use` defines them, default, help, and least
# and greatest value.
SHARED = {
    "files": {
        "image_list": (flags.DEFINE_string, None, "Image list: path<TAB>index:confidence…, relative to --images."),
        "dataset": (
            flags.DEFINE_string,
            "",
            "Make records of folder:…, csv:…, imagenet:…, tfds:…; boxes voc2007:…, coco:…, masks voc2012seg:…, masks:…",
        ),
        "label_synsets": (flags.DEFINE_string, "", "Senses chosen by hand: id or name, a tab, its WordNet id or '-'."),
        "manual_dir": (flags.DEFINE_string, None, "Where --dataset=tfds:… finds files that a person must fetch."),
        "sbd": (flags.DEFINE_string, "", "Folder of SBD's masks, more to train on beside --dataset=voc2012seg:…."),
        "void": (flags.DEFINE_integer, 255, "Of masks:… and tfds:…, the index of pixels without a class.", 0, 255),
    },
    "CSV": {
        "path_column": (flags.DEFINE_string, "", "Column of the paths; if not set, the one called so."),
        "label_column": (flags.DEFINE_string, "", "Column of the labels; if not set, the one called so."),
        "separator": (flags.DEFINE_string, "|", "What stands between the names of one image."),
        "one_hot": (flags.DEFINE_bool, False, "Each other column is a class, with 0, 1 or a confidence."),
        "split_column": (flags.DEFINE_string, "", "Column that says train, val or test, if there is one."),
        "class_order": (flags.DEFINE_enum, "appearance", ["appearance", "frequency"], "Order of the classes."),
    },
    "boxes": {
        "anchor_sizes": (flags.DEFINE_list, ["128", "256", "512"], "Sizes of anchors, in pixels of the resized image."),
        "long_side": (
            flags.DEFINE_integer,
            None,
            "Largest long side of an image; if not set, 5/3 of --image_size.",
            32,
        ),
        "regions": (flags.DEFINE_integer, 256, "Regions of an image that are trained on.", 4),
        "proposals": (flags.DEFINE_integer, 300, "Regions of an image that are looked at to find objects.", 1),
    },
    "masks": {
        "output_stride": (flags.DEFINE_integer, 16, "Pixels to a cell of the last stage: 8, 16 or 32.", 8, 32),
        "decoder": (flags.DEFINE_bool, False, "With the decoder of DeepLab v3+."),
        "class_weights": (flags.DEFINE_list, None, "What a pixel counts in the loss, by class, the background first."),
        "hard_share": (flags.DEFINE_float, 1.0, "Share of an image's pixels, the hardest, that count.", 0.01, 1.0),
        "freeze_batch_norm": (flags.DEFINE_bool, False, "Leave a checkpoint's batch normalisation as it is."),
        "scales": (flags.DEFINE_list, ["1"], "Scales of its own size in which an image is evaluated."),
        "flip": (flags.DEFINE_bool, False, "Evaluate the mirror image, too."),
    },
    "data": {
        "split": (flags.DEFINE_string, "train", "Which records, or what the shards' names begin with: train or val."),
        "train_per_class": (flags.DEFINE_list, ["0"], "Training images of a class; 0: all but --val_fraction."),
        "val_fraction": (flags.DEFINE_float, 0.2, "Share of the images that are for validation.", 0.0, 1.0),
        "keep_unlabeled": (flags.DEFINE_bool, False, "Keep images without a label: none of the classes is in them."),
        "max_pixels": (flags.DEFINE_integer, 50_000_000, "Largest image or, of masks, tile of one, in pixels.", 1),
        "resize_short": (flags.DEFINE_integer, 0, "Reduce the short side to so many pixels; 0: keep the bytes.", 0),
        "jpeg_quality": (flags.DEFINE_integer, 95, "Quality of the JPEGs that are encoded anew.", 1, 100),
        "min_images": (flags.DEFINE_integer, 100, "Fewest images of a class that counts.", 0),
        "num_images": (flags.DEFINE_integer, 7500, "Images to make; of scenes, a fifth are for validation.", 5),
        "voc_images": (flags.DEFINE_integer, 500, "Scenes with boxes and masks, half of them val; 0: none.", 0),
        "class_images": (flags.DEFINE_integer, 20, "Images of each single thing, in class folders.", 0),
    },
    "loss": {"label_smoothing": (flags.DEFINE_float, 0.0, "Share of a label spread over all classes.", 0.0, 0.99)},
    "optimizer": {
        "lr_layer_decay": (flags.DEFINE_float, 1.0, "Factor of the rate from a stage to that before.", 0.0, 1.0)
    },
    "run": {
        "ema_decay": (flags.DEFINE_float, 0.0, "Decay of the weights' average that is validated; 0: none.", 0.0, 1.0),
        "splits": (flags.DEFINE_integer, 3, "Number of seeded splits.", 1),
        "seeds": (flags.DEFINE_integer, 3, "Networks of each kind.", 2),
        "pretrain_steps": (flags.DEFINE_integer, 600, "Steps of pre-training, of 64 images.", 10),
        "seed": (flags.DEFINE_integer, 1234, "Seed of the drawn images.", 0),
        "rounds": (flags.DEFINE_integer, 5, "Rounds that count; the median is printed.", 1),
    },
}


def _define(define):
    """Calls what defines flags, if there is any; returns their names."""
    known = len(FLAGS.flags_by_module_dict().get(__name__, ()))
    if define:
        define()
    return [flag.name for flag in FLAGS.flags_by_module_dict()[__name__][known:]]


def _define_aliases():
    for name, present in ALIASES.items():
        if present in FLAGS and name not in FLAGS:
            flags.DEFINE_alias(name, present)


def define(name):
    """Defines the flag of this name, if it is one of SHARED that is not there yet."""
    for group in SHARED.values():
        if name in group and name not in FLAGS:
            function, *how = group[name]
            function(name, *how)
            _define_aliases()


# The names of each group's flags.
MEMBERS = {group: _define(function) + list(SHARED.get(group, ())) for group, function in GROUPS.items()}
_define_aliases()
