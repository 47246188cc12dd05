"""Attacks by side channels: metadata, order, file times, sizes, perceptual hashes and published numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import spearmanr

from deidlib.reid.attack import Attack, attack_from_trials
from deidlib.reid.embeddings import Faces
from deidlib.reid.search import alikeness

#: Most photographs that are tried; from a larger release, this number is drawn.
MOST = 5000
#: The same for an attack that compares each photograph with every other one.
MOST_PAIRED = 2000
#: Numeric columns that the image file itself shows: they are the size's side channel.
SHOWN_BY_THE_IMAGE = ("width", "height")


@dataclass(frozen=True)
class Photo:
    """What the suite needs of a photograph in addition to its embeddings.

    Attributes
    ----------
    photo, patient : str
        Pseudonyms.
    row : int
        Line in the sample sheet.
    released : bool
        Whether it is, or would be, released.
    side : int or None
        Side in pixels of the square that its face defines; the released image has this side.
    donor : str or None
        Identity of its new person.
    generated : bool
        Whether it has a new person; photographs of the routes region_only and intraoral have none.
    clean : bool or None
        Whether the image file holds pixels and nothing else; None: not known.
    time : float or None
        Modification time of the released file, where there is one.
    timepoint : str or None
        Of the photograph.
    numbers : mapping
        Columns of an index that follow from the original alone → their values.
    published : mapping
        Numeric columns of the release's index → their values for this photograph.
    """

    photo: str
    patient: str
    row: int
    released: bool
    side: int | None = None
    donor: str | None = None
    generated: bool = True
    clean: bool | None = None
    time: float | None = None
    timepoint: str | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    published: Mapping[str, float | None] = field(default_factory=dict)


def metadata_attack(photos: Sequence[Photo], rng: np.random.Generator) -> Attack:
    """Count released image files that hold anything besides pixels."""
    released = [photo for photo in photos if photo.released]
    return attack_from_trials(
        [photo.clean is not True for photo in released],
        [photo.patient for photo in released],
        rng,
        name="side_channel_metadata",
        title="Metadata in image files",
        recogniser=None,
        region="whole",
        chance=None,
        explanation=(
            "Image files can carry a camera's serial number, a date, a place, a name or a thumbnail of the original. "
            "A hit is a released file that holds anything besides pixels, or whose content is not known."
        ),
    )


def order_attacks(photos: Sequence[Photo], rng: np.random.Generator) -> list[Attack]:
    """Guess a photograph's line of the sample sheet from the order of the release, and from that of file times."""
    released = sorted((p for p in photos if p.released), key=lambda p: (p.patient, p.photo))
    attacks = [
        _order_attack("side_channel_order", "Order of the index", "the release's index lists them", released, rng)
    ]
    times = [photo.time for photo in released]
    if released and None not in times:
        where = "their files were written (modification times)"
        ordered = [] if len(set(times)) == 1 else sorted(released, key=lambda p: p.time)
        attacks.append(_order_attack("side_channel_times", "Order of the files' times", where, ordered, rng, released))
    return attacks


def _order_attack(
    name: str, title: str, where: str, ordered: list[Photo], rng: np.random.Generator, every: list[Photo] | None = None
) -> Attack:
    """``ordered`` is empty where all photographs, ``every``, carry one mark, so that there is no order to use."""
    every = ordered if every is None else every
    n = len(every)
    rows = np.array([photo.row for photo in ordered])
    hits = np.argsort(np.argsort(rows, kind="stable")) == np.arange(len(rows))
    found = spearmanr(rows, np.arange(len(rows))) if len(rows) > 2 else None
    said = (
        f"All {n:,} carry the same time, so there is no order to use."
        if n and not len(ordered)
        else f"Spearman's rank correlation of the two orders is {found.statistic:.2f} (p = {found.pvalue:.2g})."
        if found is not None
        else "There are too few photographs to correlate the orders."
    )
    tried = hits if len(ordered) else np.zeros(n, bool)
    patients = [photo.patient for photo in ordered or every]
    return attack_from_trials(
        list(tried),
        patients,
        rng,
        name=name,
        title=title,
        recogniser=None,
        region="whole",
        chance=1 / n if n else None,
        explanation=(
            "The attacker has the sample sheet's order (for example, patients by date of admission) and takes the "
            f"order in which {where} for the same. A hit is a photograph at the same place in both. {said}"
        ),
    )


def size_attack(photos: Sequence[Photo], rng: np.random.Generator) -> Attack:
    """Match released images to originals by their size in pixels alone."""
    known = _drawn([photo for photo in photos if photo.side is not None], rng)
    sides = np.array([photo.side for photo in known], float)
    probes = [i for i, photo in enumerate(known) if photo.released]
    hits = [_nearest(np.abs(sides - sides[i]), rng) == i for i in probes]
    return attack_from_trials(
        hits,
        [known[i].patient for i in probes],
        rng,
        name="side_channel_size",
        title="Size of the image",
        recogniser=None,
        region="whole",
        chance=1 / len(known) if known else None,
        explanation=(
            "Released images keep the photograph's own pixel grid, so their size follows from where the face lay in "
            "the original. The attacker holds all original files, computes each one's size as this software does, "
            "and picks the original of the same size (at random where several have it). A high rate means that "
            "sizes differ from photograph to photograph. Somebody with the very file could also compare the "
            "preserved pixels; with another photograph of the patient the size says nothing."
        ),
    )


@dataclass(frozen=True)
class Similarity:
    """Embeddings by which an attacker computes a similarity that an index publishes.

    Attributes
    ----------
    released, originals : Faces
        Embeddings by one recogniser.
    same_above : bool
        Whether a higher score is more alike.
    """

    released: Faces
    originals: Faces
    same_above: bool

    def to_patients(self, photo: str, patients: Sequence[str]) -> np.ndarray:
        """Most alike score of a released photograph with each patient's originals; nan where there is none."""
        (place,) = np.nonzero(self.released.photos == photo)
        if not len(place):
            return np.full(len(patients), np.nan)
        scores = alikeness(self.released.vectors[place[:1]], self.originals.vectors, self.same_above)[0]
        people, whose = np.unique(self.originals.patients, return_inverse=True)
        best = np.full(len(people), -np.inf)
        np.maximum.at(best, whose, scores)
        best_of = dict(zip(people.tolist(), (best if self.same_above else -best).tolist(), strict=True))
        return np.array([best_of.get(patient, np.nan) for patient in patients])


def published_numbers_attack(
    photos: Sequence[Photo], similarities: Mapping[str, Similarity], rng: np.random.Generator
) -> Attack:
    """Match the index's rows to originals by the numbers that it publishes.

    Parameters
    ----------
    photos : sequence of Photo
        Every photograph, with ``numbers`` and ``published``.
    similarities : mapping
        Column of the index that holds a likeness to the patient → how an attacker computes it.
    rng : Generator
        Draws photographs, and among originals that fit equally well.
    """
    known = _drawn([photo for photo in photos if photo.numbers or photo.released], rng, MOST_PAIRED)
    probes = [i for i, photo in enumerate(known) if photo.released]
    columns = sorted({name for i in probes for name in known[i].published} - set(SHOWN_BY_THE_IMAGE))
    used = [name for name in columns if name in similarities or any(name in photo.numbers for photo in known)]
    patients = [photo.patient for photo in known]
    fixed = {name: np.array([photo.numbers.get(name, np.nan) for photo in known], float) for name in used}
    hits = []
    for i in probes:
        apart = np.zeros(len(known))
        for name in used:
            value = known[i].published.get(name)
            if value is None or not np.isfinite(value):
                continue
            own = similarities[name].to_patients(known[i].photo, patients) if name in similarities else fixed[name]
            difference = np.abs(own - value)
            apart += np.nan_to_num(difference / max(float(np.nanstd(own)), 1e-9), nan=np.inf)
        hits.append(patients[_nearest(np.round(apart, 6), rng)] == patients[i])
    count = Counter(patients)
    said = (
        f"Used are the columns {', '.join(used)}."
        if used
        else "The index publishes no such column, so the attacker picks at random."
    )
    return attack_from_trials(
        hits,
        [patients[i] for i in probes],
        rng,
        name="side_channel_numbers",
        title="Published numbers",
        recogniser=None,
        region="whole",
        chance=float(np.mean([count[patients[i]] / len(known) for i in probes])) if probes else None,
        explanation=(
            "The attacker holds all originals, computes for each every number that the index publishes and that "
            "follows from an original (the image's size, which the file shows, is tried apart), and picks the original "
            f"whose numbers are nearest. A hit is an original of the patient. {said}"
        ),
    )


def hash_attack(released: Faces, squares: Faces, rng: np.random.Generator) -> Attack:
    """Match released images to originals by a perceptual hash, as image search engines do."""
    entries = rng.permutation(len(squares))[:MOST]
    place = {squares.photos[entry]: i for i, entry in enumerate(entries)}
    probes = [i for i, photo in enumerate(released.photos) if photo in place]
    gallery = squares.vectors[entries]
    hits = [
        _nearest(np.abs(gallery - released.vectors[i]).sum(axis=1), rng) == place[released.photos[i]] for i in probes
    ]
    return attack_from_trials(
        hits,
        released.patients[probes] if probes else [],
        rng,
        name="side_channel_hash",
        title="Perceptual hash",
        recogniser=None,
        region="whole",
        chance=1 / len(entries) if len(entries) else None,
        explanation=(
            "A perceptual hash sums an image up in 64 bits of its coarse light and dark, and finds copies of a "
            "picture, not people. The attacker holds all originals, cut as the released images are, and picks the "
            "one whose hash is nearest. Pose, light and framing are the photograph's own, so a rate above chance is "
            "to be expected; it finds the very photograph only, not another one of the patient."
        ),
    )


def _drawn(photos: list[Photo], rng: np.random.Generator, most: int = MOST) -> list[Photo]:
    return photos if len(photos) <= most else [photos[i] for i in sorted(rng.permutation(len(photos))[:most])]


def _nearest(distances: np.ndarray, rng: np.random.Generator) -> int:
    """The nearest entry; of those that tie, one that is drawn."""
    return int(rng.choice(np.flatnonzero(distances == distances.min())))
