"""``ro-crate-metadata.json``: the release as RO-Crate 1.1 with the Workflow Run Crate profile 0.5.

The crate describes how the release was made: the workflow's own files (copied beside it), the settings, the software
with its versions, the models with their checksums, and the results. The cohort is private and not part of it.
"""

from __future__ import annotations

import json
import platform
import re
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from deidlib import distribution
from deidlib.release.layout import (
    CARD_FILE,
    CROISSANT_FILE,
    DATASHEET_FILE,
    EMBEDDED_FOLDER,
    GALLERY_FILE,
    IMAGES_FOLDER,
    INDEX_FILE,
    SETTINGS_FILE,
    TOMBSTONES_FILE,
    WORKFLOW_FOLDER,
)
from deidlib.release.summary import Summary
from deidlib.storage import provenance

#: The workflow's entry among the release's files, as in the repository.
WORKFLOW_FILE = "workflow/Snakefile"
_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
_FORMATS = {
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".txt": "text/plain",
    ".smk": "text/plain",
}
_TITLES = {
    INDEX_FILE: "Index: one row for each photograph",
    CARD_FILE: "Data card",
    DATASHEET_FILE: "Datasheet",
    GALLERY_FILE: "Gallery: a page to look through the photographs",
    CROISSANT_FILE: "Croissant metadata",
    SETTINGS_FILE: "Configuration of the run, without paths",
    TOMBSTONES_FILE: "Ids of earlier versions that are to be deleted",
}
_FORMAL_PARAMETER = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"


def workflow_files() -> dict[str, bytes]:
    """Path in the release → content of the workflow's files: the Snakefile and its rules."""
    root = distribution.folder()
    files = [root / WORKFLOW_FILE, *sorted((root / WORKFLOW_FOLDER / "rules").glob("*.smk"))]
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


def software() -> dict[str, str]:
    """Distribution → version of Python and of the libraries that deidlib names as its own."""
    names = [re.match(r"[A-Za-z0-9._-]+", text)[0] for text in metadata.requires("deidlib") or []]
    found = {"python": platform.python_version()}
    for name in sorted(set(names)):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a marker keeps it out of this platform
            continue
    return found


def ro_crate(summary: Summary, sums: Mapping[str, str]) -> bytes:
    """JSON-LD of the crate.

    Parameters
    ----------
    summary : Summary
        Summary of the run.
    sums : mapping
        Checksum of every file of the release that is written before the crate.
    """
    crate = ROCrate(version="1.1")
    crate.metadata.extra_terms = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}
    root = crate.root_dataset
    root["name"], root["version"] = summary.name, summary.version
    root["description"] = (
        f"{summary.sentence.replace('*', '')}, de-identified; content digest {summary.content_digest}."
    )
    root["datePublished"], root["identifier"] = summary.date, f"sha256:{summary.content_digest}"
    root["license"] = _licence(crate, summary.licence)
    root["conformsTo"] = [
        _add(crate, url, "CreativeWork", name=name, version=version) for url, (name, version) in _PROFILES.items()
    ]
    crate.metadata["conformsTo"] = [
        {"@id": "https://w3id.org/ro/crate/1.1"},
        {"@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.0"},
    ]
    if summary.institution:
        root["publisher"] = root["author"] = _add(crate, "#institution", "Organization", name=summary.institution)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the files lie in place already: nothing is copied
        _add_files(crate, sums)
        _add_run(crate, summary)
    text = json.dumps(crate.metadata.generate(), indent=2, ensure_ascii=False, sort_keys=True)
    return (text + "\n").encode()


def _add(crate: ROCrate, identifier: str, kind: str | list[str], /, **properties) -> ContextEntity:
    return crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **properties}))


def _licence(crate: ROCrate, text: str) -> ContextEntity:
    identifier = text if re.match(r"https?://\S+$", text) else "#licence"
    return _add(crate, identifier, "CreativeWork", name=text, description=f"Terms of use: {text}")


def _add_files(crate: ROCrate, sums: Mapping[str, str]) -> None:
    for path, digest in sums.items():
        if path.startswith(f"{IMAGES_FOLDER}/"):
            continue
        name = _TITLES.get(path, path)
        form = _FORMATS.get(Path(path).suffix, "text/plain")
        properties = {"name": name, "encodingFormat": form, "sha256": digest}
        if path == CARD_FILE:
            properties["about"] = {"@id": "./"}
        if path == WORKFLOW_FILE:
            properties["@type"] = ["File", "SoftwareSourceCode", "ComputationalWorkflow"]
        crate.add_file(dest_path=path, properties=properties)
    crate.add_directory(dest_path=f"{IMAGES_FOLDER}/", properties={"name": "Images: one PNG for each photograph"})
    if any(path.startswith(f"{EMBEDDED_FOLDER}/") for path in sums):
        properties = {"name": "Images with their index, in Parquet files"}
        crate.add_directory(dest_path=f"{EMBEDDED_FOLDER}/", properties=properties)


def _add_run(crate: ROCrate, summary: Summary) -> None:
    get = crate.dereference
    language = _add(
        crate,
        "https://w3id.org/workflowhub/workflow-ro-crate#snakemake",
        "ComputerLanguage",
        name="Snakemake",
        identifier={"@id": "https://doi.org/10.1093/bioinformatics/bts480"},
        url={"@id": "https://snakemake.readthedocs.io"},
        version=metadata.version("snakemake"),
    )
    settings = _parameter(crate, "settings", "File", "configuration of the run", get(SETTINGS_FILE))
    index = _parameter(crate, "index", "File", "table of the released photographs", get(INDEX_FILE))
    images = _parameter(crate, "images", "Dataset", "released photographs", get(f"{IMAGES_FOLDER}/"))
    tools = _tools(crate, summary)
    workflow = get(WORKFLOW_FILE)
    workflow["name"] = "deidlib: from a sample sheet to a de-identified release"
    workflow["programmingLanguage"] = language
    workflow["url"] = {"@id": WORKFLOW_FILE}
    workflow["version"] = summary.deidlib_version
    workflow["conformsTo"] = {"@id": "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"}
    workflow["input"], workflow["output"] = settings, [index, images]
    workflow["hasPart"] = [e for e in crate.data_entities if e.id.endswith(".smk")]
    workflow["softwareRequirements"] = tools
    workflow["license"] = {"@id": "https://www.apache.org/licenses/LICENSE-2.0"}
    crate.root_dataset["mainEntity"] = workflow
    action = _add(
        crate,
        "#run",
        "CreateAction",
        name=f"Making of version {summary.version}",
        description=(
            f"{summary.counts['photographs'] + summary.counts['quarantined']} photographs taken in, "
            f"{summary.counts['photographs']} released, {summary.counts['quarantined']} held back"
        ),
        endTime=summary.date,
    )
    action["instrument"] = workflow
    action["object"] = get(SETTINGS_FILE)
    action["result"] = [get(INDEX_FILE), get(f"{IMAGES_FOLDER}/")]
    if summary.institution:
        action["agent"] = get("#institution")
    actions = [action, *_review(crate, summary)]
    crate.root_dataset["mentions"] = actions if len(actions) > 1 else action  # RO-Crate asks for no list of one


def _review(crate: ROCrate, summary: Summary) -> list[ContextEntity]:
    """The review before release, where a person looked: counts and roles, no names."""
    if not summary.review["looked_at"]:
        return []
    action = _add(crate, "#review", "ReviewAction", name="Review before release", description=summary.reviewed)
    action["object"] = crate.dereference(f"{IMAGES_FOLDER}/")
    return [action]


def _page(name: str, version: str) -> str:
    """Web page of a distribution's version: its identifier here, and where a reader finds what it is."""
    if name == "python":
        return f"https://www.python.org/downloads/release/python-{version.replace('.', '')}/"
    return f"https://pypi.org/project/{name.lower().replace('_', '-')}/{version}/"


def _parameter(crate: ROCrate, name: str, kind: str, text: str, example: ContextEntity) -> ContextEntity:
    entity = _add(
        crate,
        f"#parameter-{name}",
        "FormalParameter",
        additionalType=kind,
        name=name,
        description=text,
        valueRequired=True,
        conformsTo={"@id": _FORMAL_PARAMETER},
    )
    entity["workExample"] = example
    example["exampleOfWork"] = entity
    return entity


def _tools(crate: ROCrate, summary: Summary) -> list[ContextEntity]:
    tools = [
        _add(
            crate,
            f"pkg:generic/deidlib@{summary.deidlib_version}",
            "SoftwareApplication",
            name="deidlib",
            softwareVersion=summary.deidlib_version,
            sha256=provenance.code_digest(),
            description="sha256: of the sorted SHA-256 lines of its code, its templates and the workflow's files",
        )
    ]
    for name, version in software().items():
        page = _page(name, version)
        tools.append(_add(crate, page, "SoftwareApplication", name=name, softwareVersion=version, url={"@id": page}))
    for model in summary.models:
        sums = "; ".join(f"{file['file']} {file['sha256']}" for file in model["files"])
        page = _page(model["package"], model["version"]) if model["package"] else ""  # else a file of the user's own
        link = model["url"] or page
        tools.append(
            _add(
                crate,
                f"{page}#{model['name']}",
                "SoftwareApplication",
                **({"url": {"@id": link}} if link else {}),
                name=model["name"],
                softwareVersion=f"{model['package']} {model['version']}".strip(),
                description=f"{model['task']}. Licence: {model['licence']}. SHA-256: {sums}",
            )
        )
    return tools
