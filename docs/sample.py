"""Make docs/sample/ from the results of `make demo` (virtual patients only): an audit, and the release's page.

.venv/bin/python docs/sample.py demo/results docs/sample
"""

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit"))
from chromium import chromium

WIDTH, HEIGHT = 1280, 760
#: Ends when every picture in view is drawn; those of parts that are hidden have no file yet.
_DRAWN = (
    "const done = arguments[0];"
    "const inView = (image) => image.offsetParent && image.getBoundingClientRect().top < innerHeight;"
    "Promise.all([...document.images].filter(inView).map((image) => image.decode()))"
    ".then(() => requestAnimationFrame(() => requestAnimationFrame(done)));"
)


def photograph_page(page: Path, out: Path) -> None:
    """Save what Chromium shows of a page of a file, without scrolling."""
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile), WIDTH, HEIGHT) as browser:
        browser.get(page.resolve().as_uri())
        browser.execute_async_script(_DRAWN)
        browser.save_screenshot(str(out))


def main(results: Path, out: Path) -> None:
    """Copy the two documents, and show the page of the newest version."""
    out.mkdir(parents=True, exist_ok=True)
    version = max((results / "release").iterdir(), key=lambda folder: folder.stat().st_mtime).name
    for name in ("summary.pdf", "audit.pdf"):
        shutil.copyfile(results / "report" / version / name, out / name)
    photograph_page(results / "release" / version / "gallery.html", out / "release-page.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
