"""Questions of each part of the study, their answers, and the answers' scales."""

from __future__ import annotations

from collections.abc import Mapping

#: An answer that says that the picture does not show it; it counts as missing, and is counted.
CANNOT = "cannot"
#: Parts in which a rater sees pictures. ``reading`` asks for diagnosis and aesthetic component on the same pictures.
BLOCKS = ("realism", "usefulness", "reading", "identity")
N_CHOICES = 6
_MARGIN, _AESTHETIC_MARGIN = 0.3, 0.5

_FINDINGS = {
    "angle_class": (
        "Angle class, as far as this photograph shows it",
        ["Class III", "Class I", "Class II"],
    ),
    "overjet": (
        "Overjet",
        ["reversed or edge to edge", "1 to 3 mm", "4 to 6 mm", "more than 6 mm"],
    ),
    "crowding": ("Crowding of the upper front teeth", ["none", "mild", "moderate", "severe"]),
    "midline": (
        "Upper dental midline against the middle of the face (the patient's right or left)",
        [
            "right, more than 2 mm",
            "right, 1 to 2 mm",
            "coincides",
            "left, 1 to 2 mm",
            "left, more than 2 mm",
        ],
    ),
    "smile_line": (
        "Smile line",
        ["low (under 75 % of the upper incisors)", "average (75 to 100 %)", "high (all, and gum)"],
    ),
    "gingival_display": (
        "Gum that shows above the upper incisors",
        ["none", "1 to 2 mm", "3 to 4 mm", "more than 4 mm"],
    ),
    "asymmetry": ("Asymmetry of smile and lower face", ["none", "slight", "marked"]),
}
_AGREEMENT = ["strongly disagree", "disagree", "neither", "agree", "strongly agree"]


def findings(settings: Mapping) -> list[dict]:
    """Questions of the part ``reading`` in their order: ``name, text, scale, answers, margin, arm, cannot``."""
    asked = []
    if "diagnosis" in settings["arms"]:
        for name in settings["findings"]:
            text, answers = _FINDINGS[name]
            margin = settings["margins"].get(name, _MARGIN)
            asked.append(_question(name, text, "ordinal", answers, margin, "diagnosis"))
        for item in settings["free_items"]:
            margin = item["margin"] if item["scale"] == "ordinal" else None
            asked.append(_question(item["name"], item["question"], item["scale"], item["answers"], margin, "diagnosis"))
    if "aesthetic" in settings["arms"]:
        text = (
            "Aesthetic component (IOTN, ICON): which of the ten reference photographs, which you have apart, fits best"
        )
        grades = [*map(str, range(1, 11))]
        grades[0], grades[-1] = "1 (most attractive)", "10 (least attractive)"
        margin = settings["margins"].get("aesthetic_component", _AESTHETIC_MARGIN)
        asked.append(_question("aesthetic_component", text, "ordinal", grades, margin, "aesthetic"))
    return asked


def _question(name: str, text: str, scale: str, answers: list[str], margin: float | None, arm: str) -> dict:
    return {
        "name": name,
        "text": text,
        "scale": scale,
        "answers": list(answers),
        "margin": margin,
        "arm": arm,
        "cannot": True,
    }


def block_questions(block: str, settings: Mapping, acquainted: bool = False) -> list[dict]:
    """Questions of a part; an answer is the number of one of ``answers``, from 0, or :data:`CANNOT` where allowed."""
    if block == "realism":
        text = "Is this the untouched photograph of a real person, or was a part of it made by a computer?"
        return [
            _question("made", text, "nominal", ["real photograph", "made by a computer"], None, "realism")
            | {"cannot": False}
        ]
    if block == "usefulness":
        texts = {
            "diagnosis": "This picture is useful for orthodontic or dental diagnosis.",
            "teaching": "This picture is useful for teaching.",
        }
        return [
            _question(name, text, "ordinal", _AGREEMENT, None, "usefulness") | {"cannot": False}
            for name, text in texts.items()
        ]
    if block == "reading":
        return findings(settings)
    first = [
        _question("recognised", "Do you know who this is?", "nominal", ["no", "I am not sure", "yes"], None, "identity")
    ]
    pick = _question(
        "pick",
        "Which of the six shows the same patient?",
        "nominal",
        [f"picture {n}" for n in "ABCDEF"],
        None,
        "identity",
    )
    return [one | {"cannot": False} for one in ([*first, pick] if acquainted else [pick])]


#: Part → its title and the instructions before it.
TEXTS = {
    "realism": (
        "Real or made?",
        "You see one face at a time. Some are untouched photographs. In others a part of the picture was made by a "
        "computer. Say which you think it is, even if you have to guess. You do not learn whether you were right.",
    ),
    "usefulness": (
        "Is it useful?",
        "You see one face at a time. The teeth, and lips where they were kept, are a patient's own; the rest was made "
        "by a computer. Say how far you agree with each sentence. You judge the picture, not the treatment.",
    ),
    "reading": (
        "Read the findings",
        "You see one photograph at a time. Read it as you would in the clinic, and choose one answer a line. Where the "
        "picture does not show a finding, choose “cannot be judged”. Some photographs come more than once.",
    ),
    "identity": (
        "Who is it?",
        "Above you see one picture. It shows a patient whose face was replaced, or only the mouth. Below are the "
        "photographs of six patients. One of them is the same patient. Choose the one, even if you have to guess.",
    ),
}
