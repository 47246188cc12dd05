"""Templates of the folder ``reports``, filled in."""

from __future__ import annotations

import html
import re
from pathlib import Path

import jinja2

from deidlib import distribution

#: Characters with a meaning in Markdown (GitHub's included); an underscore within a word has none.
_MARKS = re.compile(r"[\\`*\[\]|~#!]|^[-+>]|(?<=^[0-9])\.(?=\s|$)")
_OUTER_UNDERSCORE = re.compile(r"(?<!\w)_|_(?!\w)")


def render(template: str, **values) -> str:
    """Fill a template of the ``reports`` folder; HTML is escaped, and an unknown value is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_folder()),
        undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(["html.j2", "html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"md": markdown_text, "code": markdown_code}
    environment.filters["plural"] = lambda n, one, many=None: f"{n:,} {one if n == 1 else many or one + 's'}"
    return environment.get_template(template).render(**values)


def template_folder() -> Path:
    """Folder in which templates, styles and scripts of pages lie."""
    return distribution.folder() / "reports"


def markdown_text(text: object) -> str:
    """Text that Markdown shows as it is, in a paragraph or a cell: no HTML, link, emphasis or line of its own."""
    line = html.escape(" ".join(str(text).split()), quote=False)
    return _OUTER_UNDERSCORE.sub(r"\\_", _MARKS.sub(r"\\\g<0>", line))


def markdown_code(text: object) -> str:
    """Text as a span of code, which Markdown shows as it is."""
    return "`" + " ".join(str(text).replace("`", "'").split()).replace("|", "\\|") + "`"
