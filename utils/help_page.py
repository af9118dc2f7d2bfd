"""The page that --help prints: what a script does, an example, and its flags in sections, a line each."""

import re
import textwrap

from absl import flags

WIDTH = 120
COLUMN = 34  # where the text of a flag begins
OPTIONS = re.compile(r"--?(h|help|helpshort|\?)")


def is_wanted(arguments):
    """Whether a command line asks for the page; what stands behind `--` is for another program."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return any(OPTIONS.fullmatch(argument) for argument in own)


def page(doc, sections, required=()):
    """Returns the text of the page.

    Args:
      doc: the script's docstring. Its first paragraph says what it does, its first indented one is the example.
      sections: {title: flags}, objects of absl; a section without flags is left out.
      required: names of the flags that must be given.
    """
    paragraphs = textwrap.dedent(doc).strip("\n").split("\n\n")
    example = next((text for text in paragraphs if text.startswith(" ")), None)
    parts = [paragraphs[0], *([example] if example else [])]
    fixed = []
    for title, members in sections.items():
        fixed += [flag for flag in members if _has_one_value(flag)]
        lines = [_line(flag, flag.name in required) for flag in members if not _has_one_value(flag)]
        if lines:
            parts.append("\n".join([f"{title}:", *lines]))
    if fixed:
        parts.append(f"Of one value only: {' '.join(map(_with_default, fixed))}")
    # A blank line before the first section alone: the page is to fit three screens.
    head = 2 if example else 1
    return "\n\n".join([*parts[:head], "\n".join(parts[head:])])


def _has_one_value(flag):
    parser = flag.parser
    if isinstance(parser, flags.EnumParser):
        return len(parser.enum_values) == 1
    lowest, highest = getattr(parser, "lower_bound", None), getattr(parser, "upper_bound", None)
    return lowest is not None and lowest == highest


def _line(flag, required):
    choices = flag.parser.enum_values if isinstance(flag.parser, flags.EnumParser) else ()
    text = flag.help
    if not all(choice in text for choice in choices) and flag.default is not None:
        text = f"{text.rstrip('.')}: {', '.join(choices)}."
    start = f"  {_with_default(flag)}"
    start += " " * max(2, COLUMN - len(start))
    return textwrap.fill(
        f"{'Required. ' if required else ''}{text}",
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * COLUMN,
        break_on_hyphens=False,
    )


def _with_default(flag):
    default = flag.default
    if isinstance(flag, flags.MultiFlag):
        return " ".join(f"--{flag.name}={value}" for value in default or ["…"])
    if isinstance(default, list):
        default = ",".join(default)
    if default is None or default == "":
        default = "|".join(flag.parser.enum_values) if isinstance(flag.parser, flags.EnumParser) else "…"
    return f"--{flag.name}={str(default).lower() if flag.boolean else default}"
