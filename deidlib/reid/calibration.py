"""Calibration: the score at which a recogniser says "the same person", at a stated false match rate (FMR).

Scores of pairs of photographs of different people (impostor pairs) say how often a threshold is wrong by chance; pairs
of one person (genuine pairs) say how often it misses (ISO/IEC 19795-1). The threshold is never stricter than the one
that the recogniser's authors publish. Synthetic faces resemble each other more than people do; a threshold from their
pairs alone would hide matches.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from deidlib.errors import InputError
from deidlib.reid.embeddings import Faces
from deidlib.reid.pairs import pairs_of_patient, scores_of_pairs

#: False matches that a calibration sample must hold at its threshold ("rule of 30", Doddington et al. 2000).
LEAST_FALSE_MATCHES = 30
#: Most impostor pairs that are scored; of a larger cohort so many are drawn.
MOST_PAIRS = 2_000_000
#: Fewest pairs of people of the same look that a threshold of their own is taken from.
LEAST_LOOK_PAIRS = 100
_DET_POINTS = 40


@dataclass(frozen=True)
class LookThreshold:
    """Threshold by pairs of different people of the same look: apparent sex, decade of age and class of skin tone.

    Attributes
    ----------
    pairs : int
        Number of these pairs.
    fmr : float or None
        The false match rate among them: the one asked for, or the least at which they hold
        :data:`LEAST_FALSE_MATCHES`; None where they are fewer than :data:`LEAST_LOOK_PAIRS`.
    threshold : float or None
        The score.
    """

    pairs: int
    fmr: float | None
    threshold: float | None


@dataclass(frozen=True)
class Calibration:
    """A recogniser's threshold and where it comes from.

    Attributes
    ----------
    recogniser : str
        Its name.
    source : str
        ``cohort``, ``bank`` or ``published``.
    fmr : float
        The false match rate that was asked for.
    threshold : float
        Scores at least this similar (or at most this distant) count as the same person.
    calibrated : float or None
        The threshold that the impostor pairs alone would give, None where there are too few.
    impostor, genuine : ndarray
        Scores of the cohort's own pairs.
    reference : ndarray
        Scores of the impostor pairs of ``source`` (the cohort's own, or the donor bank's; empty if published).
    same_above : bool
        Whether a higher score is more alike.
    synthetic : float or None
        Share of the donor bank's pairs that reach the threshold: how alike randomly drawn new faces are.
    look : LookThreshold
        The threshold by people of the same look.
    """

    recogniser: str
    source: str
    fmr: float
    threshold: float
    calibrated: float | None
    published: float | None
    impostor: np.ndarray
    genuine: np.ndarray
    reference: np.ndarray
    same_above: bool
    synthetic: float | None = None
    look: LookThreshold = LookThreshold(0, None, None)

    def same(self, scores: np.ndarray) -> np.ndarray:
        """Which scores count as the same person."""
        return reaches(scores, self.threshold, self.same_above)

    @property
    def fnmr(self) -> float | None:
        """Share of the genuine pairs that the threshold misses; None without such pairs."""
        return float(1 - self.same(self.genuine).mean()) if len(self.genuine) else None

    def counted(self) -> str:
        """Words for the number of pairs behind :attr:`chance`."""
        pairs = self._chance_pairs()
        whose = "of the cohort's own" if pairs is self.impostor else "of the donor bank's"
        return f"{int(self.same(pairs).sum()):,} of {len(pairs):,} {whose} pairs" if len(pairs) else "not known here"

    def _chance_pairs(self) -> np.ndarray:
        return self.impostor if len(self.impostor) >= 100 or not len(self.reference) else self.reference

    @property
    def chance(self) -> float | None:
        """False match rate at the threshold: on the cohort's own pairs; on those of ``source`` if it has below 100."""
        pairs = self._chance_pairs()
        return float(self.same(pairs).mean()) if len(pairs) else None

    @property
    def fmr_used(self) -> float | None:
        """False match rate of the threshold in use: as asked for if it is the calibrated one, else as measured."""
        return self.fmr if self.threshold == self.calibrated else self.chance

    def as_json(self) -> dict:
        """Entry of ``calibration`` in ``attacks.json``."""
        return {
            "recogniser": self.recogniser,
            "source": self.source,
            "fmr": self.fmr,
            "threshold": self.threshold,
            "calibrated_threshold": self.calibrated,
            "published_threshold": self.published,
            "impostor_pairs": len(self.reference) if self.source != "published" else len(self.impostor),
            "cohort_impostor_pairs": len(self.impostor),
            "bank_fmr": self.synthetic,
            "cohort_fmr": float(self.same(self.impostor).mean()) if len(self.impostor) else None,
            "genuine_pairs": len(self.genuine),
            "fnmr": self.fnmr,
            "det": det_curve(self.genuine, self.reference if len(self.reference) else self.impostor, self.same_above),
            "same_look": asdict(self.look),
            "note": self.note(),
        }

    def note(self) -> str:
        """Describe where the threshold comes from and how reliable it is."""
        rate = f"a false match rate of {self.fmr:g} (one in {round(1 / self.fmr):,})"
        needed = f"{round(LEAST_FALSE_MATCHES / self.fmr):,}"
        few = (
            f"The cohort has {len(self.impostor):,} pairs of photographs of different patients; {rate} needs {needed}."
        )
        if self.source == "cohort":
            words = f"Calibrated at {rate} on {len(self.reference):,} pairs of this cohort's own patients."
        elif self.source == "bank":
            words = (
                f"{few} So {len(self.reference):,} pairs of the donor bank's synthetic faces were used, which give "
                f"{self.calibrated:.3f}. Faces drawn by one generator resemble each other more than people do, so "
                "these pairs overstate how alike impostors look."
            )
        else:
            words = (
                f"{few} The donor bank has no embeddings by this recogniser. So the threshold that its authors "
                "publish is used, and its false match rate on patients like these is not known."
            )
        if self.calibrated is not None and self.threshold != self.calibrated:
            words += (
                f" The threshold that the recogniser's authors publish, {self.published:g}, is less strict and is used "
                "instead, so that no match is hidden."
            )
        if len(self.impostor):
            wrong = int(self.same(self.impostor).sum())
            words += (
                f" At the threshold used, {wrong:,} of the cohort's {len(self.impostor):,} pairs of different "
                "patients match."
            )
        if len(self.genuine):
            missed = int(len(self.genuine) - self.same(self.genuine).sum())
            words += f" It misses {missed:,} of {len(self.genuine):,} pairs of photographs of one patient."
        else:
            words += " No patient has two photographs, so it is not known how often it misses a person."
        return words


def calibrate(
    recogniser: str,
    same_above: bool,
    originals: Faces,
    bank: np.ndarray | None,
    published: float | None,
    fmr: float,
    rng: np.random.Generator,
    classes: np.ndarray | None = None,
) -> Calibration:
    """Calibrate a recogniser: on the cohort where it has pairs enough, else on the bank, else as published.

    Parameters
    ----------
    recogniser, same_above
        Its name, and whether a higher score is more alike.
    originals : Faces
        Embeddings of all original photographs.
    bank : ndarray, (B, D), or None
        Embeddings of synthetic people, all different.
    published : float or None
        The threshold that its authors publish; the result is never looser.
    fmr : float
        False match rate to calibrate at.
    rng : Generator
        Draws pairs where there are more than :data:`MOST_PAIRS`.
    classes : ndarray, (N,), int, optional
        Class of look of each of ``originals``, −1 where not measured.

    Returns
    -------
    Calibration
        With the scores of the pairs.

    Raises
    ------
    ValueError
        There is nothing to calibrate on.
    """
    genuine = genuine_scores(originals, same_above)
    impostor = impostor_scores(originals.vectors, originals.patients, same_above, rng)
    source, reference, of_bank = "published", np.zeros(0), np.zeros(0)
    if bank is not None:
        of_bank = impostor_scores(bank, np.arange(len(bank)), same_above, rng)
    if len(impostor) * fmr >= LEAST_FALSE_MATCHES:
        source, reference = "cohort", impostor
    elif len(of_bank) * fmr >= LEAST_FALSE_MATCHES:
        source, reference = "bank", of_bank
    calibrated = threshold_at(reference, fmr, same_above) if len(reference) else None
    if calibrated is None and published is None:
        raise InputError(
            f"recogniser {recogniser}: {len(impostor):,} pairs of different patients are too few to calibrate it, "
            "and its entry in config/models.yaml has no published_threshold; write one"
        )
    known = [value for value in (calibrated, published) if value is not None]
    threshold = min(known) if same_above else max(known)
    synthetic = None
    if len(of_bank):
        synthetic = float(np.mean(reaches(of_bank, threshold, same_above)))
    look = LookThreshold(0, None, None)
    if classes is not None:
        measured = classes >= 0
        alike = impostor_scores(
            originals.vectors[measured], originals.patients[measured], same_above, rng, classes=classes[measured]
        )
        look = look_threshold(alike, fmr, same_above)
    about = recogniser, source, fmr, threshold, calibrated, published
    return Calibration(*about, impostor, genuine, reference, same_above, synthetic, look)


def look_threshold(alike: np.ndarray, fmr: float, same_above: bool) -> LookThreshold:
    """Threshold by the scores of pairs of people of the same look."""
    if len(alike) < LEAST_LOOK_PAIRS:
        return LookThreshold(len(alike), None, None)
    rate = min(max(fmr, LEAST_FALSE_MATCHES / len(alike)), 1.0 - 1 / len(alike))
    return LookThreshold(len(alike), rate, threshold_at(alike, rate, same_above))


def reaches(scores: np.ndarray, threshold: float, same_above: bool) -> np.ndarray:
    """Which scores are at least as alike as the threshold."""
    scores = np.asarray(scores)
    return scores >= threshold if same_above else scores <= threshold


def threshold_at(impostor: np.ndarray, fmr: float, same_above: bool) -> float:
    """Threshold that at most the share ``fmr`` of impostor scores reaches: just beyond the next one."""
    beyond = _beyond(_most_alike_first(impostor, same_above), fmr)
    return beyond if same_above else -beyond


def _most_alike_first(scores: np.ndarray, same_above: bool) -> np.ndarray:
    """Scores in falling order; a distance is negative."""
    return np.sort(scores if same_above else -scores)[::-1]


def _beyond(alike: np.ndarray, fmr: float) -> float:
    return np.nextafter(float(alike[int(np.floor(fmr * len(alike)))]), np.inf)


def det_curve(genuine: np.ndarray, impostor: np.ndarray, same_above: bool) -> list[list[float]]:
    """Detection error trade-off: [FMR, FNMR] from loose to strict thresholds; empty without pairs of either kind.

    The FMR runs in equal steps of its logarithm from 0.5 down to one in the number of impostor pairs.
    """
    if not len(genuine) or not len(impostor):
        return []
    alike = genuine if same_above else -genuine
    rates = np.unique(np.geomspace(max(1 / len(impostor), 1e-6), 0.5, _DET_POINTS))[::-1]
    ordered = _most_alike_first(impostor, same_above)
    limits = [_beyond(ordered, rate) for rate in rates]
    return [[float(rate), float(np.mean(alike < limit))] for rate, limit in zip(rates, limits, strict=True)]


def genuine_scores(originals: Faces, same_above: bool) -> np.ndarray:
    """Scores of all pairs of different photographs of one patient."""
    probe, entry, _ = pairs_of_patient(originals, originals)
    first = probe < entry
    return scores_of_pairs(originals.vectors, probe[first], originals.vectors, entry[first], same_above)


def impostor_scores(
    vectors: np.ndarray,
    people: np.ndarray,
    same_above: bool,
    rng: np.random.Generator,
    most: int = MOST_PAIRS,
    classes: np.ndarray | None = None,
) -> np.ndarray:
    """Scores of pairs of photographs of different people: all, or those of ``most`` pairs drawn at random.

    With ``classes``, of those pairs the ones of one class alone.
    """
    n = len(vectors)
    if n * (n - 1) / 2 <= most:
        a, b = np.triu_indices(n, 1)
    else:
        a, b = rng.integers(n, size=(2, most))
    people = np.asarray(people)
    apart = people[a] != people[b] if n else np.zeros(0, bool)
    if classes is not None and n:
        apart &= classes[a] == classes[b]
    return scores_of_pairs(vectors, a[apart], vectors, b[apart], same_above)
