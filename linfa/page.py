"""One self-contained HTML page: figures, equations and tables inline, written whole after every section."""

import base64
import html
import io
import os
from pathlib import Path

STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #1b1f24; }
body { max-width: 62rem; margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.9rem; margin-bottom: .3rem; } h2 { margin-top: 2.6rem; border-bottom: 1px solid #ddd; }
h3 { font-size: 1rem; margin: 1.3rem 0 .3rem; font-family: ui-monospace, monospace; }
.lead { color: #555; } .note { color: #555; font-size: .85rem; margin: .2rem 0; }
figure { margin: 1.2rem 0; overflow-x: auto; } figure img { max-width: 100%; height: auto; }
.equations img { display: block; height: auto; margin: .25rem 0; }
table { border-collapse: collapse; font-size: .86rem; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #eee; text-align: right; } th { background: #f6f7f8; }
th:first-child, td:first-child { text-align: left; } .scroll { overflow-x: auto; }
pre { font-size: .72rem; overflow-x: auto; background: #f6f7f8; padding: .8rem; }
footer { margin: 3rem 0; color: #777; font-size: .85rem; }
"""


class Page:
    """A page that is on disk, whole, after every section.

    Args:
        path: of the file.
        title: of the page.
        lead: a paragraph of plain text below it.
    """

    def __init__(self, path: Path, title: str, lead: str):
        self.path, self.title = path, title
        path.parent.mkdir(parents=True, exist_ok=True)
        self._parts = [f'<h1>{html.escape(title)}</h1><p class="lead">{html.escape(lead)}</p>']
        self._write("This page is being written: more sections follow.")

    def add(self, title: str, text: str, *parts: str) -> None:
        """Append a section: a title and a paragraph of plain text, then pieces of HTML."""
        self._parts.append(
            f"<section><h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>{''.join(parts)}</section>"
        )
        self._write("This page is being written: more sections follow.")

    def close(self, text: str) -> None:
        """Write the last line."""
        self._write(text)

    @staticmethod
    def details(title: str, text: str) -> str:
        """Text that unfolds on demand."""
        return f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>"

    def _write(self, footer):
        body = "\n".join([*self._parts, f"<footer>{html.escape(footer)}</footer>"])
        part = self.path.with_suffix(".part")
        part.write_text(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(self.title)}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><body>{body}</body></html>\n',
            encoding="utf-8",
        )
        os.replace(part, self.path)


def _embed(fig, kind, **kw) -> str:
    import matplotlib.pyplot as plt

    stream = io.BytesIO()
    fig.savefig(stream, format=kind, **kw)
    plt.close(fig)
    mime = {"png": "image/png", "svg": "image/svg+xml"}[kind]
    return f"data:{mime};base64,{base64.b64encode(stream.getvalue()).decode()}"


def figure(fig, caption: str = "") -> str:
    """A matplotlib figure as HTML; the figure is closed."""
    text = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img alt="{html.escape(caption or "figure")}" src="{_embed(fig, "png", dpi=150)}">{text}</figure>'


def equations(lines: list[str]) -> str:
    """Lines of LaTeX typeset one below the other, with their text for readers that see no images.

    A line that matplotlib's mathematics cannot set stays text.
    """
    return f'<div class="equations scroll">{"".join(map(_typeset, lines))}</div>'


def _typeset(line):
    import matplotlib.pyplot as plt
    from matplotlib.mathtext import MathTextParser

    with plt.rc_context({"mathtext.fontset": "cm", "savefig.bbox": "tight", "svg.fonttype": "path"}):
        try:
            MathTextParser("path").parse(f"${line}$")
        except ValueError:
            return f"<pre>{html.escape(line)}</pre>"
        fig = plt.figure(figsize=(0.01, 0.01))
        fig.text(0, 0, f"${line}$", fontsize=15)
        return f'<img alt="{html.escape(line)}" src="{_embed(fig, "svg", pad_inches=0.03, transparent=True)}">'


def table(head: tuple, rows: list[tuple]) -> str:
    """A table; everything in it is plain text."""
    top = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(str(c))}</td>' for c in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'
