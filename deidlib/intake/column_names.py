"""Misspelt column names: which column of the sheet a similar name probably means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable

from deidlib.intake.spelling import plain
from deidlib.schema import load_schema

#: Columns that protect a patient: a further column that is probably one of them stops the run.
DANGEROUS = ("patient_id", "consent", "mask")
_CLOSE = 0.82
_SHORT = 3  # letters; shorter names are similar to too many others
_OTHERS = {
    "patient_id": "patient patid patno patientno patientnumber patientnr patientennummer patientenid subject subjectid "
    "participant participantid pid",
    "photo_id": "photo photono photonumber imageid imageno pictureid foto fotoid bildid",
    "path": "file filename filepath photopath photofile image imagepath imagefile picture bild datei dateiname pfad "
    "fichier archivo",
    "consent": "consented agreed agreement einverständnis einwilligung zustimmung consentement consentimiento consenso "
    "consentimento widerruf withdrawn withdrawal revoked optout optin",
    "view": "ansicht vue vista projection photoview viewtype",
    "timepoint": "time tp zeitpunkt visit visitno timepointname moment",
    "age": "alter edad âge età idade ageyears years ageatphoto patientage",
    "sex": "gender geschlecht sexe sexo sesso patientsex",
    "diagnosis": "diagnose dx diag diagnostic diagnóstico diagnosi",
    "mask": "maske masque máscara maschera maskpath maskfile maskimage maskname maskpng maskurl masksource "
    "preservemask roi",
}
_OF = {alias: name for name, words in _OTHERS.items() for alias in words.split()}
#: Words for consent inside a longer column name; and words of columns that are about consent but do not state it.
_CONSENT = re.compile(r"consent|einwillig|zustimm|widerruf|withdraw|revok|optout")
_ABOUT = re.compile(r"(?:date|datum|version|form|document|file|signedby|by|note|comment|language|scan)$")


def meant(name: str) -> str | None:
    """Column of the sheet that a further column probably means, or None.

    Parameters
    ----------
    name : str
        Name of a column that samples.schema.yaml does not have.
    """
    folded = _folded(name)
    known = {_folded(column): column for column in load_schema("samples")["properties"]}
    if folded in known or folded in _OF:
        return known.get(folded) or _OF[folded]
    if _CONSENT.search(folded) and not _ABOUT.search(folded):
        return "consent"
    long = [column for column in known if len(column) > _SHORT]
    close = difflib.get_close_matches(folded, long, n=1, cutoff=_CLOSE)
    return known[close[0]] if close else None


def misnamed(names: Iterable[str], settled: Collection[str] = ()) -> list[tuple[str, str]]:
    """Further columns that would be dangerous to overlook, each with the column that it probably means.

    Parameters
    ----------
    names : iterable of str
        The header.
    settled : collection of str
        Columns that ``release.columns`` names; their meaning is settled.
    """
    known = load_schema("samples")["properties"]
    others = [(name, meant(name)) for name in names if name and name not in known and name not in settled]
    return [(name, column) for name, column in others if column in DANGEROUS]


def _folded(name: str) -> str:
    return re.sub(r"[\W_]", "", plain(name))
