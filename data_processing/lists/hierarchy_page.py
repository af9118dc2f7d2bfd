"""The hierarchy of a database as one HTML page: the classes' names, and how many images they have."""

import html

PAGE = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Hierarchy</title>
<style>body{{font:15px/1.5 sans-serif;margin:2em auto;max-width:60em;padding:0 1em}}
details,.leaf{{margin-left:1.3em}}summary{{margin-left:-1.1em;cursor:pointer}}
small{{color:#666}}b{{font-weight:600}}.hit>summary b,.leaf.hit b{{background:#fe6}}input{{font:inherit;width:20em}}
td{{padding:0 1em 0 0}}td:last-child{{text-align:right}}</style>
<h1>{images:,} images, {classes:,} classes</h1><table>{rows}</table>
<p><input id="q" placeholder="a name or WordNet id" autofocus> <small id="n"></small></p>{trees}
<script>
const all=[...document.querySelectorAll("details,.leaf")];
document.getElementById("q").oninput=e=>{{const q=e.target.value.toLowerCase();let n=0;
for(const d of all){{const hit=q.length>1&&d.dataset.n.includes(q);d.classList.toggle("hit",hit);
if(d.tagName=="DETAILS")d.open=false;if(hit)n++}}
if(q.length>1)for(const d of all)if(d.classList.contains("hit"))
for(let p=d.parentElement.closest("details");p;p=p.parentElement.closest("details"))p.open=true;
document.getElementById("n").textContent=q.length>1?n+" classes":""}};
</script></html>
"""


def page(entries, images, below, summary):
    """Returns an HTML page, which needs no other file, of the trees of a dictionary, to unfold and search.

    Args:
      entries: of the dictionary.
      images: number of images of each class.
      below: number of classes below each class.
      summary: of `statistics.summarize`.
    """
    children = [[] for _ in entries]
    for entry in entries:
        if entry.parent != -1:
            children[entry.parent].append(entry.index)
    # What is to be written, the next at the end: a class, or the end of its subtree.
    trees, ahead = [], [(entry.index, False) for entry in reversed(entries) if entry.parent == -1]
    while ahead:
        k, done = ahead.pop()
        if done:
            trees.append("</details>")
            continue
        names, wnid = html.escape(entries[k].names), html.escape(entries[k].wnid)
        text = f"<b>{names}</b> <small>{wnid} · {images[k]:,} images"
        search = f'data-n="{names.lower()} {wnid}"'
        if not children[k]:
            trees.append(f'<div class="leaf" {search}>{text}</small></div>')
            continue
        trees.append(f"<details {search}><summary>{text} · {below[k]:,} classes below</small></summary>")
        ahead.append((k, True))
        ahead += [(child, False) for child in sorted(children[k], key=lambda child: images[child])]
    rows = {
        "labels an image": f"{summary['labels per image']:.2f}",
        f"classes with more than {summary['trainable above']:,} images": f"{summary['trainable']:,}",
        "trees": len(summary["trees"]),
        "depth, at most and on average": f"{summary['depth']['most']} and {summary['depth']['mean']:.2f}",
        "leaves": f"{summary['leaves']:,}",
    }
    table = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows.items())
    return PAGE.format(images=summary["images"], classes=summary["classes"], rows=table, trees="".join(trees))
