"""What a script does with flags: `use` those of shared_flags.py, define its own, `script`, imports, and at last `run`.

Only scripts read `FLAGS`; what they call takes named tuples, whose fields bear the flags' names: `config(RunConfig)`
fills one. Importing a script changes no flag: what it wants otherwise, it says to `script`, which also answers --help,
before anything large is imported.
"""

import os
import sys
import typing

# Python puts a script's own folder first on its path, where data_processing/statistics.py would be taken for its own.
FOLDER = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [one for one in sys.path if os.path.realpath(one) != os.path.join(FOLDER, "data_processing")]

from absl import app, flags, logging  # noqa: E402

from shared_flags import CROPS, FLAGS, GROUPS, MEMBERS, OBSOLETE, SHARED, define  # noqa: E402
from utils import flag_values, help_page  # noqa: E402

# TensorFlow reads this at its import, so scripts import this module first. Only errors are worth a user's eye.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# TensorFlow leaves oneDNN off on processors without AVX-512, where a training step then takes four times as long.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__all__ = ["CROPS", "FLAGS", "config", "given", "run", "script", "settings", "train_per_class", "use"]

# Flags that have no line of their own where --help would be too long, as many as need be, the first of these first:
# numbers of the release that recipes leave alone, and what is for a few runs only.
RARE = (
    "lr_warmup_decay_step lr_warmup_decay_factor batch_norm_decay batch_norm_epsilon opt_momentum compression num_gpus "
    "visiable_gpu max_skipped max_rejected test_iter manual_dir max_pixels jpeg_quality crop_min_covered log_dir "
    "lr_warmup top_k_pred lr_layer_decay num_preprocess_threads shuffle_buffer FixBlock2 label_smoothing "
    "accumulate_steps lr_decay_factor class_order split_column mask_thres neg_select pos_weight adaptive_weights "
    "pos_floor neg_floor presence clip_norm head_bias regions anchor_sizes long_side class_weights hard_share "
    "freeze_batch_norm scales flip proposals decoder label_column path_column drop_rate sbd void class_num "
    "keep_unlabeled output_stride max_to_keep augment_on scaled_decode resize_short"
).split()

# Names of the flags of shared_flags.py that the running script uses.
_used = []


def use(names):
    """Says which flags of shared_flags.py a script uses, and defines those that only some have.

    Args:
      names: of flags or of groups, with spaces between. A group stands for its flags, without those of OBSOLETE and, if
        there are others in it, of SHARED.
    """
    for name in names.split():
        some = {*OBSOLETE, *(SHARED.get(name, ()) if GROUPS.get(name) else ())}
        _use([flag for flag in MEMBERS[name] if flag not in some] if name in MEMBERS else [name])


def _use(names):
    for name in names:
        define(name)
        _used.append(FLAGS[name].name)  # a name that is none raises KeyError


def script(name, doc, *, first="", required="", defaults=None):
    """Says what a script is; called when its flags are defined and before anything large is imported.

    With --help it prints the page of `utils.help_page`, and the process ends. Otherwise it parses and checks the flags,
    and names those without effect. A script that is imported (`name` is not "__main__") changes nothing.

    Args:
      name: `__name__` of the script.
      doc: its docstring.
      first: names of the flags that matter first, with spaces between.
      required: likewise, of those that must be given; they stand before the first. Both have ten at most.
      defaults: {name: default} of the flags that have another default in this script.
    """
    required = required.split()
    first = [*required, *first.split()]
    _use(first)
    if name != "__main__":
        return
    for flag, value in (defaults or {}).items():
        FLAGS.set_default(flag, value)
    flags.mark_flags_as_required(required)
    own = sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv
    if help_page.is_wanted(own[1:]):
        sections = {title: [FLAGS[flag] for flag in names] for title, names in _sections(first).items()}
        help_page.show(help_page.page(doc, sections, required, RARE))
        sys.exit()
    _parse(own)


def _parse(argv):
    """Sets the flags; what is wrong with them ends the process here, before seconds of imports."""
    app.define_help_flags()  # --helpfull
    others = app.parse_flags_with_usage(argv)[1:]
    if others:
        sys.exit(f"error: '{others[0]}' is not a flag; write flags as --name=value")
    try:
        flag_values.check(FLAGS)
    except ValueError as error:
        sys.exit(f"error: {error}")
    for name, reason in _without_effect().items():
        print(f"--{name} has no effect: {reason}.", file=sys.stderr)
    if FLAGS["visiable_gpu"].present:
        os.environ["CUDA_VISIBLE_DEVICES"] = FLAGS.visiable_gpu


def _sections(first=()):
    """Returns {title: names} of the flags that the running script has, each once."""
    own = [flag.name for flag in FLAGS.flags_by_module_dict().get(sys.argv[0], ())]
    sections = {"What matters first, with defaults": first, "Of this script alone": [n for n in own if n not in first]}
    for group, members in MEMBERS.items():
        sections[group[0].upper() + group[1:]] = [
            name for name in members if name in _used and name not in (*own, *first)
        ]
    return sections


def settings():
    """Returns {name: value} of all flags that the running script has, in the order of its help."""
    return {name: FLAGS[name].value for names in _sections().values() for name in names}


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


def given(name):
    """Returns the value of a flag that a user gave, or None: what it has by default, others may know better."""
    return FLAGS[name].value if FLAGS[name].present else None


def train_per_class(single=False):
    """Returns the numbers of --train_per_class, or the one that it is to be. Raises ValueError if it is not so."""
    for text in FLAGS.train_per_class:
        if not str(text).isdigit():
            raise ValueError(
                f"--train_per_class: '{text}' is no number of images; write 15,30,… or 0 for all but --val_fraction"
            )
    counts = [int(text) for text in FLAGS.train_per_class]
    if not single:
        return counts
    if len(counts) != 1:
        raise ValueError(f"--train_per_class={','.join(FLAGS.train_per_class)}: one number is needed here")
    return counts[0]


def _without_effect():
    """Returns {name: reason} of the flags that were given another value, and that the running script does not use."""
    used = {*_used, "visiable_gpu"} - (set() if FLAGS.dry_run else {"num_gpus"})
    shared = [name for names in MEMBERS.values() for name in names if name in FLAGS and name not in used]
    given = [name for name in shared if FLAGS[name].present and FLAGS[name].value != FLAGS[name].default]
    return {name: OBSOLETE.get(name, f"{os.path.basename(sys.argv[0])} does not use it") for name in given}


def run(main):
    """Runs the script whose `main(argv)` this is, and ends the process.

    A `ValueError` or `OSError` is the user's to mend: one line on standard error, exit status 1; and so after Ctrl-C.
    Any other exception is a defect of ours and keeps its traceback.
    """

    def start(argv):
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

    if "--" in sys.argv:
        sys.exit("error: nothing may follow '--' here; write flags as --name=value")
    app.run(start, argv=sys.argv[:1])  # `script` has parsed the others
