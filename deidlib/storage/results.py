"""The paths of a results folder. The workflow's own are in ``pathvars`` of workflow/Snakefile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PRIVATE = "private"
_AUDIT = "audit.html"
_NUMBERS = "audit.json"
#: Files of a version's report: the summary for the board, and the whole audit with the same summary in front.
REPORT_FILES = ("summary.html", "summary.pdf", _AUDIT, "audit.pdf", _NUMBERS)
#: Folder of an attempt, below its shard's.
_ATTEMPT = "attempt-{}"
_EXAMINED = ".examined"


def stage_table(shard: Path, name: str, attempt: int | None = None) -> Path:
    """A stage's table in a shard's folder, for example ``photos``; a stage of an attempt needs the attempt's number."""
    folder = Path(shard) if attempt is None else Path(shard) / _ATTEMPT.format(attempt)
    return folder / f"{name}.parquet"


def attempt_number(folder: str) -> int | None:
    """Number of the attempt whose folder has this name; None where it is no attempt's."""
    prefix = _ATTEMPT.format("")
    digits = folder.removeprefix(prefix)
    return int(digits) if folder.startswith(prefix) and digits.isascii() and digits.isdecimal() else None


@dataclass(frozen=True)
class Results:
    """The paths of one results folder.

    ``private/`` holds everything that could identify a patient (mode 0700). ``release/`` and ``report/`` are made
    to be shared.
    """

    private: Path

    @classmethod
    def of_plan(cls, plan: Path) -> Results:
        """Results whose ``private/plan.json`` this is."""
        return cls(Path(plan).parent)

    @classmethod
    def of_folder(cls, results: Path) -> Results:
        """Results in this folder."""
        return cls(Path(results) / PRIVATE)

    @property
    def root(self) -> Path:
        """The results folder."""
        return Path(self.private).parent

    def shard(self, name: str) -> Path:
        """A shard's folder: photos, landmarks, regions, outcomes, embeddings."""
        return self.shards / name

    @property
    def shards(self) -> Path:
        """Folder of all shards."""
        return Path(self.private) / "shards"

    def attempts(self, shard: str) -> list[Path]:
        """Existing attempt folders of a shard: donors, faces, blended, checks."""
        return sorted(self.shard(shard).glob(_ATTEMPT.format("*")))

    @property
    def plan(self) -> Path:
        """The plan: shards and counts."""
        return Path(self.private) / "plan.json"

    @property
    def pinned(self) -> Path:
        """The number of shards, fixed at the first plan."""
        return self.shards / "pinned.json"

    @property
    def contents(self) -> Path:
        """What the plan read of the sheet's image files."""
        return Path(self.private) / "contents.parquet"

    @property
    def reid(self) -> Path:
        """Folder of the attacks."""
        return Path(self.private) / "reid"

    def searches(self, part: int) -> Path:
        """What one of several jobs counted of the searches; ``part`` is from 0."""
        return self.reid / "searches" / f"{part}.parquet"

    def release_part(self, version: str, part: int) -> Path:
        """Folder of the images of a version that one of several jobs wrote; ``part`` is from 0."""
        return Path(self.private) / "release" / version / str(part)

    def release_parts(self) -> list[Path]:
        """Folders of images that jobs wrote, a version's each."""
        return [one for one in sorted((Path(self.private) / "release").glob("*/")) if one.suffix != _EXAMINED]

    def examined_part(self, version: str, part: int) -> Path:
        """What one of several jobs found in the images of a version."""
        return Path(self.private) / "release" / f"{version}{_EXAMINED}" / f"{part}.parquet"

    @property
    def panel(self) -> Path:
        """Folder of the panel studies."""
        return Path(self.private) / "panel"

    @property
    def gallery(self) -> Path:
        """Embeddings of the user's own gallery, which holds no patient."""
        return self.reid / "gallery.parquet"

    @property
    def sweep(self) -> Path:
        """Privacy against utility: scores of the sample."""
        return self.reid / "sweep.json"

    @property
    def attacks(self) -> Path:
        """The attacks' numbers and the release gate's verdict."""
        return self.reid / "attacks.json"

    @property
    def review(self) -> Path:
        """Folder of the reviewers' decisions, a file a shard."""
        return Path(self.private) / "review"

    @property
    def masks(self) -> Path:
        """Folder of the masks that reviewers drew, a folder a shard."""
        return self.review / "masks"

    @property
    def decision(self) -> Path:
        """Whether there is a release, and of what."""
        return Path(self.private) / "decision.json"

    @property
    def crosswalk(self) -> Path:
        """The link between sheet and release."""
        return Path(self.private) / "crosswalk.parquet"

    @property
    def quarantine(self) -> Path:
        """List of the photographs that are held back, with reasons."""
        return Path(self.private) / "quarantine.tsv"

    @property
    def reviewer(self) -> Path:
        """The reviewer's copy: originals beside results."""
        return Path(self.private) / "reviewer.html"

    @property
    def ledger(self) -> Path:
        """The ids of every photograph that a version released."""
        return Path(self.private) / "released.parquet"

    def audit(self, version: str) -> Path:
        """Page of a version's audit."""
        return self.reports / version / _AUDIT

    def audit_numbers(self, version: str) -> Path:
        """Every figure of a version's audit, and the release gate's verdict."""
        return self.reports / version / _NUMBERS

    def audits(self, version: str | None = None) -> list[Path]:
        """Pages of the audits that were written: of one version, or of all."""
        return sorted(self.reports.glob(f"{version or '*'}/{_AUDIT}"))

    @property
    def logs(self) -> Path:
        """Folder of all logs."""
        return self.root / "logs"

    @property
    def run_log(self) -> Path:
        """What Snakemake says in ``deidlib run``."""
        return self.logs / "run.log"

    def stage_log(self, stage: str, shard: str, attempt: int | None = None) -> Path:
        """Log of a stage's job on a shard; a stage of an attempt needs the attempt's number."""
        name = shard if attempt is None else f"{shard}.{_ATTEMPT.format(attempt)}"
        return self.logs / stage / f"{name}.log"

    @property
    def run_file(self) -> Path:
        """Lock file of the run that works here; it also describes that run."""
        return self.root / ".lock"

    @property
    def releases(self) -> Path:
        """Folder of all versions."""
        return self.root / "release"

    @property
    def reports(self) -> Path:
        """Folder of all versions' reports; each version's has :data:`REPORT_FILES`."""
        return self.root / "report"
