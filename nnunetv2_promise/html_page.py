"""HTML pages that need nothing beside themselves, from the package's jinja2 templates."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render(template: str, **content: Any) -> str:
    """A page from a template of ``nnunetv2_promise/templates``; text is escaped, a missing value is an error."""
    return _TEMPLATES.get_template(template).render(**content)


def data_url(figure: Figure, *, dpi: int = 110) -> str:
    """A figure as a PNG data URL."""
    buffer = io.BytesIO()
    # PNGs otherwise name the matplotlib version, which makes equal reports differ.
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
