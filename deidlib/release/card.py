"""The data card: ``README.md`` of a release, with the front matter that Hugging Face reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version as package_version

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from deidlib import tables
from deidlib.release import public

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

#: Blocks of the configuration that tell a recipient how the images were made (the audit lists all of them).
_SETTINGS = frozenset(
    ["generator", "preserve", "identity", "attempts", "landmarks", "views", "regions", "blending", "checks", "release"]
)


def data_card(index: pa.Table, reasons: Mapping[str, int], version: str, config: dict, models: list[dict]) -> str:
    """Markdown of the data card, from the facts of this run only.

    Parameters
    ----------
    index : pa.Table
        The release's index.
    reasons : mapping
        Reason code → number of quarantined photographs.
    version, config, models
        As for :func:`deidlib.release.write_release`; the configuration is printed without paths and key file.
    """
    options = config.get("release", {})
    name = options.get("name") or "De-identified dental photographs"
    licence = options.get("licence") or "not stated"
    patients = Counter(index["release_patient_id"].to_pylist())
    counts = {"photographs": index.num_rows, "patients": len(patients), "quarantined": sum(reasons.values())}
    return public.render(
        "datacard.md.j2",
        front_matter=_front_matter(name, licence, version, counts),
        name=name,
        licence=licence,
        version=version,
        counts=counts,
        sentence=_sentence(counts),
        per_patient=config.get("identity", "per_patient") == "per_patient",
        several=sum(1 for n in patients.values() if n > 1),
        reasons=[(code, n, tables.REASONS.get(code, "")) for code, n in sorted(reasons.items())],
        views=_tally(index, "view"),
        timepoints=_tally(index, "timepoint"),
        routes=_tally(index, "route"),
        methods=_tally(index, "region_method"),
        attempts=_tally(index, "attempt"),
        sides=sorted(index["width"].to_pylist()),
        standard_columns=len(tables.INDEX),
        columns=[(f.name, str(f.type), _meta(f, "description"), _meta(f, "unit")) for f in index.schema],
        models=public.public_models(models),
        settings=[(key, value) for key, value in public.flat_config(config) if key.split(".")[0] in _SETTINGS],
        config_digest=public.config_digest(config),
        checks=config.get("checks", {}),
        worst={
            "sface": pc.max(index["sface_cosine"]).as_py(),
            "dlib": pc.min(index["dlib_distance"]).as_py(),
        },
        deidlib_version=package_version("deidlib"),
    )


def read_counts(text: str) -> dict:
    """Read ``photographs``, ``patients``, ``quarantined`` and ``version`` from a data card's front matter.

    Raises
    ------
    ValueError
        The text has no front matter of deidlib's, or its first sentence states other counts.
    """
    parts = text.split("---\n", 2)
    try:
        facts = yaml.safe_load(parts[1])["deidlib"]
    except (IndexError, KeyError, TypeError, yaml.YAMLError):
        raise ValueError("the card has no front matter of deidlib's") from None
    if not isinstance(facts, dict) or _sentence(facts) not in parts[2]:
        raise ValueError("the card's text and its front matter state different counts")
    return facts


def _sentence(facts: Mapping) -> str:
    photographs, patients = facts.get("photographs"), facts.get("patients")
    many, several = "s" * (photographs != 1), "s" * (patients != 1)
    return f"**{photographs} photograph{many}** of **{patients} patient{several}**"


def _front_matter(name: str, licence: str, version: str, counts: dict) -> str:
    known = licence.lower() in _HF_LICENCES
    matter = {
        "pretty_name": name,
        "license": licence.lower() if known else "other",
        **({} if known else {"license_name": licence}),
        "task_categories": ["image-classification", "image-feature-extraction"],
        "tags": ["medical", "dentistry", "orthodontics", "de-identified", "face", "image"],
        "size_categories": [next((size for limit, size in _SIZES if counts["photographs"] < limit), "n>10M")],
        "configs": [{"config_name": "default", "data_files": "index.parquet"}],
        "deidlib": {"version": version, **counts},
    }
    return yaml.safe_dump(matter, sort_keys=False, allow_unicode=True, width=1000)


def _tally(index: pa.Table, column: str) -> list[tuple[str, int]]:
    counts = Counter("not stated" if value is None else str(value) for value in index[column].to_pylist())
    return sorted(counts.items())


def _meta(field: pa.Field, key: str) -> str:
    return (field.metadata or {}).get(key.encode(), b"").decode()
