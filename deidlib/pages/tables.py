"""Tables for narrow screens: every cell carries the title of its column, so that a style can stack a row's cells."""

from __future__ import annotations

import re
from html.parser import HTMLParser


def label_cells(html: str) -> str:
    """Add to every cell of a table's body its column's title, as ``data-label``, and the roles of rows and cells.

    A style that shows cells as blocks takes their meaning from screen readers; the roles give it back. A cell that
    spans several columns gets no title. Everything else stays as it is, byte for byte.

    Parameters
    ----------
    html : str
        A page whose tables name their columns in ``<thead>``, one row of ``<th>``.
    """
    parser = _Tables(html)
    parser.feed(html)
    parser.close()
    parts, end = [], 0
    for place, tag, added in parser.added:
        parts += [html[end:place], tag[:-1], added, ">"]
        end = place + len(tag)
    return "".join([*parts, html[end:]])


class _Tables(HTMLParser):
    def __init__(self, text: str):
        super().__init__(convert_charrefs=False)
        self.added: list[tuple[int, str, str]] = []
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._titles: list[str] = []
        self._in_head, self._title, self._column = False, None, 0

    def handle_starttag(self, tag, attrs):
        about = dict(attrs)
        if tag == "table":
            self._titles = []
            self._add(' role="table"')
        elif tag == "thead":
            self._in_head = True
            self._add(' role="rowgroup"')
        elif tag == "tbody":
            self._add(' role="rowgroup"')
        elif tag == "tr":
            self._column = 0
            self._add(' role="row"')
        elif tag in ("th", "td"):
            self._cell(tag, about)

    def _cell(self, tag: str, about: dict) -> None:
        if self._in_head:
            self._title = []
            self._add(' role="columnheader"')
            return
        wide = int(about.get("colspan", 1))
        label = self._titles[self._column] if wide == 1 and self._column < len(self._titles) else ""
        role = "rowheader" if tag == "th" else "cell"
        self._add(f' role="{role}"' + (f' data-label="{label}"' if label and tag == "td" else ""))
        self._column += wide

    def _add(self, attributes: str) -> None:
        line, column = self.getpos()
        self.added.append((self._starts[line - 1] + column, self.get_starttag_text(), attributes))

    def handle_endtag(self, tag):
        if tag == "thead":
            self._in_head = False
        elif tag == "th" and self._in_head:
            self._titles.append(" ".join("".join(self._title).replace('"', "&quot;").split()))
            self._title = None

    def handle_data(self, data):
        if self._title is not None:
            self._title.append(data)

    def handle_entityref(self, name):
        self.handle_data(f"&{name};")

    def handle_charref(self, name):
        self.handle_data(f"&#{name};")
