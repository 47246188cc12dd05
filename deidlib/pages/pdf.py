"""The audit as a PDF, from the page that is also the HTML: WeasyPrint, tagged, the same bytes each time."""

from __future__ import annotations

import hashlib
from pathlib import Path

import matplotlib

#: The fonts of the PDF come with Matplotlib, so that it looks the same on a server without fonts.
_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
_FACES = (
    ("DejaVu Sans", "DejaVuSans.ttf", 400, "normal"),
    ("DejaVu Sans", "DejaVuSans-Bold.ttf", 700, "normal"),
    ("DejaVu Sans", "DejaVuSans-Oblique.ttf", 400, "italic"),
    ("DejaVu Sans Mono", "DejaVuSansMono.ttf", 400, "normal"),
)

_BREAK_ANYWHERE = "* { break-inside: auto !important; break-before: auto !important; break-after: auto !important }"


def to_pdf(html: str) -> bytes:
    """Lay out the page for paper: PDF/UA-1 (tagged, readable by screen readers).

    The document's id is the digest of its source, and it has no date. Nothing is fetched: a reference to a file outside
    the page is an error.
    """
    import weasyprint  # loads Pango, which the other stages do without
    from weasyprint.text.fonts import FontConfiguration
    from weasyprint.urls import URLFetcher

    faces = "".join(
        f"@font-face {{ font-family: '{family}'; src: url('{(_FONTS / file).as_uri()}'); "
        f"font-weight: {weight}; font-style: {style} }}\n"
        for family, file, weight, style in _FACES
    )
    fonts = FontConfiguration()
    style = weasyprint.CSS(string=faces, font_config=fonts)
    self_contained = URLFetcher(allowed_protocols={"data"}, fail_on_errors=True)
    page = weasyprint.HTML(string=html, url_fetcher=self_contained)
    about = {
        "font_config": fonts,
        "pdf_variant": "pdf/ua-1",
        "pdf_identifier": hashlib.sha256(html.encode()).digest()[:16],
    }
    try:
        return page.write_pdf(stylesheets=[style], **about)
    except AssertionError:
        # WeasyPrint finds no page break in some runs of rows that are to stay together: then they need not.
        return page.write_pdf(stylesheets=[style, weasyprint.CSS(string=_BREAK_ANYWHERE)], **about)
