"""One recogniser as an attacker: its data, the form of its results, and the names that its attacks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deidlib.reid.attack import Attack, attack_from_trials
from deidlib.reid.calibration import Calibration
from deidlib.reid.embeddings import Faces
from deidlib.reid.identification import Search, search_among
from deidlib.reid.looks import LOOK_ALIKES, NOBODY, PeopleLooks
from deidlib.reid.ranking import Compare, Numbers, Pairing, compare
from deidlib.reid.verification import Best, chance_of_any

#: Region of an attack → the rendering of the probe, and that of the originals when both are shown alike.
PROBE = {"whole": "released", "region_only": "released_region", "context_only": "released_context"}
ALIKE = {"whole": "original", "region_only": "square_region", "context_only": "square_context"}
SHOWN = ("original", "released", "donor", *(name for table in (PROBE, ALIKE) for name in list(table.values())[1:]))
#: The attack whose rates with the whole picture, the region only and the context only are the audit's headline.
FLOOR = "identification_other_photo"
#: The same with the very photograph in the gallery.
RANK1_ORIGINALS = "identification_rank1_originals"
#: By another photograph, the area alone against whole originals: the gate compares the whole picture with it.
AREA_IN_SAME_SEARCH = "identification_other_photo_same_search"
#: Suffix of the name of an attack among people of the same look.
SAME_LOOK = "_same_look"

#: Searches of one recogniser: rendering of the probes, and of the gallery.
RANKED = tuple({(PROBE[region], shown): None for region in PROBE for shown in ("original", ALIKE[region])})
#: The same for the most alike impostor alone.
IMPOSTORS = (("released", "released"), ("released", "donor"), ("donor", "donor"))

#: Visible part of a released photograph, in words.
SEEN = {
    "whole": "",
    "region_only": " Of the released photograph only the preserved area is shown; the rest is one flat colour.",
    "context_only": " Of the released photograph the preserved area is hidden behind one flat colour.",
}
REGION_TITLE = {"whole": "", "region_only": ", preserved area only", "context_only": ", preserved area hidden"}

_LOOK_SEED = 2031


def face_pairing(
    recogniser: str,
    faces: Mapping[str, Faces],
    shown: tuple[str, str],
    distractors: np.ndarray | None,
    same_above: bool,
) -> Pairing:
    """A search by one recogniser.

    Parameters
    ----------
    recogniser : str
        Its name.
    faces : mapping
        What is shown → embeddings.
    shown : (str, str)
        One of :data:`RANKED` or :data:`IMPOSTORS`.
    distractors : ndarray, (G, D), or None
        Other people, who are added to whole originals.
    same_above : bool
        Whether a higher score is more alike.
    """
    probe, gallery = shown
    crowd = distractors if gallery == "original" else None
    name = f"{recogniser}/{probe}/{gallery}"
    return Pairing(name, faces[probe], faces[gallery], same_above, crowd, shown in RANKED)


@dataclass(frozen=True)
class Attacker:
    """One recogniser with all its data.

    Attributes
    ----------
    recogniser, title : str
        Its name and title.
    same_above : bool
        Whether a higher score is more alike.
    faces : mapping
        What is shown (:data:`SHOWN`) → embeddings.
    distractors : ndarray, (G, D), or None
        Other people in the gallery: the donor bank and the user's own gallery.
    calibration : Calibration
        The threshold.
    fpir : float
        False positive identification rate of the open-set search.
    linkable : bool
        Whether photographs of one patient show one new person on purpose.
    rng : Generator
        For bootstraps.
    people : PeopleLooks
        The patients' looks, by which similar people are found.
    compare : callable
        Gives the numbers of a search.
    """

    recogniser: str
    title: str
    same_above: bool
    faces: Mapping[str, Faces]
    distractors: np.ndarray | None
    calibration: Calibration
    fpir: float
    linkable: bool
    rng: np.random.Generator
    people: PeopleLooks = NOBODY
    compare: Compare = compare
    _found: dict[tuple[str, str], tuple[Pairing, Numbers]] = field(default_factory=dict, repr=False)

    def numbers(self, probe: str, gallery: str) -> tuple[Pairing, Numbers]:
        """A search of :data:`RANKED` or :data:`IMPOSTORS`, without vectors, and its numbers, counted once."""
        shown = probe, gallery
        if shown not in self._found:
            pairing = face_pairing(self.recogniser, self.faces, shown, self.distractors, self.same_above)
            self._found[shown] = pairing.named(), self.compare(pairing)
        return self._found[shown]

    def attack(self, hits: np.ndarray, patients: np.ndarray, **about: Any) -> Attack:
        """Result of an attack by this recogniser."""
        return attack_from_trials(
            hits, patients, self.rng, **({"recogniser": self.recogniser, "region": "whole"} | about)
        )

    def rank1(self, found: Search, **about: Any) -> Attack:
        """Result of a search among the originals that succeeds where the patient is in first place."""
        about = {"chance": found.chance(1), "tried": found.first()} | about
        return self.attack(found.ranks <= 1, found.patients, **about)

    def look_rng(self) -> np.random.Generator:
        """Random state by which people who are equally alike are ordered: the same for every recogniser."""
        return np.random.default_rng(_LOOK_SEED)

    def verified(self, best: Best, synthetic: bool = False, **about: Any) -> Attack:
        """Result of an attack that succeeds where the most alike counterpart reaches the threshold.

        With ``synthetic``, chance is the rate for random faces of the generator, where it is known.
        """
        rate = self.calibration.synthetic if synthetic else self.calibration.chance
        chance = chance_of_any(rate, best.compared)
        about = {"threshold": self.calibration.threshold, "fmr": self.calibration.fmr_used, "chance": chance} | about
        return self.attack(self.calibration.same(best.scores), best.patients, **about)


def same_look_attack(
    attacker: Attacker,
    name: str,
    words: str,
    probes: Faces,
    originals: Faces,
    same_above: bool,
    drop_own: bool,
    others: Mapping[str, Sequence[str]] | None = None,
) -> Attack:
    """Search among the patient and the few others of the cohort who look most alike; a result named for ``name``.

    Parameters
    ----------
    attacker : Attacker
        The recogniser that searches.
    name, words : str
        Name of the attack whose search is narrowed down, for programs and for readers.
    probes, originals, same_above, drop_own
        As for :func:`deidlib.reid.identification.search`.
    others : mapping, optional
        Patient → those who look most alike; by default of all whose originals there are.
    """
    if others is None:
        others = attacker.people.alike(originals.patients, attacker.look_rng())
    tried = search_among(probes, originals, others, same_above, drop_own)
    return attacker.attack(
        tried.hits,
        tried.patients,
        name=f"{name}{SAME_LOOK}",
        title=f"Among people of the same look, {words}",
        chance=float(tried.chance.mean()) if len(tried) else None,
        tried=tried,
        explanation=("" if len(tried) else "Not tried: there are too few patients. ")
        + (
            f"{attacker.title} searches a released photograph among the patient's originals and those of the "
            f"{LOOK_ALIKES} others who look most alike (apparent sex, age and skin tone, which the new face imitates "
            "on purpose), or of all there are. A hit is the patient in first place. A rate above chance means that "
            "the attacker learned more than the look."
        ),
    )
