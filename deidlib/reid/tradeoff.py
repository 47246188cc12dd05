"""Privacy against utility: what larger and smaller preserved areas, and other weights of the identity loss, give away.

A sample of the photographs that would be released is inverted and blended again with other settings, and recognisers
compare the results with the patients' originals. At the release's own settings the released images are taken as they
are. Inversions of the sweep are short (:data:`STEPS`), for a figure and not for a release. Other areas go on from the
code of what is released, with half of these steps. Other weights start at the donor: the code of what is released has
been led away from the patient, and a few steps without the identity loss do not undo that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deidlib.blending.composite import blend_faces
from deidlib.config import stage_options
from deidlib.inversion.going_on import from_their_donors
from deidlib.regions.area import cut_region, preserve_regions, preserved_area
from deidlib.reid.attack import interval
from deidlib.reid.calibration import reaches
from deidlib.reid.embeddings import Faces, embed_renderings, renderings
from deidlib.reid.price import PRICED
from deidlib.storage import tables
from deidlib.storage.images import decode_png
from deidlib.vision.recognisers import Recogniser

if TYPE_CHECKING:
    from deidlib.inversion.objective import Networks

#: Preserved area of the sweep → method of ``preserve``, and its margin in inter-ocular distances (None: as configured).
AREAS: dict[str, tuple[str, float | None]] = {
    "teeth": ("teeth", None),
    "mouth": ("mouth", None),
    "mouth_margins": ("mouth", 0.3),
    "lower_face": ("lower_face", None),
}
#: Share of the configured steps that an inversion of the sweep takes, from the donor.
STEPS = 0.5


def settings_to_sweep(preserve: str, weight: float) -> list[tuple[str, float]]:
    """(preserved area, weight of the identity loss): the other areas; this one without that loss and with more."""
    others = (0.0, 2 * weight) if weight else (0.5, 1.0)
    return [(area, weight) for area in AREAS if area != preserve] + [(preserve, other) for other in others]


def draw_sample(candidates: Sequence[tuple[str, str]], n: int) -> list[str]:
    """Choose photographs for the sweep: one of each patient before a second of any, by their keyed pseudonyms.

    Parameters
    ----------
    candidates : sequence of (release_photo_id, release_patient_id)
        Photographs that would be released and have a donor.
    n : int
        How many are wanted.
    """
    turn: dict[str, int] = {}
    order = []
    for photo, patient in sorted(candidates):
        turn[patient] = turn.get(patient, 0) + 1
        order.append((turn[patient], photo))
    return [photo for _, photo in sorted(order)[:n]]


def sweep_shard(
    photos: pa.Table,
    landmarks: pa.Table,
    donors: pa.Table,
    networks: Networks,
    recognisers: Sequence[Recogniser],
    originals: Mapping[str, Faces],
    config: Mapping,
    workers: int = 1,
    progress: Callable[[], None] | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Make and judge the sampled photographs of one shard with every other setting.

    Parameters
    ----------
    photos, landmarks, donors : Table
        Rows of the sampled photographs; none has a mask of its own. Donors with a ``start`` (the code of what is
        released) go on from there where the area is another.
    networks : Networks
        As :func:`deidlib.inversion.faces.invert_faces` takes them.
    recognisers : sequence
        Recognisers that score the results.
    originals : mapping
        Recogniser → embeddings of all originals of these patients.
    config : mapping
        The configuration.
    workers : int
        As :func:`deidlib.inversion.faces.invert_faces` takes them.
    progress : callable, optional
        Called once a setting and photograph.

    Returns
    -------
    rows : list of dict
        ``preserve, identity_weight, recogniser, photo, patient, score, share``; a score is None where no face was
        found.
    seen : list of dict
        Embeddings of the other areas' results and originals, as :func:`deidlib.reid.price.price_rows` takes them.
    """
    from deidlib.inversion.faces import invert_faces  # with the inversion's libraries, which the attacks do not need

    patient_of = dict(
        zip(*(photos[name].to_pylist() for name in ("release_photo_id", "release_patient_id")), strict=True)
    )
    rows, seen = [], []
    original_of = dict(zip(*(photos[name].to_pylist() for name in ("release_photo_id", "image")), strict=True))
    configured = stage_options(config, "inversion")
    for area, weight in settings_to_sweep(config["preserve"], configured["identity_weight"]):
        method, margin = AREAS[area]
        options = stage_options(config, "regions") | ({} if margin is None else {"margin": margin})
        regions = preserve_regions(photos, landmarks, method, options)
        fitting = tables.handled(regions)
        wanted = donors.filter(pc.is_in(donors["release_photo_id"], fitting["release_photo_id"].combine_chunks()))
        if area == config["preserve"]:
            wanted = from_their_donors(wanted)
        inversion = short(configured) | {"identity_weight": weight}
        step = (lambda n: [progress() for _ in range(n)]) if progress else None
        part = photos, landmarks, regions, wanted
        faces = pa.concat_tables(
            [tables.FACES.empty_table(), *invert_faces([part], networks, inversion, workers, step)]
        )
        region_of = {row["release_photo_id"]: row for row in fitting.to_pylist()}
        for row in blend_faces(photos, landmarks, regions, faces, stage_options(config, "blending")).to_pylist():
            photo = row["release_photo_id"]
            image, region = decode_png(row["image"]), region_of[photo]
            share = preserved_share(region)
            about = {"preserve": area, "identity_weight": weight, "photo": photo, "patient": patient_of[photo]}
            for recogniser in recognisers:
                vector = recogniser.embed(image)
                score = None if vector is None else likeness(vector, about["patient"], originals, recogniser)
                rows.append(about | {"recogniser": recogniser.name, "score": score, "share": share})
            if area in PRICED and area != config["preserve"]:
                key = {name: about[name] for name in ("preserve", "photo", "patient")}
                seen += _seen(image, decode_png(original_of[photo]), region, recognisers, key)
    return rows, seen


def _seen(
    released: np.ndarray, original: np.ndarray, region: Mapping, recognisers: Sequence[Recogniser], about: Mapping
) -> list[dict[str, Any]]:
    """Embeddings of a result, whole, by the area alone and by everything else, and of its original's square."""
    square = np.ascontiguousarray(cut_region(original, dict(region))[0])
    pictures = renderings(released, preserved_area(decode_png(region["core"]), decode_png(region["band"])))
    found = []
    for recogniser in recognisers:
        shown = [("released" + suffix, vector) for suffix, vector in embed_renderings(pictures, recogniser, square)]
        shown += [("square", vector) for _, vector in embed_renderings({"": square}, recogniser)]
        found += [{**about, "recogniser": recogniser.name, "shown": name, "vector": v} for name, v in shown]
    return found


def short(inversion: Mapping) -> dict[str, Any]:
    """Settings of an inversion of the sweep."""
    return dict(inversion) | {"steps": max(1, round(STEPS * inversion["steps"]))}


def preserved_share(region: Mapping) -> float:
    """Share of the released square that is the patient's own."""
    return region["core_pixels"] / region["crop_side"] ** 2


def likeness(vector: np.ndarray, patient: str, originals: Mapping[str, Faces], recogniser: Recogniser) -> float | None:
    """Most alike score of an embedding with the patient's originals; None where none of them has a face."""
    known = originals[recogniser.name]
    scores = [recogniser.compare(vector, other) for other in known.vectors[known.patients == patient]]
    return (max if recogniser.same_above else min)(scores) if scores else None


def released_rows(
    released: Faces,
    originals: Mapping[str, Faces],
    recogniser: Recogniser,
    shares: Mapping[str, float],
    config: Mapping,
) -> list[dict[str, Any]]:
    """Rows of the release's own settings, from the embeddings of the released images of the sample.

    Parameters
    ----------
    released : Faces
        Embeddings by ``recogniser`` of the released images.
    shares : mapping
        Sampled photograph → its preserved share.
    originals, recogniser, config
        As for :func:`sweep_shard`.
    """
    weight = stage_options(config, "inversion")["identity_weight"]
    about = {"preserve": config["preserve"], "identity_weight": weight, "recogniser": recogniser.name}
    return [
        about
        | {
            "photo": str(photo),
            "patient": str(patient),
            "score": likeness(vector, patient, originals, recogniser),
            "share": shares[photo],
        }
        for photo, patient, vector in zip(released.photos, released.patients, released.vectors, strict=True)
        if photo in shares
    ]


def words(entries: Sequence[Mapping]) -> list[str]:
    """Explain the figure in plain words; empty where there is none."""
    if not entries:
        return []
    most = max(entry["trials"] for entry in entries)
    return [
        f"Privacy against utility: {most:,} photographs were made again with other preserved areas and with other "
        "weights of the identity loss, and compared with all originals of the patient; the most alike counts. They "
        "were made with fewer steps than a release takes, other areas from the released face on, which has passed the "
        "checks. At the operating point the released images were compared. "
        "Photographs without such an area (closed lips show no teeth) are left out of its counts. With so few "
        "photographs look at the mean scores rather than at the rates."
    ]


def tradeoff(
    rows: Sequence[Mapping],
    preserve: str,
    weight: float,
    calibration: Sequence[Mapping],
    same_above: Mapping,
    seed: int,
) -> list[dict[str, Any]]:
    """Entries of ``tradeoff`` in ``attacks.json``: a rate and a mean score for every setting and recogniser.

    Parameters
    ----------
    rows : sequence of mapping
        What :func:`sweep_shard` and :func:`released_rows` gave.
    preserve, weight
        The release's own settings.
    calibration : sequence of mapping
        Entries of ``calibration``: the threshold of each recogniser.
    same_above : mapping
        Recogniser → whether a higher score is more alike.
    seed : int
        Of the bootstrap.
    """
    threshold = {entry["recogniser"]: entry["threshold"] for entry in calibration}
    order = [(preserve, weight), *settings_to_sweep(preserve, weight)]
    entries = []
    for area, other in sorted(order, key=lambda point: (list(AREAS).index(point[0]), point[1])):
        for name in threshold:
            found = [
                row
                for row in rows
                if (row["preserve"], row["identity_weight"], row["recogniser"]) == (area, other, name)
                and row["score"] is not None
            ]
            if not found:
                continue
            scores = np.array([row["score"] for row in found])
            hit = reaches(scores, threshold[name], same_above[name])
            rng = np.random.default_rng([seed, *name.encode(), 4])
            entries.append(
                {
                    "preserve": area,
                    "identity_weight": other,
                    "preserved_share": round(float(np.mean([row["share"] for row in found])), 6),
                    "recogniser": name,
                    "rate": float(hit.mean()),
                    "hits": int(hit.sum()),
                    "trials": len(found),
                    "ci95": list(interval(hit, [row["patient"] for row in found], rng)),
                    "mean_score": round(float(scores.mean()), 6),
                    "operating_point": (area, other) == (preserve, weight),
                }
            )
    return entries
