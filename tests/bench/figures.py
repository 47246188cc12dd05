"""Draw what a photograph costs, and how stages over the whole cohort grow: docs/cost.png and docs/scaling.png.

python tests/bench/figures.py                       # draw what is recorded
python tests/bench/figures.py demo/results          # first record the stages of a run, from its benchmarks

Both are drawn from tests/bench/recorded.tsv alone. tests/bench/tail.py records the stages over the whole cohort.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from recorded import record, recorded

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))
from matplotlib.figure import Figure  # noqa: E402

from deidlib.pages.svg import BLUE, LINE, ORANGE, SERIES, drawing  # noqa: E402
from deidlib.storage.results import Results  # noqa: E402

RUN = "a whole run"
#: In the order of the workflow; the attempts' stages go on until everything passed or was given up.
STAGES = (
    *("plan", "intake", "landmarks", "regions", "donors", "inversion", "blending", "checks", "outcomes", "embeddings"),
    *("sweep", "reid", "decide", "release", "report"),
)
#: Of these the cost in a small run is start-up, a sample or pages, and says little of a large one.
ONCE = ("plan", "sweep", "reid", "decide", "report")
COHORT = ("status", "gather", "search", "reid", "decide", "images", "release", "examine", "report")


def record_run(results: Path) -> None:
    """Record the seconds of each stage of a run, over all its shards and attempts, and the highest memory of a job."""
    photos = json.loads(Results.of_folder(results).plan.read_text())["n_photos"]
    folder = Results.of_folder(results).logs / "benchmarks"
    for stage in STAGES:
        files = [folder / f"{stage}.tsv", *sorted(folder.glob(f"{stage}/*.tsv"))]
        rows = [row for file in files if file.is_file() for row in _rows(file)]
        columns = ([float(row[name]) for row in rows] for name in ("s", "cpu_time", "max_rss"))
        seconds, processor, memory = columns
        if rows:
            record(stage, photos, RUN, sum(seconds), sum(processor), max(memory))


def _rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened, delimiter="\t"))


def cost_figure(figure: Figure, rows: Iterable[Mapping[str, str]]) -> None:
    """Core-seconds a photograph of each stage of the recorded run: those that grow with the cohort, and the others."""
    mine = {row["stage"]: row for row in rows if row["what"] == RUN}
    stages = [stage for stage in STAGES if stage in mine]
    photos = int(mine[stages[0]]["photographs"])
    values = [float(mine[stage]["processor_seconds"]) / photos for stage in stages]
    axes = figure.subplots()
    bars = axes.barh(stages, values, color=[ORANGE if stage in ONCE else BLUE for stage in stages], height=0.7)
    axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"core-seconds a photograph, in a run of {photos} photographs (together {sum(values):.1f})")
    axes.legend(
        [bars[stages.index("inversion")], bars[stages.index("reid")]],
        ["grows with every photograph", "mostly start-up, a sample or pages"],
        loc="lower right",
    )


def scaling_figure(figure: Figure, rows: Iterable[Mapping[str, str]]) -> None:
    """Core-seconds of the stages over the whole cohort, by its size; what jobs share is multiplied by their number."""
    points: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row["what"] != RUN:
            jobs = int(row["what"].rpartition(" of ")[2]) if " of " in row["what"] else 1
            point = int(row["photographs"]), jobs * float(row["processor_seconds"])
            points.setdefault(row["stage"], []).append(point)
    axes = figure.subplots()
    shown = [stage for stage in COHORT if stage in points]
    for number, stage in enumerate(shown):
        colour, marker = SERIES[number % len(SERIES)]
        style = "-" if number < len(SERIES) else "--"
        at, seconds = zip(*sorted(points[stage]), strict=True)
        axes.loglog(at, seconds, style, color=colour, marker=marker, markersize=4, label=stage)
    axes.set_xlabel("photographs")
    axes.set_ylabel("core-seconds, all jobs together")
    axes.grid(color=LINE)
    axes.legend(loc="upper left", ncols=2)


def main(results: Path | None) -> None:
    """Record a run, if one is given; draw both figures."""
    if results is not None:
        record_run(results)
    for name, height, draw in (("cost", 4.2, cost_figure), ("scaling", 4.0, scaling_figure)):
        with drawing(height) as figure:
            draw(figure, recorded())
            figure.savefig(REPOSITORY / "docs" / f"{name}.png", dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
