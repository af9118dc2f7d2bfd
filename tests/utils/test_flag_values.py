from absl import flags
import pytest

from utils import flag_values


def values_of(*options):
    values = flags.FlagValues()
    flags.DEFINE_list("lists", [], "", flag_values=values)
    flags.DEFINE_multi_float("rates", [], "", flag_values=values)
    for name in ("place", "url", "separator", "label_column"):
        flags.DEFINE_string(name, None, "", flag_values=values)
    values(["script.py", *options])
    return values


@pytest.mark.parametrize(
    "option",
    [
        "--place=a/b.txt",
        "--place=/mnt/gs:/a",
        "--place=folder:C:/images",
        "--url=http://127.0.0.1:8000",
        "--separator=://",
        "--label_column=http://schema.org/label",
        "--rates=1.5",
    ],
)
def test_fine(option):
    flag_values.check(values_of(option))


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--place=gs://bucket/a", "--place=gs://bucket/a"),
        ("--place= s3://bucket/a", "--place= s3://bucket/a"),
        ("--place=csv:s3a://bucket/a", "--place=csv:s3a://bucket/a"),
        ("--place=a.txt,abfss://box@host/b", "--place=a.txt,abfss://box@host/b"),
        ("--lists=a.txt,hdfs://b.txt", "--lists=hdfs://b.txt"),
        ("--rates=nan", "--rates=nan"),
    ],
)
def test_refused(option, named):
    with pytest.raises(ValueError, match=f"^{named}: "):
        flag_values.check(values_of("--rates=0.5", option))
