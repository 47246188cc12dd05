"""The result of a panel study as the audit takes it: of this very release, by people, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from deidlib.panel.errors import PanelError

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


def read_summaries(private: Path, content_sha256: str | None) -> list[dict]:
    """Summaries of the panel studies of a release, in the order of their folders; empty where nobody was asked.

    Of each only numbers, counts and the texts of questions are taken; what a single rater did stays private.

    Parameters
    ----------
    private : Path
        The results' private folder; ``panel/STUDY/summary.json`` is looked for.
    content_sha256 : str or None
        Content digest of the release; studies of another release do not count. None: no release, no study.

    Raises
    ------
    PanelError
        A summary is damaged, or is that of simulated raters.
    """
    found = []
    for path in sorted(Path(private).glob(f"panel/*/{SUMMARY_FILE}")):
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
            simulated, digest = given["simulated"], given["release"]["content_sha256"]
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
        if content_sha256 is not None and digest == content_sha256:
            found.append(taken)
    return found
