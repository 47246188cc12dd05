"""The command line: one command a stage, and the tools around them.

Commands read tables and settings, call the library and write a table. Heavy libraries are imported inside the
commands, so that ``deidlib --help`` and a stage without work are quick.
"""

from deidlib.cli import attempts, panel, publish, recipients, reid, review, stages, sweep, tools
from deidlib.cli.common import add, group
from deidlib.cli.run import run

RUN, RECIPIENTS, TOOLS, STAGES = "Run", "Releases, and recipients of one", "Tools", "Stages of the workflow, one by one"

app = group(
    "De-identified datasets of dental patient photographs: the patient's own dental area inside the face of "
    "a person who does not exist."
)
app.callback()(tools.about)
add(app, "run", run, RUN)
add(app, "preview", stages.preview, RUN)
add(app, "status", tools.status, RUN)
add(app, "review", review.review, RUN)
add(app, "verify", recipients.verify, RECIPIENTS)
add(app, "diff", recipients.diff, RECIPIENTS)
add(app, "sign", recipients.sign, RECIPIENTS)
add(app, "publish", publish.publish, RECIPIENTS)
add(app, "release-dicom", recipients.release_dicom, RECIPIENTS)
add(app, "keygen", tools.keygen, TOOLS)
add(app, "demo-cohort", tools.demo_cohort, TOOLS)
add(app, "mask-page", tools.mask_page, TOOLS)
app.add_typer(tools.models_app, name="models", rich_help_panel=TOOLS)
app.add_typer(tools.weights_app, name="weights", rich_help_panel=TOOLS)
app.add_typer(panel.panel_app, name="panel", rich_help_panel=TOOLS)
add(app, "plan", stages.plan, STAGES)
add(app, "intake", stages.intake, STAGES)
add(app, "landmarks", stages.landmarks, STAGES)
add(app, "regions", stages.regions, STAGES)
app.add_typer(attempts.donors_app, name="donors", rich_help_panel=STAGES)
add(app, "invert", attempts.invert, STAGES)
add(app, "blend", attempts.blend, STAGES)
add(app, "check", attempts.check, STAGES)
add(app, "outcomes", stages.outcomes, STAGES)
add(app, "embeddings", reid.embeddings, STAGES)
add(app, "sweep", sweep.sweep, STAGES)
add(app, "gather", reid.gather, STAGES)
add(app, "search", reid.search, STAGES)
add(app, "reid", reid.reid, STAGES)
add(app, "decide", publish.decide, STAGES)
add(app, "images", publish.images, STAGES)
add(app, "release", publish.release, STAGES)
add(app, "examine", publish.examine, STAGES)
add(app, "report", publish.report, STAGES)
