"""Pieces of a plain HTML page that needs nothing beside itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CSS = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #1c2430; background: #fff; margin: 0 auto;
  padding: 2rem 1.25rem 4rem; max-width: 62rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .6rem; padding-bottom: .3rem; border-bottom: 1px solid #d9dee6; }
h3 { font-size: 1rem; margin: 2rem 0 .2rem; }
p { max-width: 46rem; margin: .4rem 0 .8rem; }
.numbers { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.4rem 0; }
.numbers div { flex: 1 1 11rem; background: #f4f6f9; border-radius: .5rem; padding: .8rem 1rem; }
.numbers strong { display: block; font-size: 1.6rem; line-height: 1.2; }
.numbers span, .quiet { color: #5b6675; font-size: .88rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { text-align: left; padding: .3rem 1.4rem .3rem 0; border-bottom: 1px solid #e6eaf0; vertical-align: top; }
th { font-size: .85rem; color: #5b6675; font-weight: 600; }
td.number, th.number { text-align: right; }
tr.total td { font-weight: 600; border-bottom: 0; }
img { max-width: 100%; height: auto; display: block; }
pre { background: #f4f6f9; border-radius: .5rem; padding: .8rem 1rem; overflow-x: auto;
  font-size: .82rem; line-height: 1.5; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: .15em; margin: 0 .3em 0 .9em; }
.key:first-child { margin-left: 0; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole HTML document.

    Args:
        title: Plain text.
        parts: HTML pieces in order.
    """
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def heading(text: str, *, level: int = 2) -> str:
    """A heading; plain text."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, *, quiet: bool = False) -> str:
    """A paragraph; plain text."""
    return f'<p class="quiet">{escape(text)}</p>' if quiet else f"<p>{escape(text)}</p>"


def numbers(pairs: Sequence[tuple[str, str]]) -> str:
    """Large numbers with a line of explanation each.

    Args:
        pairs: (number, explanation), plain text.
    """
    boxes = "".join(f"<div><strong>{escape(value)}</strong><span>{escape(name)}</span></div>" for value, name in pairs)
    return f'<div class="numbers">{boxes}</div>'


def picture(url: str, description: str) -> str:
    """An image.

    Args:
        url: Data URL.
        description: Plain text for readers who do not see it.
    """
    return f'<img src="{url}" alt="{escape(description, quote=True)}">'


def code(lines: Iterable[str]) -> str:
    """Lines of code."""
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def colour_key(pairs: Sequence[tuple[str, str]]) -> str:
    """A key of colours.

    Args:
        pairs: (CSS colour, meaning in plain text).
    """
    keys = "".join(f'<span class="key" style="background:{colour}"></span>{escape(name)}' for colour, name in pairs)
    return f'<p class="quiet">{keys}</p>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, total: Sequence[str] = (), numeric: int = 0) -> str:
    """A table.

    Args:
        head: Column names.
        rows: Cells, plain text.
        total: A last row in bold; empty for none.
        numeric: How many of the last columns hold numbers, which stand to the right.
    """
    first_number = len(head) - numeric

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = ("" if index < first_number else ' class="number"' for index in range(len(cells)))
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    last = f'<tr class="total">{line(total, "td")}</tr>' if total else ""
    return f"<table><thead><tr>{line(head, 'th')}</tr></thead><tbody>{body}{last}</tbody></table>"


def data_url(figure: Figure, *, dpi: int = 110) -> str:
    """A figure as a PNG data URL."""
    buffer = io.BytesIO()
    # PNGs otherwise name the matplotlib version, which makes equal reports differ.
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
