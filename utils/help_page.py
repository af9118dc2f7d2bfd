"""The page that --help prints: what a script does, an example, and its flags in sections, a line each."""

import os
import re
import sys
import textwrap

from absl import flags

WIDTH, HEIGHT = 120, 72  # three screens
COLUMN = 34  # where the text of a flag begins
OPTIONS = re.compile(r"--?(h|help|helpshort|\?)")
# What absl adds to the text of a flag: its choices, and that it can be repeated.
ADDED = re.compile(r"^<[^>]*>: |;\s+repeat this option to specify a list of values$")


def is_wanted(arguments):
    """Whether a command line asks for the page."""
    return any(OPTIONS.fullmatch(argument) for argument in arguments)


def page(doc, sections, required=(), rare=()):
    """Returns the text of the page.

    Args:
      doc: the script's docstring. Its first paragraph says what it does, its first indented one is the example.
      sections: {title: flags}, objects of absl; a section without flags is left out.
      required: names of the flags that must be given.
      rare: names of the flags that have no line of their own, as many, from the first on, as is needed to fit HEIGHT.
    """
    paragraphs = textwrap.dedent(doc).strip("\n").split("\n\n")
    head = [paragraphs[0], *[text for text in paragraphs if text.startswith(" ")][:1]]
    for count in range(len(rare) + 1):
        text = "\n\n".join([*head, _body(sections, required, rare[:count])])
        if text.count("\n") < HEIGHT:
            break
    return text


def show(text):
    """Prints a page; its reader may have gone, as `head` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is flushed at the end


def _body(sections, required, rare):
    lines, others, fixed = [], [], []
    for title, members in sections.items():
        shown = [flag for flag in members if not _has_one_value(flag) and flag.name not in rare]
        others += [flag for flag in members if not _has_one_value(flag) and flag.name in rare]
        fixed += [flag for flag in members if _has_one_value(flag)]
        if shown:
            lines += [f"{title}:", *(_line(flag, flag.name in required) for flag in shown)]
    for title, members in (("Rarely set, --helpfull explains them", others), ("Of one value only", fixed)):
        if members:
            text = f"{title}: {' '.join(map(_with_default, members))}"
            lines.append(textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False))
    return "\n".join(lines)


def _choices(flag):
    return list(flag.parser.enum_values) if isinstance(flag.parser, flags.EnumParser) else []


def _has_one_value(flag):
    lowest, highest = (getattr(flag.parser, bound, None) for bound in ("lower_bound", "upper_bound"))
    return len(_choices(flag)) == 1 or (lowest is not None and lowest == highest)


def _line(flag, required):
    """Returns a flag with its default and its text, which is to fit one line but may take more."""
    text, choices, with_default = ADDED.sub("", flag.help), _choices(flag), _with_default(flag)
    if not all(choice in text + with_default for choice in choices):
        text = f"{text.rstrip('.')}: {', '.join(choices)}."
    start = f"  {with_default}"
    return textwrap.fill(
        f"{'Required. ' if required else ''}{text}",
        WIDTH,
        initial_indent=start + " " * max(2, COLUMN - len(start)),
        subsequent_indent=" " * COLUMN,
        break_on_hyphens=False,
    )


def _with_default(flag):
    """Returns a flag as it is written, with its default, or what it may be, or … for anything."""
    default = flag.default
    if isinstance(flag, flags.MultiFlag):
        return " ".join(f"--{flag.name}={value}" for value in default or ["…"])
    if isinstance(default, list):
        default = ",".join(default)
    if default is None or default == "":
        default = "|".join(_choices(flag)) or "…"
    return f"--{flag.name}={str(default).lower() if flag.boolean else default}"
