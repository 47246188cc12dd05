"""The choice of a donor: a keyed mixture of bank entries that fit the patient and do not resemble the patient."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from deidlib.donors.bank import Bank, Looks
from deidlib.donors.edit import Editor
from deidlib.donors.fit import mismatch, shared_look, view_of, with_record
from deidlib.donors.glasses import GLASSES
from deidlib.donors.headwear import HEADWEAR
from deidlib.errors import InputError
from deidlib.generators import LatentPrior
from deidlib.keys import keyed_rng
from deidlib.storage import tables

_COSINE_UNIT = 0.06
_DRAWS = 12
_AGAIN = 4  # number of mixtures that are drawn again with a corrected age
_UNKNOWN, _MOST_ALIKE, _IMPOSTORS = (
    0.1,
    0.25,
    256,
)  # likeness if none is known; highest likeness; entries that it is drawn from
_NO_GLASSES = -7.0  # log-odds that the donor is moved to: the median of the bank's faces without glasses
_GLASSES_UNIT = 0.3  # log-odds above GLASSES that count as one unit of mismatch
_HEADWEAR_UNIT = 0.5  # log-odds above HEADWEAR that count as one unit of mismatch
_PLAIN = 1.0  # clutter that the donor is moved to: the lowest decile of the bank
_SECOND_FACE, _SECOND_FACE_UNIT = (
    0.3,
    0.05,
)  # lowest score that counts; score above it that counts as one unit of mismatch
#: What a donor must not show: score of a face → lowest score that counts, and unit of mismatch above it.
_UNWANTED = {
    "glasses": (GLASSES, _GLASSES_UNIT),
    "headwear": (HEADWEAR, _HEADWEAR_UNIT),
    "second_face": (_SECOND_FACE, _SECOND_FACE_UNIT),
}


@dataclass(frozen=True)
class Likeness:
    """Measurements of a patient's appearance in a photograph.

    Attributes
    ----------
    features : dict
        As :func:`deidlib.donors.features.measure` gives.
    sface : ndarray, (128,), or None
        SFace's embedding; None if it found no face.
    jaw : bool
        Whether the preserved area reaches the jaw, so that the donor's jaw must fit it.
    """

    features: dict
    sface: np.ndarray | None
    jaw: bool = False


def allowed_donors(bank: Bank, look: Likeness, sface_max: float) -> np.ndarray:
    """Entries, (N,) bool, that are not similar to the patient by SFace, and have no glasses, headwear or second face.

    Entries with glasses are left out, because a mixture of faces with and without glasses shows half of them. So it is
    with headwear.
    """
    allowed = np.logical_and.reduce([bank.scalars[name] < bound for name, (bound, _) in _UNWANTED.items()])
    return allowed if look.sface is None else allowed & (bank.sface @ look.sface < sface_max)


def impostor_likeness(bank: Bank, fit: np.ndarray, look: Likeness, rng: np.random.Generator, draws: int) -> float:
    """Cosine to the patient that inversion aims at: that of an impostor who fits as well.

    A face as unlike the patient as possible would betray the patient, who would be the least similar of all people. So
    the likeness is drawn from those of the best-fitting entries; the lowest of several draws is taken.

    Parameters
    ----------
    bank : Bank
        The donor bank; its people are impostors to every patient.
    fit : ndarray, (N,)
        :func:`mismatch` of each entry, without resemblance.
    look : Likeness
        The patient.
    rng : Generator
        Random generator, keyed by the patient.
    draws : int
        Number of draws; more at later attempts.
    """
    if look.sface is None:
        return _UNKNOWN
    impostors = bank.sface[np.argsort(fit, kind="stable")[:_IMPOSTORS]] @ look.sface
    return float(np.minimum(rng.choice(impostors, size=draws), _MOST_ALIKE).min())


def resemblance(sface: np.ndarray, look: Likeness, likeness: float) -> np.ndarray:
    """How much more than ``likeness`` faces with the embeddings (N, 128) resemble the patient, (N,).

    In the units of :func:`mismatch`; zero for a face that is not more similar than that.
    """
    if look.sface is None:
        return np.zeros(len(sface))
    return (np.clip(sface @ look.sface - likeness, 0, None) / _COSINE_UNIT) ** 2


def draw_mixtures(order: np.ndarray, rng: np.random.Generator, pool: int, mix: int) -> list[tuple]:
    """Several keyed mixtures: ``mix`` of the ``pool`` best entries, and their shares, summing to 1."""
    mixtures = []
    for _ in range(_DRAWS):
        chosen = rng.choice(order[:pool], size=min(mix, len(order)), replace=False)
        mixtures.append((chosen, rng.dirichlet(np.full(len(chosen), 1.5))))
    return mixtures


def mix_identity(bank: Bank, prior: LatentPrior, chosen: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Code, (512,), of the mixture. Mixing shrinks a code towards the mean face: its whitened length is restored."""
    v = (bank.w[chosen] - prior.mean) @ prior.whiten.T
    mixed = shares @ v
    length = np.sqrt(shares @ np.sum(v**2, axis=1))
    return prior.mean + prior.axes @ (mixed * min(1.3, length / np.linalg.norm(mixed)))


def _costs(looks: Looks, found: np.ndarray, fit: np.ndarray, excess: Callable) -> np.ndarray:
    """How badly each of several drawn faces fits, and resembles the patient too much; infinite where none was drawn."""
    cost = fit + excess(looks.sface)
    for name, (bound, unit) in _UNWANTED.items():
        cost = cost + (np.clip(looks.scalars[name] - bound, 0, None) / unit) ** 2
    return np.where(found, cost, np.inf)


def _draw_donor(
    bank: Bank,
    editor: Editor,
    see: Callable,
    look: Likeness,
    features: dict,
    grey: bool,
    rngs: tuple[np.random.Generator, np.random.Generator],
    attempt: int,
    options: dict,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """One donor: entries and their shares, code, embedding, and the likeness aimed at."""
    for_likeness, for_mixtures = rngs

    def fitting(looks: Looks) -> np.ndarray:
        return mismatch(looks, features, grey, look.jaw)

    fit, view = fitting(bank), view_of(look.features, look.jaw)
    likeness = impostor_likeness(bank, fit, look, for_likeness, 1 + attempt)

    # The attempt before usually failed because it resembled the patient, so fit counts less at each attempt.
    def excess(sface: np.ndarray) -> np.ndarray:
        return (1 + attempt) ** 2 * resemblance(sface, look, likeness)

    allowed = allowed_donors(bank, look, options["sface_max"])
    fit = np.where(allowed, fit + excess(bank.sface), np.inf)
    order = np.argsort(fit, kind="stable")[: np.count_nonzero(allowed)]
    if len(order) < options["mix"]:
        raise InputError(
            f"only {len(order)} of {len(bank)} donors are unlike the patient: relax donors.sface_max in a preset of "
            "your own, or build a larger bank with `deidlib donors build`"
        )
    mixtures = draw_mixtures(order, for_mixtures, options["pool"], options["mix"])
    mixed = [mix_identity(bank, editor.prior, *mixture) for mixture in mixtures]

    def drawn(which: np.ndarray, years: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], Looks]:
        """Costs, codes and looks of some of the mixtures, each moved to an age, the patient's sex, and no glasses."""
        plain = {"female": features["female"], "glasses": _NO_GLASSES, "clutter": _PLAIN}
        wanted = [{"age": age} | plain for age in years]
        codes = [editor.move(mixed[k], want, held=("tone",)) for k, want in zip(which, wanted, strict=True)]
        looks, found = see(np.array([editor.follow(code, view) for code in codes]))
        return _costs(looks, found, fitting(looks), excess), codes, looks

    every = np.arange(len(mixed))
    costs, codes, looks = drawn(every, np.full(len(mixed), features["age"]))
    if not np.isfinite(costs).any():
        raise InputError("no mixture of donors draws a face: is this the bank of this generator?")
    # The linear model misses high and low ages: for the best mixtures, the requested age is changed by the error.
    again = np.argsort(costs, kind="stable")[:_AGAIN]
    again = again[np.isfinite(costs[again])]
    costs_again, codes_again, looks_again = drawn(again, 2 * features["age"] - looks.scalars["age"][again])
    costs, codes = np.concatenate([costs, costs_again]), codes + codes_again
    best = int(np.argmin(costs))
    sface = np.concatenate([looks.sface, looks_again.sface])[best]
    return *mixtures[np.concatenate([every, again])[best]], codes[best], sface, likeness


def choose_donors(
    photos: pa.Table,
    handle: Sequence[str],
    likenesses: dict[str, Likeness],
    bank: Bank,
    editor: Editor,
    see: Callable[[np.ndarray], tuple[Looks, np.ndarray]],
    key: bytes,
    attempt: int,
    identity: str,
    options: dict,
    progress: Callable[[], None] | None = None,
) -> pa.Table:
    """Donors of the photographs that this attempt handles.

    The donor depends on the key, the patient, the attempt and the patient's earliest photograph, not on the shard
    or on other patients, so shards need not be coordinated; the shares of the mixture are continuous, so two patients
    do not share one. With ``identity`` ``per_photo`` each photograph draws its own.

    Parameters
    ----------
    photos : Table
        ``tables.PHOTOS`` of the shard.
    handle : sequence of str
        ``release_photo_id`` of the photographs to handle.
    likenesses : dict
        Measurements of each photograph with landmarks, by ``release_photo_id``.
    bank, editor
        The donor bank and its linear model.
    see : callable
        Codes w, (n, 512), to the looks of their faces, and which of them show a face at all, (n,) bool.
    key : bytes
        The secret key.
    attempt : int
        Attempt number; each draws another donor.
    identity : str
        ``per_patient`` or ``per_photo``.
    options : dict
        ``pool``, ``mix``, ``sface_max``.
    progress : callable, optional
        Called once for each photograph.

    Returns
    -------
    Table
        ``tables.DONORS``.
    """
    if identity not in ("per_patient", "per_photo"):
        raise InputError(f"identity: {identity!r} is not one of per_patient, per_photo")
    columns = ["release_photo_id", "release_patient_id", "timepoint", "photo_id", "grey", "age", "sex"]
    known = [p for p in tables.handled(photos).select(columns).to_pylist() if p["release_photo_id"] in likenesses]
    known.sort(key=lambda p: (p["release_patient_id"], p["timepoint"] or "", p["photo_id"], p["release_photo_id"]))
    wanted, rows, drawn = set(handle), [], {}
    for photo in known:
        if photo["release_photo_id"] not in wanted:
            continue
        of_patient = [p for p in known if p["release_patient_id"] == photo["release_patient_id"]]
        reference = photo if identity == "per_photo" else of_patient[0]
        drawn_for = reference["release_photo_id" if identity == "per_photo" else "release_patient_id"]
        look = likenesses[reference["release_photo_id"]]
        if drawn_for not in drawn:
            recorded = with_record(look.features, reference["age"], reference["sex"])
            features = shared_look(recorded, keyed_rng(key, "tone", drawn_for))
            rngs = keyed_rng(key, "likeness", drawn_for), keyed_rng(key, "donor", drawn_for, str(attempt))
            drawn[drawn_for] = _draw_donor(bank, editor, see, look, features, reference["grey"], rngs, attempt, options)
        chosen, shares, w, sface, likeness = drawn[drawn_for]
        here = likenesses[photo["release_photo_id"]]
        rows.append(
            {
                "release_photo_id": photo["release_photo_id"],
                "attempt": attempt,
                "donor_id": hashlib.sha256(w.astype("<f4").tobytes()).hexdigest()[:16],
                "bank_ids": chosen.astype(np.int32),
                "weights": shares.astype(np.float32),
                "w": editor.follow(w, view_of(here.features, here.jaw)).astype(np.float32),
                "sface": sface.astype(np.float32),
                "likeness": likeness,
                "status": tables.OK,
            }
        )
        if progress:
            progress()
    return tables.from_rows(rows, tables.DONORS)
