"""HTML pages that need no other file: style, embedded figures, and tables that sort at a click on a column's header."""

import base64
import html

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; max-width: 1060px; margin: 2em auto; padding: 0 1em; color: #222 }
h1, h2 { line-height: 1.15 } table { border-collapse: collapse } td, th { padding: 2px 12px 2px 0; text-align: left }
td.n { text-align: right } .bar { background: #4a7ebb; height: 12px } img { max-width: 100% } small { color: #666 }
table.sortable th { cursor: pointer; text-decoration: underline dotted } pre { line-height: 1.3 }
"""
# Rows without a number in the column come last, whichever way it sorts.
SCRIPT = """
document.querySelectorAll("table.sortable th").forEach(head => head.onclick = () => {
  const body = head.closest("table").tBodies[0], way = head.dataset.way = head.dataset.way == 1 ? -1 : 1;
  const value = row => row.cells[head.cellIndex].textContent.trim();
  const numbers = [...body.rows].every(row => value(row) === "" || !isNaN(value(row)));
  const compare = (a, b) => a === "" || b === "" ? (a === "") - (b === "") :
    way * (numbers ? a - b : a.localeCompare(b));
  body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
});
"""


def page(title, sections):
    """Returns a page of `sections`, which are HTML, under its title, which is text."""
    head = f"<meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang=en>{head}<h1>{html.escape(title)}</h1>" + "\n".join(sections) + "\n"


def figure(image, caption="", form="png"):
    """Returns a figure in the page, from the bytes of an image file, a PNG or of another `form`."""
    text = f"<figcaption><small>{html.escape(caption)}</small></figcaption>" if caption else ""
    encoded = base64.b64encode(image).decode()
    return f'<figure><img alt="{html.escape(caption)}" src="data:image/{form};base64,{encoded}">{text}</figure>'


def table(columns, rows, sortable=False):
    """Returns a table of texts and numbers; None and NaN are empty, floats have four digits after the point."""
    head = "".join(f"<th>{html.escape(column)}" for column in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}\n" for row in rows)
    script = f"<script>{SCRIPT}</script>" if sortable else ""
    return f"<table{' class=sortable' * sortable}><thead><tr>{head}</thead><tbody>{body}</tbody></table>{script}"


def _cell(value):
    if isinstance(value, str):
        return f"<td>{html.escape(value)}"
    if value is None or value != value:
        return "<td class=n>"
    return f"<td class=n>{value:.4f}" if isinstance(value, float) else f"<td class=n>{value}"
