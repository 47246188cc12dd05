"""The stage ``reid``: runs every attack on a cohort, and gives the content of ``attacks.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deidlib.config import stage_options
from deidlib.models import recognisers
from deidlib.reid.cohort import Cohort
from deidlib.reid.distractors import bank_faces, gallery_faces
from deidlib.reid.mouths import seen_mouths
from deidlib.reid.parrot import parrot_attacks
from deidlib.reid.price import price
from deidlib.reid.restored import reversal
from deidlib.reid.suite import Evidence, role_of, run_suite
from deidlib.reid.teeth import teeth_attacks
from deidlib.reid.tradeoff import tradeoff, words
from deidlib.storage.results import Results
from deidlib.vision.networks import measure_of


def attack(
    private: Path,
    shards: list[str],
    cohort: Cohort,
    cfg: Mapping[str, Any],
    gallery: Path | None = None,
    swept: Mapping[str, Any] | None = None,
    encoded: Callable[[str], bytes] | None = None,
) -> dict[str, Any]:
    """Attack a cohort with every recogniser of the configuration, and judge the results by the release gate.

    Parameters
    ----------
    private : Path
        The results' private folder.
    shards : list of str
        Names of the shards.
    cohort : Cohort
        The target: what would be released, or a finished release.
    cfg : mapping
        The whole configuration.
    gallery : Path, optional
        Folder of photographs of other people.
    swept : mapping, optional
        What `deidlib sweep` wrote: ``rows`` and ``price``.
    encoded : callable, optional
        ``release_photo_id`` → encoded image of a finished release; else the images of the shards' tables are used.

    Returns
    -------
    dict
        What :func:`deidlib.reid.suite.run_suite` gives, and ``tradeoff, price, inputs``.
    """
    options, names, known = cfg["reid"], cfg["reid"]["recognisers"], recognisers()
    bank, bank_sum = bank_faces(cfg["generator"], names)
    crowd = gallery_faces(Path(gallery), names, known, Results(private).gallery) if gallery else {}
    inversion = stage_options(cfg, "inversion")
    about = {name: {**known[name], **measure_of(name), "role": role_of(name, inversion)} for name in names}
    evidence = Evidence(cohort.photos, cohort.embeddings, about, bank, crowd, cohort.risk)
    more = [lambda attacker: parrot_attacks(attacker, options["fmr"], options["seed"])]
    if options["reversal_steps"]:
        more.append(reversal(private, cohort.photos, cohort.attempts, shards, encoded, options))
    mouths = seen_mouths(private, cohort.photos, cohort.attempts, shards, encoded)
    teeth = teeth_attacks(mouths, np.random.default_rng([options["seed"], 9]))
    result = run_suite(evidence, options, cfg["identity"], more, teeth)

    swept = swept or {}
    measured = result["calibration"], {name: about[name]["same_above"] for name in names}, options["seed"]
    result["tradeoff"] = tradeoff(swept.get("rows", []), cfg["preserve"], inversion["identity_weight"], *measured)
    result["price"] = price(swept.get("price", []), result["attacks"], cfg["preserve"], *measured)
    result["words"] += words(result["tradeoff"])
    result["inputs"] = {**cohort.inputs, "bank": bank_sum}
    if crowd:
        result["inputs"]["gallery faces"] = {name: len(vectors) for name, vectors in crowd.items()}
    return result
