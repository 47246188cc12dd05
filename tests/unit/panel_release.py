"""A small release of drawn faces with its private folder, for the tests of the panel study."""

from __future__ import annotations

from pathlib import Path

from shard_tables import CONFIG, MODELS, Spec, write_private, write_release

from deidlib.panel.settings import complete

CONSENT = "panel_consent"
_FAILS = {"sface_cosine": 0.5, "failed": ["sface_cosine"]}
#: A study that is quick to draw: two photographs each of some patients, small pictures.
SMALL = {
    "raters": 4,
    "seed": 7,
    "consent_column": CONSENT,
    "picture_side": 64,
    "photographs": {"realism": 16, "reading": 12, "usefulness": 10, "identity": 9},
    "training": 1,
}


def write_small_release(
    folder: Path, patients: int = 10, without_consent: int = 0, name: str = "patient"
) -> tuple[Path, Path]:
    """Write private folder and release; returns (release, private). The last patients have no consent to be shown."""
    specs = [
        Spec(
            f"{name}-{n}",
            f"{name}-{n}-{view}",
            view=view,
            age=20.0 + n,
            sex="FM"[n % 2],
            further={CONSENT: "no" if n >= patients - without_consent else "yes"},
            shard=f"s000{n % 2}",
            checks=(_FAILS, {}),  # the second attempt's picture is another drawing than the original
        )
        for n in range(patients)
        for view in ("frontal_rest", "frontal_smile")
    ]
    private = folder / "private"
    shards = write_private(private, specs, attempts=2)
    release = write_release(private, folder / "release", shards, 2, "1.0.0", CONFIG, MODELS)
    return release, private


def small_settings(**changes) -> dict:
    return complete(SMALL | changes)
