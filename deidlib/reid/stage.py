"""The stage ``reid``: runs every attack on a cohort, and gives the content of ``attacks.json``."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from deidlib.compute import pin_order
from deidlib.config import stage_options
from deidlib.errors import DeidlibError
from deidlib.models import recognisers
from deidlib.reid.cohort import Cohort, embeddings_of
from deidlib.reid.distractors import bank_faces, gallery_faces
from deidlib.reid.mouths import seen_mouths
from deidlib.reid.parrot import parrot_attacks
from deidlib.reid.price import price
from deidlib.reid.restored import reversal
from deidlib.reid.shared import digest_of_inputs, planned_searches, read_parts, write_part
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
    searches: Sequence[Path] = (),
    processes: int = 1,
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
    searches : sequence of Path
        What :func:`search` wrote, of every job; without any, all searches are done here.
    processes : int
        Recognisers that attack at a time, each in a process of its own if there are several.

    Returns
    -------
    dict
        What :func:`deidlib.reid.suite.run_suite` gives, and ``tradeoff, price, inputs``.
    """
    options, names = cfg["reid"], cfg["reid"]["recognisers"]
    evidence, bank_sum = _evidence(private, cohort, cfg, gallery)
    about, crowd, inversion = evidence.recognisers, evidence.gallery, stage_options(cfg, "inversion")
    if searches:
        evidence.compare = read_parts(searches, _searched(cohort.inputs, bank_sum, evidence, options))
    more = [partial(parrot_attacks, fmr=options["fmr"], seed=options["seed"])]
    if options["reversal_steps"]:
        more.append(reversal(private, cohort.photos, cohort.attempts, shards, encoded, options))
    mouths = seen_mouths(private, cohort.photos, cohort.attempts, shards, encoded)
    teeth = teeth_attacks(mouths, np.random.default_rng([options["seed"], 9]))
    with side_by_side(min(processes, len(names))) as each:
        result = run_suite(evidence, options, cfg["identity"], more, teeth, each)

    swept = swept or {}
    measured = result["calibration"], {name: about[name]["same_above"] for name in names}, options["seed"]
    result["tradeoff"] = tradeoff(swept.get("rows", []), cfg["preserve"], inversion["identity_weight"], *measured)
    result["price"] = price(swept.get("price", []), result["attacks"], cfg["preserve"], *measured)
    result["words"] += words(result["tradeoff"])
    result["inputs"] = {**cohort.inputs, "bank": bank_sum}
    if crowd:
        result["inputs"]["gallery faces"] = {name: len(vectors) for name, vectors in crowd.items()}
    return result


def search(
    private: Path,
    shards: list[str],
    cfg: Mapping[str, Any],
    gallery: Path | None,
    inputs: Mapping[str, str],
    part: tuple[int, int],
    out: Path,
) -> int:
    """Count a part of the searches among all originals, for a cohort whose searches several jobs share.

    Parameters
    ----------
    private, shards, cfg, gallery
        As for :func:`attack`.
    inputs : mapping
        From :func:`deidlib.reid.cohort.digests_of_embeddings`.
    part : (int, int)
        Number of the part, from 0, and how many there are.
    out : Path
        Table to write, ``tables.SEARCHES``.

    Returns
    -------
    int
        Searches of single probes that were done.
    """
    cohort = Cohort([], {}, partial(embeddings_of, private, shards), {}, dict(inputs))
    evidence, bank_sum = _evidence(private, cohort, cfg, gallery)
    same_above = {name: about["same_above"] for name, about in evidence.recognisers.items()}
    others = {name: evidence.distractors(name) for name in same_above}
    planned = planned_searches(evidence.embeddings, same_above, others, cfg["reid"]["seed"])
    return write_part(out, planned, part, _searched(inputs, bank_sum, evidence, cfg["reid"]))


@contextmanager
def side_by_side(processes: int) -> Iterator[Callable[..., Iterable]]:
    """``map``, or the same in so many processes at a time; DeidlibError if the system ends one of these."""
    if processes <= 1:
        yield map
        return
    try:
        with ProcessPoolExecutor(processes, get_context("spawn"), _begin) as pool:
            yield pool.map
    except BrokenProcessPool:
        raise DeidlibError(
            "a process that attacked with one recogniser was ended from outside, as happens when memory runs out: give "
            "the rule reid more memory, or fewer threads, so that fewer recognisers attack at a time"
        ) from None


def _begin() -> None:
    """Start a process of its own: it ends with the one that started it, which may be killed without a word."""
    pin_order()
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _evidence(private: Path, cohort: Cohort, cfg: Mapping[str, Any], gallery: Path | None) -> tuple[Evidence, str]:
    """Data of the attacks, and the digest of the donor bank."""
    names, known = cfg["reid"]["recognisers"], recognisers()
    bank, bank_sum = bank_faces(cfg["generator"], names)
    crowd = gallery_faces(Path(gallery), names, known, Results(private).gallery) if gallery else {}
    inversion = stage_options(cfg, "inversion")
    about = {name: {**known[name], **measure_of(name), "role": role_of(name, inversion)} for name in names}
    return Evidence(cohort.photos, cohort.embeddings, about, bank, crowd, cohort.risk), bank_sum


def _searched(inputs: Mapping[str, str], bank_sum: str, evidence: Evidence, options: Mapping[str, Any]) -> str:
    """Digest of everything that the numbers of the searches depend on."""
    about = {name: digest for name, digest in inputs.items() if name.startswith("embeddings ")}
    about |= {f"recogniser {name}": known["sha256"] for name, known in evidence.recognisers.items()}
    about |= {
        f"gallery {name}": hashlib.sha256(vectors.tobytes()).hexdigest() for name, vectors in evidence.gallery.items()
    }
    return digest_of_inputs(about | {"bank": bank_sum, "seed": str(options["seed"])})
