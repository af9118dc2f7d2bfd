from absl import flags
import pytest

from utils import help_page

DOC = """Trains a network.

    python train.py --data_dir=records

Much more of it."""


@pytest.fixture
def values():
    values = flags.FlagValues()
    flags.DEFINE_string("data_dir", None, "Where the records are.", flag_values=values)
    flags.DEFINE_enum("loss", "plain", ["plain", "weighted"], "What is minimized.", flag_values=values)
    flags.DEFINE_enum("head", None, ["softmax", "sigmoid"], "What the logits become.", flag_values=values)
    flags.DEFINE_bool("xla", False, "Compile.", flag_values=values)
    flags.DEFINE_list("sizes", ["224", "299"], "Sizes.", flag_values=values)
    flags.DEFINE_multi_string("crops", ["center", "all"], "Crops.", flag_values=values)
    flags.DEFINE_enum("optimizer", "mom", ["mom"], "Momentum.", flag_values=values)
    flags.DEFINE_integer("channels", 3, "Channels.", lower_bound=3, upper_bound=3, flag_values=values)
    for k in range(80):
        flags.DEFINE_float(f"number_{k}", k / 2, "A number.", flag_values=values)
    return values


def test_page(values):
    sections = {
        "First": [values["data_dir"], values["loss"], values["head"]],
        "None": [],
        "Others": [values[name] for name in ("xla", "sizes", "optimizer", "crops", "channels")],
    }
    assert (
        help_page.page(DOC, sections, required=["data_dir"], rare=["xla"])
        == """Trains a network.

    python train.py --data_dir=records

First:
  --data_dir=…                    Required. Where the records are.
  --loss=plain                    What is minimized: plain, weighted.
  --head=softmax|sigmoid          What the logits become.
Others:
  --xla=false                     Compile.
  --sizes=224,299                 Sizes.
  --crops=center --crops=all      Crops.
Of one value only: --optimizer=mom --channels=3"""
    )


def test_rare_flags_share_lines_where_a_page_would_be_too_long(values):
    numbers = [values[f"number_{k}"] for k in range(80)]
    rare = [f"number_{k}" for k in range(79, 9, -1)]
    lines = help_page.page(DOC, {"Numbers": numbers}, rare=rare).split("\n")
    assert len(lines) == 72
    own = [line for line in lines if line.startswith("  --number_") and line.endswith("A number.")]
    shared = " ".join(lines[5 + len(own) :])
    assert own[0].startswith("  --number_0=0.0 ") and shared.count("--number_") == 80 - len(own)
    assert "--number_79=39.5" in shared and "--number_10=5.0" not in shared


@pytest.mark.parametrize(
    ("options", "wanted"), [(["--help"], True), (["--lr=1", "-h"], True), (["--helpfull"], False), (["--lr=h"], False)]
)
def test_is_wanted(options, wanted):
    assert help_page.is_wanted(options) == wanted
