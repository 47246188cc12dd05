# Shared by the rules: the checked config, the key, the jobs' environment, and the input functions.

import hashlib
import json
import os
import shlex
import sys
from collections import Counter
from pathlib import Path

from deidlib import config as settings
from deidlib import keys, run_lock
from deidlib.embedders.lead import LEADS
from deidlib.errors import DeidlibError, InputError
from deidlib.intake import cohort
from deidlib.models import ModelError, bank_file, demand_own_file, load_registry, preview_file
from deidlib.models import recognisers as registered_recognisers
from deidlib.panel.summary import panel_digest
from deidlib.review import workflow as reviews
from deidlib.storage.results import Results, stage_table
from deidlib.storage.shares import dealt, image_jobs, search_jobs

# `deidlib` is found whether Snakemake was started by `uv run snakemake` or `.venv/bin/snakemake`.
os.environ.update(PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]))


def refuse(error):
    """End the run before any job, with a message that holds the remedy, and without a traceback."""
    print(f"\n{error}", file=sys.stderr, flush=True)
    sys.exit(1)


def complete(config):
    """Fill every default into the config; a mistake in it ends the run."""
    try:
        config.update(settings.complete_config(config))
        config["results"] = str(settings.at_home(config["results"], "results"))
    except settings.ConfigError as error:
        refuse(error)


def key_check(config):
    """A keyed digest that differs between keys, so that a new key reruns the rules that depend on it.

    The jobs get the key file's path by an environment variable: neither the key nor its path is part of a command, a
    result or a log.
    """
    try:
        key_file = settings.key_file(config)
        settings.refuse_key_inside(key_file, config["results"])
        os.environ.update(DEIDLIB_KEY_FILE=str(key_file.absolute()))
        return keys.pseudonym(keys.read_key(key_file), "key-check")
    except ValueError as error:
        refuse(error)


def find_sheet(config):
    """Give the jobs the sample sheet's path, and check before any job that the sheet exists.

    The sheet is no input of a rule: Snakemake compares the dates of inputs, and a sheet may have any date. As with the
    key, the jobs get its path by an environment variable.
    """
    try:
        path = settings.at_home(config["cohort"], "cohort")
    except settings.ConfigError as error:
        refuse(error)
    if path.is_dir():
        refuse("cohort: this is a folder; name the sample sheet in it, for example folder/samples.tsv")
    if not path.is_file():
        refuse("cohort: no file of this name; name your sample sheet, relative to the current folder")
    os.environ.update(DEIDLIB_SHEET=str(path.absolute()))


def find_generator(config):
    """Give the jobs the user's own models file, and check before any job that the generator and its bank exist.

    As with the key, the jobs get the file's path by an environment variable.
    """
    try:
        if own := settings.models_file(config):
            os.environ.update(DEIDLIB_MODELS_FILE=str(own.absolute()))
        if not bank_file(config["generator"]).is_file():
            refuse(f"no donor bank yet; run `deidlib donors build --generator {config['generator']}` once")
    except ModelError as error:
        refuse(error)


def planned(about):
    """What the plan says about something, such as `shards`; waits for the plan."""
    with open(checkpoints.plan.get().output.plan) as file:
        return json.load(file)[about]


def shards():
    """Names of the planned shards."""
    return planned("shards")


def sheet_state(wildcards):
    """Params function: a keyed digest of the sheet and of its files' states, so that a changed content reruns the plan.

    Snakemake calls it only to decide whether to plan, so no job of another rule reads the sheet.
    """
    try:
        key = keys.read_key(settings.key_file(config))
        return keys.pseudonym(key, "sheet", cohort.sheet_state(settings.at_home(config["cohort"], "cohort")))
    except DeidlibError as error:
        refuse(error)


def digest_of_cohort(wildcards):
    """Params function: digest of the shard's part of the sheet; a changed one reruns intake."""
    return planned("cohorts")[wildcards.shard]


def cohort_of_shard(wildcards):
    """The shard's part of the sheet, which the plan wrote."""
    results = Results.of_plan(checkpoints.plan.get().output.plan)
    return str(stage_table(results.shard(wildcards.shard), "cohort"))


def attempt_before(wildcards):
    """Input function: checks, donors and faces of the attempt before; attempt 0 has none."""
    before = int(wildcards.attempt) - 1
    folder = f"{PRIVATE}/shards/{wildcards.shard}/attempt-{before}"
    return [f"{folder}/{table}.parquet" for table in ("checks", "donors", "faces")] if before >= 0 else []


def of_all_shards(table):
    """Input function: a table of every shard."""
    return lambda wildcards: expand("<private>/shards/{shard}/{table}", shard=shards(), table=table)


def of_all_attempts(table):
    """Input function: a table of every attempt of every shard."""
    return lambda wildcards: tables_of_attempts(shards(), table)


def parts_of_search(wildcards):
    """Params function: number of jobs that share the searches over the whole cohort; 1: the rule reid does them."""
    return search_jobs(planned("n_photos"))


def processes_of_attacks(wildcards, threads):
    """Params function: recognisers that attack at a time. Those of a small cohort take less time than more processes."""
    return threads if parts_of_search(wildcards) > 1 else 1


def shared_searches(wildcards):
    """Input function: the parts of the searches, where several jobs share them."""
    parts = parts_of_search(wildcards)
    return [str(RESULTS.searches(part)) for part in range(parts)] if parts > 1 else []


def searches_of_the_gallery(wildcards):
    """Input function: where there is a gallery, the first part, which embeds it for the others."""
    return str(RESULTS.searches(0)) if config["reid"]["gallery"] and wildcards.part != "0" else []


def parts_of_images(wildcards):
    """Params function: number of jobs that share a release's images; 1: the rules release and report handle them."""
    return image_jobs(planned("n_photos"))


def shared_images(wildcards):
    """Input function: the parts of the release's images, where several jobs share them and there is a release."""
    parts = parts_of_images(wildcards)
    if parts == 1 or not is_released():
        return []
    return [str(RESULTS.release_part(config["version"], part)) for part in range(parts)]


def shared_examination(wildcards):
    """Input function: the parts of the examination of the release's images, likewise."""
    parts = parts_of_images(wildcards)
    if parts == 1 or not is_released():
        return []
    return [str(RESULTS.examined_part(config["version"], part)) for part in range(parts)]


def shards_of_part(wildcards):
    """The shards whose images a job writes."""
    return dealt(shards(), (int(wildcards.part), parts_of_images(wildcards)))


def of_part_of_shards(table):
    """Input function: a table of every shard of a part."""
    return lambda wildcards: expand(
        "<private>/shards/{shard}/{table}", shard=shards_of_part(wildcards), table=table
    )


def of_attempts_of_part(table):
    """Input function: a table of every attempt of every shard of a part."""
    return lambda wildcards: tables_of_attempts(shards_of_part(wildcards), table)


def tables_of_attempts(names, table):
    """A table of every attempt of these shards."""
    return [
        path
        for shard in names
        for path in expand(
            "<private>/shards/{shard}/attempt-{attempt}/{table}",
            shard=shard,
            attempt=range(attempts_of(shard)),
            table=table,
        )
    ]


def attempts_of(shard):
    """Number of attempts of a shard: that of the config, and one more for each round of a reviewer's requests."""
    return reviews.made_attempts(PRIVATE, shard, config)


def made_attempts():
    """Params function: number of attempts of a shard."""
    return lambda wildcards: attempts_of(wildcards.shard)


def requested_option():
    """Params function: names the photographs for which a reviewer asked this attempt; nothing for a regular one."""

    def option(wildcards):
        number = int(wildcards.attempt)
        if number < config["attempts"]:
            return ""
        wanted = reviews.requested(PRIVATE, wildcards.shard, number, config)
        return f"--requested {shlex.quote(json.dumps(wanted))}"

    return option


def drawn_masks():
    """Params function: digest of the masks that reviewers drew on a shard's photographs; a new one reruns the rule."""
    return lambda wildcards: reviews.masks_of_shard(PRIVATE, wildcards.shard)


def folder_of_drawn_masks():
    """Params function: option that names the folder of these masks, if it exists."""

    def option(wildcards):
        folder = RESULTS.masks / wildcards.shard
        return f"--drawn {shlex.quote(str(folder))}" if folder.is_dir() else ""

    return option


def effect_of_review():
    """Params function: digest of reviewers' decisions against a shard's photographs; a new one reruns the rule."""
    return lambda wildcards: (
        "off" if config["review"] == "off" else reviews.effect_of_shard(PRIVATE, wildcards.shard)
    )


def all_of_review():
    """Params function: digest of all decisions of reviewers."""
    return lambda wildcards: "off" if config["review"] == "off" else reviews.digest_of_all(PRIVATE)


def panel_results():
    """Params function: digest of the panel studies' results, so that a new result reruns the report."""
    return lambda wildcards: panel_digest(PRIVATE)


def folder_of(kind):
    """Params function: folder of this version's release or report."""
    return lambda wildcards: f"{config['results']}/{kind}/{config['version']}"


def is_released():
    """Whether there is a release; waits for the decision."""
    with open(checkpoints.decide.get().output.decision) as file:
        return json.load(file)["release"]


def sums_of_the_release(wildcards):
    """Input function: the release's checksums, if there is a release."""
    return f"{folder_of('release')(wildcards)}/SHA256SUMS" if is_released() else []


def option_of_the_release(wildcards):
    """Params function: option that names the release's folder, if there is a release."""
    return f"--release {shlex.quote(folder_of('release')(wildcards))}" if is_released() else ""


def report_of_a_refusal(wildcards):
    """Input function: the audit, if there is no release, so that it is written before the run ends with an error."""
    return [] if is_released() else f"{folder_of('report')(wildcards)}/audit.html"


def more(amount):
    """Resource function: memory or minutes, increased by the same amount at every retry."""
    return lambda wildcards, attempt: amount * attempt


def for_photos(kilobytes, least):
    """Resource function: memory by the photographs of the cohort, increased by the same amount at every retry."""

    def memory(wildcards, attempt):
        known = RESULTS.plan.is_file()  # before the plan, Snakemake asks to show the jobs alone
        photos = json.loads(RESULTS.plan.read_text())["n_photos"] if known else 0
        return attempt * max(least, kilobytes * photos // 1000)

    return memory


def judge_group(wildcards):
    """Group of an attempt's blending, checks and next donors: on a cluster they share a job (docs/cluster.md).

    Each attempt has a group of its own. Snakemake joins jobs of one group that depend on each other, and donors depend on
    those of the attempt before, with the inversion in between.
    """
    return f"judge_{wildcards.attempt}"


def donors_group(wildcards):
    """Group of the donors rule: that of the rule before it."""
    before = int(wildcards.attempt) - 1
    return "prepare" if before < 0 else f"judge_{before}"


def of_attempts(table):
    """Input function: a table of every attempt of one shard."""
    return lambda wildcards: expand(
        "<private>/shards/{shard}/attempt-{attempt}/{table}",
        shard=wildcards.shard,
        attempt=range(attempts_of(wildcards.shard)),
        table=table,
    )


def options(stage):
    """Params function: the stage's options and its part of the preset as JSON; a change reruns only this stage."""
    return lambda wildcards: json.dumps(settings.stage_options(config, stage), sort_keys=True)


def published_settings(audit=False):
    """Params function: the whole config as JSON, without paths; `audit` adds what the study states for the audit alone."""
    private = ("cohort", "results", "key_file", "models_file")
    kept = {name: value for name, value in config.items() if name not in private}
    if not audit:
        kept["study"] = {
            name: text for name, text in kept["study"].items() if name not in settings.AUDIT_ONLY
        }
    return lambda wildcards: json.dumps(kept, sort_keys=True)


def settings_of(*keys, recognisers=False):
    """Params function: these keys of the config as JSON; `recognisers` adds the list from the block `reid`."""
    kept = {key: config[key] for key in keys}
    if recognisers:
        kept["reid"] = {"recognisers": config["reid"]["recognisers"]}
    return lambda wildcards: json.dumps(kept, sort_keys=True)


def released_columns():
    """Params function: the rules of the released columns of the sheet, as JSON."""
    columns = {"release": {"columns": config["release"]["columns"]}}
    return lambda wildcards: json.dumps(columns, sort_keys=True)


def recogniser_models():
    """Registry names of the models of the attacking recognisers; an unknown recogniser ends the run."""
    known = registered_recognisers()
    for name in config["reid"]["recognisers"]:
        if name not in known:
            refuse(
                f"reid.recognisers: no recogniser called {name}; config/models.yaml has {', '.join(sorted(known))}"
            )
    models = [known[name]["model"] for name in config["reid"]["recognisers"]]
    for model in models:
        try:
            demand_own_file(model, REGISTRY)
        except ModelError as error:
            refuse(error)
    return models


def leading_models():
    """Registry names of the models of the identity loss."""
    led_by = settings.stage_options(config, "inversion")["identity_led_by"]
    return sorted({LEADS[name].model for name in led_by})


def weights(*models):
    """Params function: checksums of the models that a stage uses; other weights rerun it."""
    sums = [sum_[:12] for name in models or REGISTRY for sum_ in REGISTRY[name]["members"].values()]
    return lambda wildcards: " ".join(sums)


def generator_file(locate):
    """Params function: checksum of a file that belongs to the generator; another file reruns the rules that use it.

    ``locate`` is ``bank_file`` or ``preview_file``.
    """
    path = locate(config["generator"])
    sum_ = "absent"  # the stage that needs the file reports this
    if os.path.isfile(path):
        with open(path, "rb") as file:
            sum_ = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    return lambda wildcards: sum_


def hold_results(config):
    """Keep a second run out of the results folder for as long as this process lives."""
    global results_lock
    shown = ("attempts", "identity", "version", "review", "reviewers")
    about = {name: config[name] for name in shown} | {
        "checks": settings.stage_options(config, "checks"),
        "sweep_photos": config["reid"]["sweep_photos"],
        "jobs": dict(Counter(job.rule.name for job in workflow.dag.needrun_jobs())),
    }
    try:
        results_lock = run_lock.hold_results(config["results"], about)
    except InputError as error:
        refuse(error)


def closing_lines(config):
    """The places of the run's results, and the panel studies that show patients who have withdrawn consent."""
    from deidlib.panel.withdrawn import (
        withdrawn_words,
    )  # imported here, because it loads modules for images that jobs do not need

    places = {
        "release": RESULTS.releases / config["version"],
        "report": RESULTS.audit(config["version"]),
        "reviewer's copy (private)": RESULTS.reviewer,
        "quarantine list (private)": RESULTS.quarantine,
    }
    lines = [f"{name}:".ljust(27) + str(place) for name, place in places.items() if place.exists()]
    lines.extend(withdrawn_words(PRIVATE))
    return "\n".join(lines)


complete(config)
RESULTS = Results.of_folder(config["results"])
PRIVATE = str(RESULTS.private)
KEY_CHECK = key_check(config)
find_sheet(config)
find_generator(config)
REGISTRY = load_registry()
GPU = int(config["device"] == "cuda")
