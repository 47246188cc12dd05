"""The attack suite: every attack by every recogniser on what would be released, the gate's verdict, and words on both.

Works on embeddings and plain values alone; images are read when embeddings are made (:mod:`deidlib.reid.embeddings`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from deidlib.reid import face_attacks, side_channels
from deidlib.reid.attack import Attack
from deidlib.reid.attacker import FLOOR, SHOWN, Attacker
from deidlib.reid.by_group import looks_of_people, verified_photos
from deidlib.reid.calibration import Calibration, calibrate
from deidlib.reid.embeddings import LOOKS, PHASH, CohortFaces, Faces
from deidlib.reid.gate import release_gate
from deidlib.reid.looks import PeopleLooks, people_looks
from deidlib.reid.ranking import Compare, compare
from deidlib.reid.scores import score_classes
from deidlib.reid.side_channels import Photo, Similarity
from deidlib.reid.soft_biometrics import LOOKS_SHOWN, fused_attacks, look_attacks

if TYPE_CHECKING:
    import pyarrow as pa

#: Recognisers that the checks on single photographs use (:mod:`deidlib.checks`).
GATED = ("sface", "dlib")
#: Columns of an index that hold a likeness to the patient → the recogniser by which it is computed.
_LIKENESS = {"sface_cosine": "sface", "dlib_distance": "dlib"}
#: Form of ``attacks.json``.
SCHEMA_VERSION = 2
#: A further attack: the data of one recogniser → results.
MoreAttacks = Callable[[Attacker], Sequence[Attack]]


@dataclass
class Evidence:
    """Data of the attack suite.

    Attributes
    ----------
    photos : list of Photo
        Every photograph with a face, released or not.
    embeddings : callable
        Recogniser and what is shown → the shards' ``tables.EMBEDDINGS``, one after the other, with these rows and
        perhaps others.
    recognisers : dict
        Name → what the registry says of it, with ``same_above`` and ``measure``.
    bank : dict
        Recogniser → embeddings, (B, D), of the donor bank's synthetic people.
    gallery : dict
        Recogniser → embeddings, (G, D), of the user's own gallery.
    table : dict or None
        Risk of the released columns (:mod:`deidlib.columns.table_risk`).
    compare : callable
        Gives the numbers of a search over the whole cohort: counts them, or reads what jobs counted
        (:mod:`deidlib.reid.shared`).
    """

    photos: list[Photo]
    embeddings: Callable[[str, str], Iterable[pa.Table]]
    recognisers: dict[str, dict[str, Any]]
    bank: dict[str, np.ndarray] = field(default_factory=dict)
    gallery: dict[str, np.ndarray] = field(default_factory=dict)
    table: dict[str, Any] | None = None
    compare: Compare = compare

    def distractors(self, recogniser: str) -> np.ndarray | None:
        """Other people in the gallery of a recogniser, (G, D)."""
        others = [known[recogniser] for known in (self.bank, self.gallery) if recogniser in known]
        return np.concatenate(others).astype(np.float32) if others else None

    def attacker(
        self,
        recogniser: str,
        faces: Mapping[str, Faces],
        calibration: Calibration,
        options: Mapping,
        identity: str,
        people: PeopleLooks,
    ) -> Attacker:
        """Collect the data of one recogniser."""
        return Attacker(
            recogniser=recogniser,
            title=self.recognisers[recogniser]["title"],
            same_above=self.recognisers[recogniser]["same_above"],
            faces=faces,
            distractors=self.distractors(recogniser),
            calibration=calibration,
            fpir=options["fpir"],
            linkable=identity == "per_patient",
            rng=np.random.default_rng([options["seed"], *recogniser.encode()]),
            people=people,
            compare=self.compare,
        )


def run_suite(
    evidence: Evidence,
    options: Mapping,
    identity: str,
    more: Sequence[MoreAttacks] = (),
    others: Sequence[Attack] = (),
    each: Callable[..., Iterable] = map,
) -> dict[str, Any]:
    """Run every attack and judge the results.

    Parameters
    ----------
    evidence : Evidence
        Embeddings and summary.
    options : mapping
        The configuration's block ``reid``.
    identity : str
        ``per_patient`` or ``per_photo``.
    more : sequence of callable
        Further attacks, such as the learned ones; each is called once a recogniser.
    others : sequence of Attack
        Results of attacks without a recogniser, such as those by the teeth.
    each : callable
        Calls a function with every recogniser, as ``map`` does: one after the other, or in processes of their own.

    Returns
    -------
    dict
        Keys ``schema_version, gate, recognisers, calibration, attacks, scores, ranks, verified, people, table_risk,
        seeds, words``.

    Raises
    ------
    ValueError
        A recogniser cannot be calibrated.
    """
    results: dict[str, list] = defaultdict(list)
    wanted = _generated(evidence.photos)
    looks = CohortFaces(evidence.embeddings, LOOKS, LOOKS_SHOWN)
    people = people_looks(looks["square"])
    unmeasured = sum(len(wanted - set(looks[shown].photos.tolist())) for shown in ("square", "released"))
    sent = replace(evidence, photos=[], table=None)  # all that a recogniser's attacks need
    attack = partial(_attack_by, sent, wanted, looks, people, options, identity, more)
    for found in each(attack, evidence.recognisers):
        for key, values in found.items():
            results[key] += values
    attacks = results["attacks"]
    unmeasured += sum(results["unmeasured"])
    attacks += look_attacks(looks, np.random.default_rng([options["seed"], 7]), evidence.compare)
    attacks += others
    attacks += _side_channels(evidence, np.random.default_rng([options["seed"], 2]))
    verdict = release_gate(attacks, evidence.recognisers, _summary(evidence, unmeasured), options)
    return {
        "schema_version": SCHEMA_VERSION,
        **{key: results[key] for key in ("recognisers", "calibration", "scores", "ranks", "verified")},
        "people": looks_of_people(people),
        "gate": verdict,
        "attacks": [attack.as_json() for attack in attacks],
        "table_risk": evidence.table,
        "seeds": {"reid": options["seed"]},
        "words": _words(evidence, attacks),
    }


def _attack_by(
    evidence: Evidence,
    wanted: set[str],
    looks: Mapping[str, Faces],
    people: PeopleLooks,
    options: Mapping,
    identity: str,
    more: Sequence[MoreAttacks],
    name: str,
) -> dict[str, list]:
    """Run every attack by one recogniser: entries of what :func:`run_suite` gives, by their key."""
    about, faces = evidence.recognisers[name], CohortFaces(evidence.embeddings, name, SHOWN)
    calibration = calibrate(
        name,
        about["same_above"],
        faces["original"],
        evidence.bank.get(name),
        about["published_threshold"],
        options["fmr"],
        np.random.default_rng([options["seed"], *name.encode(), 1]),
        people.class_of(faces["original"].patients),
    )
    attacker = evidence.attacker(name, faces, calibration, options, identity, people)
    attacks, ranks = face_attacks.all_attacks(attacker)
    attacks += fused_attacks(attacker, looks, options["seed"])
    for attack in more:
        attacks += attack(attacker)
    return {
        "recognisers": [_about(name, about)],
        "calibration": [calibration.as_json()],
        "attacks": attacks,
        "scores": score_classes(attacker),
        "verified": [verified_photos(attacker, wanted)],
        "ranks": ranks,
        "unmeasured": [len(wanted - set(faces[shown].photos)) for shown in ("original", "released")],
    }


def role_of(name: str, inversion: Mapping) -> str:
    """Part of a recogniser in this run: ``identity_loss`` if it led the inversion, else ``judge``.

    ``inversion`` is the config's block of that name: the registry says only who leads by default.
    """
    return "identity_loss" if inversion["identity_weight"] and name in inversion["identity_led_by"] else "judge"


def _about(name: str, about: Mapping) -> dict:
    keys = ("title", "role", "measure", "same_above", "licence", "published_accuracy", "published_threshold", "sha256")
    return {"name": name, **{key: about.get(key) for key in keys}}


def _similarities(evidence: Evidence) -> dict[str, Similarity]:
    """How an attacker computes the likenesses that the index publishes; kept for columns that it has."""
    published = {column for photo in evidence.photos for column in photo.published}
    found = {}
    for column, name in _LIKENESS.items():
        if column in published and name in evidence.recognisers:
            faces = CohortFaces(evidence.embeddings, name, SHOWN)
            same_above = evidence.recognisers[name]["same_above"]
            found[column] = Similarity(faces["released"], faces["original"], same_above)
    return found


def _side_channels(evidence: Evidence, rng: np.random.Generator) -> list[Attack]:
    hashes = CohortFaces(evidence.embeddings, PHASH, ("released", "square"))
    return [
        side_channels.metadata_attack(evidence.photos, rng),
        *side_channels.order_attacks(evidence.photos, rng),
        side_channels.size_attack(evidence.photos, rng),
        side_channels.hash_attack(hashes["released"], hashes["square"], rng),
        side_channels.published_numbers_attack(evidence.photos, _similarities(evidence), rng),
    ]


def _generated(photos: Sequence[Photo]) -> set[str]:
    """Photographs in which a recogniser has to find a face, in the released image and in the original.

    Without a generated face there is no donor, and the released image often has no face to embed. On these routes the
    checks on single photographs excuse a recogniser only if it finds no face.
    """
    return {photo.photo for photo in photos if photo.released and photo.generated}


def _summary(evidence: Evidence, unmeasured: int) -> dict[str, Any]:
    """Summary that the gate judges besides the attacks; ``unmeasured``: missing embeddings and looks of new faces."""
    released = [photo for photo in evidence.photos if photo.released]
    patients_of = defaultdict(set)
    for photo in released:
        if photo.generated:
            patients_of[photo.donor].add(photo.patient)
    return {
        "photographs": len(released),
        "patients": len({photo.patient for photo in released}),
        "generated": sum(photo.generated for photo in released),
        "unmeasured": unmeasured,
        "table": evidence.table,
        "shared_donors": sum(len(patients) > 1 or donor is None for donor, patients in patients_of.items()),
    }


def _words(evidence: Evidence, attacks: Sequence[Attack]) -> list[str]:
    """Sentences that explain the results in plain words."""
    released = [photo for photo in evidence.photos if photo.released]
    patients = Counter(photo.patient for photo in released)
    if not released:
        return ["No photograph would be released, so there was nothing to attack."]
    several = sum(count > 1 for count in Counter(photo.patient for photo in evidence.photos).values())
    unseen = 1 - 0.025 ** (1 / len(patients))
    words = [
        f"{len(released):,} photographs of {len(patients):,} patients were attacked. Even an attack that never "
        f"succeeded on any of {len(patients):,} patients may succeed on up to {unseen:.0%} of patients like these "
        "(95 % interval); only more patients narrow that.",
        f"{several:,} patients have more than one photograph. Only on these can the realistic attack be tried, in "
        "which the attacker holds another photograph of the patient than the released one was made of.",
        "The preserved area is the patient's own, pixel for pixel. Somebody with the very photograph that a "
        "released one was made of can find it by comparing these pixels, and needs no recogniser. No method that keeps "
        "this area can prevent that. The attacks measure what a face recogniser can do, above all with other "
        "photographs.",
        "Where the attacker sees the preserved area alone, the rate is what that area gives away by itself, a floor "
        "that every method with this area shares. All but the preserved area is what this method adds. Recognisers "
        "were not made for such pictures; their numbers separate the two sources and do not prove that a dentist, "
        "or a recogniser made for teeth, sees as little.",
    ]
    for name, about in evidence.recognisers.items():
        rates = {a.region: a for a in attacks if (a.name, a.recogniser) == (FLOOR, name)}
        if rates and all(attack.trials for attack in rates.values()):
            whole, region, context = (rates[key] for key in ("whole", "region_only", "context_only"))
            words.append(
                f"In short, for {about['title']}: searched among the other originals, the patient comes first "
                f"for {whole.hits} of {whole.trials} whole released photographs, for {region.hits} of "
                f"{region.trials} with the preserved area alone (originals shown likewise), and for {context.hits} "
                f"of {context.trials} without it; chance is {whole.chance:.0%}. {_compared(whole, region)}"
            )
    return words + _on_roles(evidence)


def _compared(whole: Attack, region: Attack) -> str:
    """Say what the two rates show about the method; nothing is concluded where their intervals overlap."""
    if whole.ci95[0] > region.ci95[1]:
        return "So the new face gives away more than the preserved area does by itself: the method leaks."
    if whole.ci95[1] < region.ci95[0]:
        return "So the new face draws the recogniser away from what the preserved area gives away by itself."
    return (
        f"The 95 % intervals of whole and area alone overlap ({whole.ci95[0]:.0%} to {whole.ci95[1]:.0%}, and "
        f"{region.ci95[0]:.0%} to {region.ci95[1]:.0%}), so these {whole.patients:,} patients do not show whether "
        "the new face adds anything to what the preserved area gives away by itself."
    )


def _on_roles(evidence: Evidence) -> list[str]:
    """Say how much the verdict of a recogniser means that took part in making the release."""
    leading = [about["title"] for about in evidence.recognisers.values() if about["role"] == "identity_loss"]
    gated = [about["title"] for name, about in evidence.recognisers.items() if name in GATED]
    independent = [about["title"] for name, about in evidence.recognisers.items() if name not in GATED]
    words = []
    if leading:
        words.append(
            f"{' and '.join(leading)} leads the method by the identity loss: new faces are chosen so that it does not "
            "recognise the patient. Its own verdict proves little."
        )
    if gated:
        words.append(
            f"The checks on single photographs have already held back whatever {' or '.join(gated)} recognised. "
            "The checks enforce that none of these verifies a released photograph at their thresholds, so this is no "
            "evidence about other recognisers. Ranks, and recognisers that the checks do not use, are evidence. "
            + (
                f"Independent recognisers here: {', '.join(independent)}."
                if independent
                else "None was used here: register one in config/models.yaml and name it in reid.recognisers."
            )
        )
    return words
