"""Reversal attack: a network that learned from other patients to restore the original face (Todt et al. 2022).

After Fantômas (arXiv 2210.10651): a small U-Net is trained on (released, original) pairs of half of the patients, in
the aligned frame. It restores the released photographs of the other half, and recognisers attack the restored faces.
Then the halves change places, so that no photograph is restored by a network that saw its patient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from deidlib.reid.attack import Attack, learned_on_some
from deidlib.reid.attacker import Attacker
from deidlib.reid.embeddings import Faces, embed_renderings
from deidlib.reid.face_restoring import train
from deidlib.reid.identification import search
from deidlib.reid.parrot import FEWEST, first_of_halves, halves, of_photos, same_look_of_halves
from deidlib.reid.verification import best_of_patient
from deidlib.vision.alignment import align_photo
from deidlib.vision.recognisers import Recogniser

SIDE = 128  # px; the aligned frame in which faces are restored
#: Most photographs for training and attack.
MOST_PHOTOS = 2000
_SHOWN_SIDE = 256  # px; recognisers' detectors miss smaller faces


@dataclass(frozen=True)
class Pairs:
    """Photographs in the aligned frame.

    Attributes
    ----------
    photos, patients : ndarray, (N,), str
        Pseudonyms.
    released, originals : ndarray, (N, SIDE, SIDE, 3), uint8
        As released, and as they were.
    """

    photos: np.ndarray
    patients: np.ndarray
    released: np.ndarray
    originals: np.ndarray

    def __len__(self) -> int:
        return len(self.photos)


@dataclass(frozen=True)
class Restored:
    """Faces that the networks restored, of patients that were not in their training data.

    Attributes
    ----------
    pairs : Pairs
        The photographs.
    images : ndarray, (N, SIDE, SIDE, 3), uint8
        Restored.
    half : ndarray, (N,), int
        The half that each belongs to; it was restored by the network of the other.
    """

    pairs: Pairs
    images: np.ndarray
    half: np.ndarray

    def errors(self) -> tuple[float, float]:
        """Mean absolute difference from the originals in grey levels: of the released images, and of the restored."""
        return tuple(
            float(
                np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(images, self.pairs.originals, strict=True)])
            )
            for images in (self.pairs.released, self.images)
        )


def aligned_pair(
    original: np.ndarray, released: np.ndarray, aligned_to_native: np.ndarray, left: int, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bring a native photograph and its released square, whose corner is (left, top), to the aligned frame."""
    to_square = aligned_to_native - np.array([[0, 0, left], [0, 0, top]])
    return align_photo(original, aligned_to_native, SIDE), align_photo(released, to_square, SIDE)


def restore_unseen(pairs: Pairs, steps: int, seed: int, progress: Callable[[], None] | None = None) -> Restored | None:
    """Restore every photograph by a network that was trained on the other half of the patients.

    The two are trained at the same time, in a thread each. ``progress`` may be called from either.

    Returns
    -------
    Restored or None
        None where a half has fewer than :data:`deidlib.reid.parrot.FEWEST` patients.
    """
    if len(np.unique(pairs.patients)) < 2 * FEWEST:
        return None
    half = halves(pairs.patients, np.random.default_rng([seed, 3]))

    def restored(k: int) -> np.ndarray:
        seen, unseen = half != k, half == k
        restore = train(pairs.released[seen], pairs.originals[seen], steps, seed + k, progress)
        return restore(pairs.released[unseen])

    images = np.empty_like(pairs.released)
    with ThreadPoolExecutor(2) as pool:
        for k, made in enumerate(pool.map(restored, (0, 1))):
            images[half == k] = made
    return Restored(pairs, images, half)


def embed_restored(restored: Restored, recognisers: Sequence[Recogniser]) -> dict[str, tuple[Faces, Faces]]:
    """Embed restored faces, and released ones at the same size.

    The recogniser looks for a face in the restored image. Where it finds none, the place of the face in the released
    image is used: both have one frame.

    Returns
    -------
    dict
        Recogniser → (restored, released).
    """
    found = {}
    for recogniser in recognisers:
        vectors: tuple[list, list] = ([], [])
        for released, image in zip(restored.pairs.released, restored.images, strict=True):
            before, after = (
                cv2.resize(part, (_SHOWN_SIDE,) * 2, interpolation=cv2.INTER_CUBIC) for part in (released, image)
            )
            (_, plain), (_, spare) = embed_renderings({"": before, "_restored": after}, recogniser)
            ((_, own),) = embed_renderings({"": after}, recogniser)
            vectors[0].append(spare if own is None else own)
            vectors[1].append(plain)
        found[recogniser.name] = tuple(_faces(restored.pairs, part) for part in vectors)
    return found


def _faces(pairs: Pairs, vectors: list) -> Faces:
    there = np.array([vector is not None for vector in vectors], bool)
    if not there.any():
        return Faces(np.zeros(0, str), np.zeros(0, str), np.zeros((0, 1), np.float32), len(vectors))
    stacked = np.stack([vector for vector in vectors if vector is not None])
    return Faces(pairs.photos[there], pairs.patients[there], stacked, len(vectors) - int(there.sum()))


def reversal_attacks(
    attacker: Attacker, restored: Restored | None, embedded: dict[str, tuple[Faces, Faces]]
) -> list[Attack]:
    """Verify and identify by restored faces.

    Parameters
    ----------
    attacker : Attacker
        One recogniser.
    restored : Restored or None
        What :func:`restore_unseen` gave.
    embedded : dict
        What :func:`embed_restored` gave.

    Returns
    -------
    list of Attack
        ``reversal``, ``reversal_rank1`` and the latter among people of the same look; without trials where patients
        were too few.
    """
    about = {
        "reversal": "Reversal by a network: 1:1 verification",
        "reversal_rank1": "Reversal by a network: 1:N identification, rank 1",
    }
    if restored is None:
        words = (
            f"Not tried: there are fewer than {2 * FEWEST} patients, too few to train on half of them and attack the "
            "other."
        )
        return [
            attacker.attack(np.zeros(0, bool), np.zeros(0, str), name=name, title=title, chance=None, explanation=words)
            for name, title in about.items()
        ]
    after, before = embedded[attacker.recogniser]
    originals = attacker.faces["original"]
    words = _trained(restored)
    plain = attacker.calibration.same(best_of_patient(before, originals, attacker.same_above, own=True).scores).sum()
    verified = attacker.verified(
        best_of_patient(after, originals, attacker.same_above, own=True),
        name="reversal",
        title=about["reversal"],
        explanation=(
            f"{words}{attacker.title} then compares the restored face with the original. A hit is a score at which it "
            f"says that both show one person. "
            f"For the released faces at this size there are {plain:,} hits of {len(before):,}."
        ),
    )
    searches, folds, plain = [], [], 0
    for k in (0, 1):
        photos = restored.pairs.photos[restored.half == k]
        folds.append((of_photos(after, photos), of_photos(originals, photos)))
        searches.append(search(*folds[k], None, attacker.same_above))
        plain += int((search(of_photos(before, photos), folds[k][1], None, attacker.same_above).ranks <= 1).sum())
    tried = first_of_halves(searches)
    chances = sum((found.chance(1) or 0.0) * len(found.ranks) for found in searches)
    identified = attacker.attack(
        tried.hits,
        tried.patients,
        name="reversal_rank1",
        title=about["reversal_rank1"],
        chance=chances / len(tried) if len(tried) else None,
        tried=tried,
        explanation=(
            f"{words}{attacker.title} then looks for the restored face among the originals of the attacked half. A hit "
            f"is the patient in first place. "
            f"For the released faces at this size there are {plain:,} hits of {len(before):,}."
        ),
    )
    alike = same_look_of_halves(attacker, "reversal_rank1", "reversal by a network", folds, attacker.same_above)
    found = [verified, identified, alike]
    if len(attacker.faces["released"]) <= MOST_PHOTOS:
        return found
    drawn_from = len(np.unique(attacker.faces["released"].patients))
    return [learned_on_some(one, drawn_from, MOST_PHOTOS) for one in found]


def _trained(restored: Restored) -> str:
    released, after = restored.errors()
    return (
        "The attacker has released photographs of other people together with their originals and trains a network to "
        f"restore the one from the other (in the aligned face, {SIDE}² pixels): here on one half of the patients, to "
        f"attack the other, and the other way round. The mean difference from the original went from {released:.1f} to "
        f"{after:.1f} grey levels on patients that the network had not seen"
        + (": it learned its own patients by heart and little else. " if after >= released else ". ")
    )
