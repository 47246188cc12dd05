"""The result of a panel study as the audit takes it: only of this release, and only by people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

from deidlib.panel.errors import PanelError
from deidlib.storage.results import Results

#: Names below ``private/panel/STUDY/``. A summary of simulated raters has another name, and is refused all the same.
SUMMARY_FILE, SIMULATED_FILE = "summary.json", "summary-of-simulated-raters.json"
_FORMAT = "deidlib panel summary 1"
_TAKEN = (
    "title",
    "panel",
    "realism",
    "usefulness",
    "reading",
    "identity",
    "notes",
    "without_flagged",
    "consent",
)


def panel_digest(private: Path) -> str:
    """SHA-256 of the summaries of all panel studies as they lie on the disk; ``none`` where nothing was analysed."""
    found = [
        (path.parent.name, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(Results(Path(private)).panel.glob(f"*/{SUMMARY_FILE}"))
    ]
    return hashlib.sha256(repr(found).encode()).hexdigest() if found else "none"


def read_summaries(private: Path, content_sha256: str | None, images: Collection[str] = ()) -> list[dict]:
    """Summaries of the panel studies of a release, in the order of their folders; empty where nobody was asked.

    Of each only numbers, counts and the texts of questions are taken; what a single rater did stays private.

    Parameters
    ----------
    private : Path
        The results' private folder; ``panel/STUDY/summary.json`` is looked for.
    content_sha256 : str or None
        Content digest of the release; studies of another release do not count. None: no release, no study.
    images : collection of str
        SHA-256 of the release's images. A study that was drawn while the release was pending counts where the release
        holds every image that it showed, byte for byte.

    Returns
    -------
    list of dict
        The summary of each; ``judged_before`` says whether it was drawn before the release existed.

    Raises
    ------
    PanelError
        A summary is damaged, or is that of simulated raters.
    """
    found = []
    for path in sorted(Results(Path(private)).panel.glob(f"*/{SUMMARY_FILE}")):
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
            simulated, digest = given["simulated"], given["release"]["content_sha256"]
            judged = given["release"].get("judged_sha256", [])
            taken = {name: given[name] for name in _TAKEN} | {"flagged": len(given["flagged"])}
            if taken["realism"]:
                taken["realism"] = {name: value for name, value in taken["realism"].items() if name != "each"}
            damaged = given["format"] != _FORMAT
        except (OSError, ValueError, KeyError, TypeError):
            damaged = True
        if damaged:
            raise PanelError(f"a panel study's {SUMMARY_FILE} is damaged; make it again with `deidlib panel analyse`")
        if simulated is not False:
            raise PanelError(
                f"a panel study's {SUMMARY_FILE} was made with simulated raters, and an audit takes none; "
                "remove that study's folder from private/panel/"
            )
        before = digest is None and bool(judged) and set(judged) <= set(images)
        if content_sha256 is not None and (before or digest == content_sha256):
            found.append(taken | {"judged_before": before})
    return found
