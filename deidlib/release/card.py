"""The documents in Markdown: data card (``README.md``, front matter for Hugging Face) and ``datasheet.md``."""

from __future__ import annotations

from importlib.metadata import metadata

import yaml

from deidlib.errors import InputError
from deidlib.pages import templates
from deidlib.release import redact
from deidlib.release.layout import EMBEDDED_FOLDER, INDEX_FILE
from deidlib.release.summary import Summary, counts_sentence

_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)
#: Licence identifiers that Hugging Face knows and a dataset like this may carry; any other is "other".
_HF_LICENCES = frozenset(
    {"cc0-1.0", "odbl", "odc-by", "pddl", "apache-2.0", "mit"}
    | {f"cc-{terms}-4.0" for terms in ("by", "by-sa", "by-nc", "by-nc-sa", "by-nc-nd", "by-nd")}
)

#: Most characters of a card's front matter.
_FRONT_MATTER_LENGTH = 1 << 16

#: Settings that tell a recipient how the images were made (settings.json has all of them).
_SETTINGS = ("generator", "preset.", "preserve", "identity", "attempts", "views.", "regions.", "checks.", "release.")


def data_card(summary: Summary) -> str:
    """Markdown of the data card, from the summary of this run only."""
    return templates.render(
        "datacard.md.j2",
        front_matter=_front_matter(summary),
        summary=summary,
        published_at=_published_at(),
        settings=[(key, value) for key, value in redact.flat_config(summary.config) if key.startswith(_SETTINGS)],
    )


def _published_at() -> str:
    """Address where the software is published, as its package states it; empty where it states none."""
    urls = metadata("deidlib").get_all("Project-URL") or []
    return next((url.partition(",")[2].strip() for url in urls), "")


def datasheet(summary: Summary) -> str:
    """Markdown of the datasheet: the questions of Gebru et al. (2021), answered where the run knows the answer."""
    return templates.render(
        "datasheet.md.j2",
        summary=summary,
        settings=dict(redact.flat_config(summary.config)),
    )


def read_card(text: str) -> dict:
    """Read what deidlib wrote into a data card's front matter.

    Returns
    -------
    dict
        ``version, date, photographs, patients, quarantined, tombstones, k_anonymity, content_digest`` and what else is
        there.

    Raises
    ------
    ValueError
        The text has no front matter of deidlib's, or its first sentence states other counts.
    """
    parts = text.split("---\n", 2)
    try:
        if len(parts[1]) > _FRONT_MATTER_LENGTH:
            raise ValueError
        summary = yaml.load(parts[1], _PlainLoader)["deidlib"]  # a SafeLoader
    except (LookupError, TypeError, ValueError, RecursionError, yaml.YAMLError):
        raise InputError("the card has no front matter of deidlib's") from None
    if not (isinstance(summary, dict) and all(_is_plain(value) for value in summary.values())):
        raise InputError("the card's front matter holds something else than numbers and texts")
    if counts_sentence(summary) not in parts[2]:
        raise InputError("the card's text and its front matter state different counts")
    return summary


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) < 10**12)


class _PlainLoader(yaml.SafeLoader):
    """Reads what deidlib writes: no anchors, which can stand for any amount of text, and little nesting."""

    def compose_node(self, parent, index):
        """Compose a node, unless it is an alias or lies too deep."""
        self._depth = getattr(self, "_depth", 0) + 1
        if self._depth > 12 or self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases and deep nesting are not read")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _front_matter(summary: Summary) -> str:
    known = summary.licence.lower() in _HF_LICENCES
    sizes = (size for limit, size in _SIZES if summary.counts["photographs"] < limit)
    configs = [{"config_name": "index", "data_files": INDEX_FILE, "default": True}]
    if summary.embedded:
        images = {"config_name": "images", "data_files": f"{EMBEDDED_FOLDER}/*.parquet", "default": True}
        configs = [images, {"config_name": "index", "data_files": INDEX_FILE}]
    matter = {
        "pretty_name": summary.name,
        "license": summary.licence.lower() if known else "other",
        **({} if known else {"license_name": summary.licence}),
        "task_categories": ["image-classification", "image-feature-extraction"],
        "tags": ["medical", "dentistry", "orthodontics", "de-identified", "face", "image"],
        "size_categories": [next(sizes, "n>10M")],
        "configs": configs,
        "deidlib": {
            "version": summary.version,
            "date": summary.date,
            **summary.counts,
            "k_anonymity": summary.k_claim["k"],
            "content_digest": summary.content_digest,
            "made_with": summary.deidlib_version,
        },
    }
    return yaml.safe_dump(matter, sort_keys=False, allow_unicode=True, width=1000)
