"""The command line: one command a stage, and the tools around them.

Commands read tables and settings, call the library and write a table. Heavy libraries are imported inside the
commands, so that ``deidlib --help`` and a stage without work are quick.
"""

from deidlib.cli import attempts, panel, publish, recipients, reid, review, stages, sweep, tools
from deidlib.cli.common import add, group

app = group(
    "De-identified datasets of dental patient photographs: the patient's own dental area inside the face of "
    "a person who does not exist."
)
add(app, "preview", stages.preview)
add(app, "plan", stages.plan)
add(app, "intake", stages.intake)
add(app, "landmarks", stages.landmarks)
add(app, "regions", stages.regions)
app.add_typer(attempts.donors_app, name="donors")
add(app, "invert", attempts.invert)
add(app, "blend", attempts.blend)
add(app, "check", attempts.check)
add(app, "outcomes", stages.outcomes)
add(app, "embeddings", reid.embeddings)
add(app, "sweep", sweep.sweep)
add(app, "reid", reid.reid)
add(app, "review", review.review)
add(app, "decide", publish.decide)
add(app, "release", publish.release)
add(app, "report", publish.report)
add(app, "verify", recipients.verify)
add(app, "diff", recipients.diff)
add(app, "sign", recipients.sign)
add(app, "release-dicom", recipients.release_dicom)
add(app, "status", tools.status)
add(app, "mask-page", tools.mask_page)
add(app, "keygen", tools.keygen)
app.add_typer(tools.models_app, name="models")
app.add_typer(tools.weights_app, name="weights")
app.add_typer(panel.panel_app, name="panel")
add(app, "demo-cohort", tools.demo_cohort)
