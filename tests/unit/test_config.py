"""Defaults, refusals and their messages; the shipped configuration and its explanation."""

import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from deidlib import config

REPOSITORY = Path(__file__).resolve().parents[2]
GOOD = {"cohort": "folder/samples.tsv"}


def described(rule, name=""):
    """Every key of the schema as (dotted name, property)."""
    for key, inner in rule.get("properties", {}).items():
        yield f"{name}{key}", inner
        yield from described(inner, f"{name}{key}.")


def test_the_schemas_are_valid_and_describe_every_property():
    for name in ("config", "preset", "samples"):
        schema = config.load_schema(name)
        jsonschema.Draft202012Validator.check_schema(schema)
        undescribed = [key for key, rule in described(schema) if not rule.get("description", "").strip()]
        assert undescribed == []


def test_every_key_but_the_first_has_a_default_and_the_defaults_are_valid():
    cfg = config.complete_config(GOOD)
    for key, rule in described(config.load_schema("config")):
        if key != "cohort" and "properties" not in rule:
            assert "default" in rule, key
    assert cfg["attempts"] == 4
    assert cfg["checks"]["sface_max"] == 0.363
    assert cfg["release"]["columns"]["age"] == {"rule": "bin", "width": 10}


def test_completing_leaves_the_argument_and_the_defaults_alone():
    given = {"cohort": "a.tsv", "intake": {"min_side": 64}}
    config.complete_config(given)["intake"]["max_pixels"] = 1
    config.complete_config(given)["release"]["columns"]["age"]["width"] = 5
    assert given == {"cohort": "a.tsv", "intake": {"min_side": 64}}
    assert config.complete_config(given)["intake"] == {"max_pixels": 100_000_000, "min_side": 64}
    assert config.complete_config(given)["release"]["columns"]["age"]["width"] == 10


def test_completing_twice_changes_nothing():
    once = config.complete_config(GOOD)
    assert config.complete_config(once) == once


def test_an_empty_block_has_its_defaults_and_a_whole_float_becomes_an_integer():
    cfg = config.complete_config(GOOD | {"intake": None, "preset": {"inversion": {"steps": 12.0}}})
    assert cfg["intake"]["min_side"] == 128
    assert cfg["preset"]["inversion"]["steps"] == 12
    assert isinstance(cfg["preset"]["inversion"]["steps"], int)


def test_released_columns_replace_the_default_ones():
    cfg = config.complete_config(GOOD | {"release": {"columns": {"arch_width_mm": {"rule": "keep"}}}})
    assert cfg["release"]["columns"] == {"arch_width_mm": {"rule": "keep"}}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"prserve": "mouth"}, r"prserve: no such key; did you mean preserve\?"),
        ({"max_yaw": 20}, r"max_yaw: no such key; did you mean preset\.landmarks\.max_yaw\?"),
        ({"inversion": {"steps": 3}}, r"inversion\.steps: no such key; the generator's preset has it; .* `preset`"),
        ({"donors": {"pool": 3}}, r"donors: no such key; the generator's preset has it"),
        ({"preset": 5}, r"preset: 5 is not allowed; name a YAML file, or write null"),
        ({"preset": {"inversion": {"step": 5}}}, r"preset\.inversion\.step: no such key; did you mean steps\?"),
        ({"preset": {"name": "a name"}}, r"preset\.name: 'a name' is not allowed"),
        ({"intake": {"max_pixel": 5}}, r"intake\.max_pixel: no such key; did you mean max_pixels\?"),
        ({"intake": {"qqq": 5}}, r"intake\.qqq: no such key; keys here are max_pixels, min_side"),
        ({"preserve": "lips"}, r"preserve: 'lips' is not allowed; use one of teeth, mouth, lower_face"),
        ({"version": 1.0}, r"version: 1\.0 is not allowed; write three numbers .* in quotes"),
        ({"version": "../1.0.0"}, r"version: '\.\./1\.0\.0' is not allowed"),
        (
            {"attempts": 0},
            r"attempts: 0 is not allowed; write a whole number, at least 1 and at most 10 \(default 4\)",
        ),
        ({"attempts": "three"}, r"attempts: 'three' is not allowed; write a whole number"),
        ({"attempts": "3.5"}, r"attempts: 3\.5 is not allowed; write a whole number"),
        ({"checks": {"dlib_min": "two"}}, r"checks\.dlib_min: 'two' is not allowed; write a number"),
        ({"checks": "{dlib_min: [}"}, r"checks: .* is not allowed; write a block of keys"),
        ({"attempts": True}, r"attempts: True is not allowed"),
        ({"shards": 0}, r"shards: 0 is not allowed; write a whole number or null, at least 1"),
        ({"cohort": None}, r"cohort: null is not allowed; name your sample sheet"),
        ({"intake": 5}, r"intake: 5 is not allowed; write a block of keys"),
        (
            {"preset": {"inversion": {"steps": 1.5}}},
            r"preset\.inversion\.steps: 1\.5 is not allowed; write a whole number",
        ),
        (
            {"preset": {"inversion": {"learning_rate": "4e+2"}}},
            r"preset\.inversion\.learning_rate: 400\.0 .* write a number, more than 0",
        ),
        ({"checks": {"sface_max": 0.5}}, r"checks\.sface_max: 0\.5 is not allowed; .* at most 0\.363"),
        ({"checks": {"dlib_min": float("nan")}}, r"checks\.dlib_min: nan .* write a finite number"),
        ({"checks": {"dlib_min": 0.5}}, r"checks\.dlib_min: 0\.5 is not allowed; .* at least 0\.6"),
        ({"preset": {"checks": {"seam_max": float("nan")}}}, r"preset\.checks\.seam_max: nan .* write a finite number"),
        (
            {"preset": {"checks": {"latent_distance_max": float("inf")}}},
            r"preset\.checks\.latent_distance_max: inf .* write a finite number",
        ),
        (
            {"views": {"profile": "blur"}},
            r"views\.profile: 'blur' .* use one of generate, region_only, intra",
        ),
        ({"views": {"pofile": "refuse"}}, r"views\.pofile: no such key; did you mean profile\?"),
        (
            {"preset": {"donors": {"pool": 2, "mix": 3}}},
            r"preset\.donors\.mix: 3 is more than donors\.pool; mix at most",
        ),
        (
            {"release": {"columns": {"photo_id": {"rule": "keep"}}}},
            r"release\.columns\.photo_id: .* never released",
        ),
        (
            {"release": {"columns": {"age": {"rule": "bin"}}}},
            r"release\.columns\.age\.width: missing; give bin a width",
        ),
        ({"release": {"columns": {"age": {"rule": "keep", "width": 3}}}}, r"age\.width: 3 .* remove it"),
        ({"release": {"columns": {"age": "keep"}}}, r"release\.columns\.age: 'keep' .* write \{rule: keep\}"),
        (
            {"release": {"columns": {"age": {"rule": "round"}}}},
            r"age\.rule: 'round' .* use one of keep, bin, days, year, drop",
        ),
    ],
)
def test_a_wrong_configuration_names_key_value_and_mend(wrong, message):
    with pytest.raises(config.ConfigError) as caught:
        config.complete_config(GOOD | wrong)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_values_that_come_as_text_are_what_they_would_be_in_a_file():
    given = {
        "attempts": "2",
        "shards": "null",
        "key_file": "~",
        "checks": "{dlib_min: 0.65, sface_max: 3e-1}",
        "inversion": {"batch": "4", "compile": "true"},
        "preset": {"inversion": {"learning_rate": "4e-2"}},
        "release": {"columns": {"age": {"rule": "bin", "width": "5"}}, "metadata": "[iso]", "name": "7"},
        "version": "1.0.0",
    }
    cfg = config.complete_config(GOOD | given)
    assert (cfg["attempts"], cfg["shards"], cfg["key_file"], cfg["version"]) == (2, None, None, "1.0.0")
    assert (cfg["checks"]["dlib_min"], cfg["checks"]["sface_max"]) == (0.65, 0.3)
    assert (cfg["inversion"]["batch"], cfg["inversion"]["compile"]) == (4, True)
    assert cfg["preset"]["inversion"]["learning_rate"] == 0.04
    assert cfg["release"]["columns"]["age"]["width"] == 5
    assert (cfg["release"]["metadata"], cfg["release"]["name"]) == (["iso"], "7")


def test_a_key_given_as_a_setting_is_not_shown():
    for wrong in ({"key_file": ["0123456789abcdef" * 4]}, {"key_file": {"0123456789abcdef" * 4: 1}}):
        with pytest.raises(config.ConfigError, match="key_file: ") as caught:
            config.complete_config(GOOD | wrong)
        assert "0123456789abcdef" not in str(caught.value)


def test_a_key_inside_the_results_is_refused_through_links_too(tmp_path):
    results = tmp_path / "results"
    (results / "private").mkdir(parents=True)
    (tmp_path / "link").symlink_to(results)
    for key in (results / "key", results / "private" / "key", tmp_path / "link" / "key"):
        with pytest.raises(config.ConfigError, match="inside the results"):
            config.refuse_key_inside(key, results)
    config.refuse_key_inside(tmp_path / "key", results)
    config.refuse_key_inside(tmp_path / "results-key", results)


def test_a_home_that_nobody_has_is_told():
    with pytest.raises(config.ConfigError, match=r"cohort: .* home"):
        config.at_home("~nobody-of-this-name/samples.tsv", "cohort")
    assert config.at_home("~/samples.tsv", "cohort") == Path.home() / "samples.tsv"


def test_own_models_are_named_in_the_configuration_or_the_environment():
    environment = {"DEIDLIB_MODELS_FILE": "there/models.yaml"}
    assert config.models_file({"models_file": "here/models.yaml"}, environment) == Path("here/models.yaml")
    assert config.models_file({"models_file": None}, environment) == Path("there/models.yaml")
    assert config.models_file(config.complete_config(GOOD), {}) is None


def test_without_a_cohort_the_message_says_how_to_name_one():
    with pytest.raises(config.ConfigError, match=r"cohort: missing; .*--config cohort=folder/samples\.tsv"):
        config.complete_config({})


def test_all_faults_are_listed_at_once():
    with pytest.raises(config.ConfigError) as caught:
        config.complete_config({"attempts": 0, "device": "gpu"})
    for key in ("cohort", "attempts", "device"):
        assert f"{key}: " in str(caught.value)


def test_a_file_is_read_and_overrides_win(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("cohort: a.tsv\nattempts: 2\nintake: {min_side: 64, max_pixels: 20000}\n")
    cfg = config.load_config(file, {"attempts": 4, "intake": {"min_side": 32}})
    assert (cfg["attempts"], cfg["intake"]) == (4, {"min_side": 32, "max_pixels": 20000})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cohort: a\n  attempts: 2\n", r"my\.yaml, line 2: not YAML; check indentation"),
        ("checks:\n\tdlib_min: 2\n", r"my\.yaml, line 2: not YAML; a tab; write blanks"),
        ("- a\n- b\n", r"my\.yaml: holds no keys"),
        ("", r"cohort: missing"),
    ],
)
def test_a_broken_file_names_line_and_mend(tmp_path, content, message):
    (tmp_path / "my.yaml").write_text(content)
    with pytest.raises(config.ConfigError, match=message):
        config.load_config(tmp_path / "my.yaml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(config.ConfigError, match=r"none\.yaml: cannot be read"):
        config.load_config(tmp_path / "none.yaml")


def test_stage_options_is_a_copy_of_the_block():
    cfg = config.complete_config(GOOD)
    options = config.stage_options(cfg, "landmarks")
    options["max_yaw"] = 90
    assert cfg["preset"]["landmarks"]["max_yaw"] == 35
    with pytest.raises(config.ConfigError, match="blocks are intake, views"):
        config.stage_options(cfg, "landmark")


def test_a_stage_takes_its_block_of_the_configuration_and_of_the_preset():
    cfg = config.complete_config(GOOD | {"checks": {"dlib_min": 0.7}, "preset": {"checks": {"seam_max": 3.0}}})
    bounds = config.stage_options(cfg, "checks")
    assert (bounds["sface_max"], bounds["dlib_min"], bounds["seam_max"]) == (0.363, 0.7, 3.0)
    assert config.complete_options("checks", bounds) == bounds
    assert config.complete_options("inversion", {"batch": 2, "steps": 3})["steps"] == 3
    for stage, wrong in (("inversion", "inversion"), ("donors", "preset.donors")):
        with pytest.raises(config.ConfigError, match=rf"{wrong}\.qqq: no such key"):
            config.complete_options(stage, {"qqq": 3})


def test_every_generator_has_a_whole_preset_of_its_name():
    for generator in set(config.load_schema("config")["properties"]["generator"]["enum"]) - {config.NO_GENERATOR}:
        preset = config.complete_config(GOOD | {"generator": generator})["preset"]
        assert preset["name"] == generator
        given = [f"{block}.{key}" for block in preset if block != "name" for key in preset[block]]
        assert given == [key for key, rule in described(config.load_schema("preset")) if "." in key]


def test_an_own_preset_replaces_what_it_names_and_says_so(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("inversion: {identity_weight: 0.3}\nblending:\n")
    shipped, own = (config.complete_config(GOOD | {"preset": given})["preset"] for given in (None, str(file)))
    assert own["inversion"] == shipped["inversion"] | {"identity_weight": 0.3}
    assert {key: own[key] for key in own if key not in ("name", "inversion")} == {
        key: shipped[key] for key in shipped if key not in ("name", "inversion")
    }
    assert own["name"] == "own"
    file.write_text("name: softer\ninversion: {identity_weight: 0.3}\n")
    assert config.complete_config(GOOD | {"preset": str(file)})["preset"]["name"] == "softer"
    file.write_text("name: mobilestylegan\ninversion: {identity_weight: 0.3}\n")
    assert config.complete_config(GOOD | {"preset": str(file)})["preset"]["name"] == "own", "it is another one"
    with pytest.raises(config.ConfigError, match=r"none\.yaml: cannot be read"):
        config.complete_config(GOOD | {"preset": str(tmp_path / "none.yaml")})


def test_a_changed_preset_reaches_the_stages_it_concerns_and_the_releases_documents():
    """The workflow gives each stage its options: others than before run it again."""
    from deidlib.release.redact import config_digest, flat_config

    shipped, own = (config.complete_config(GOOD | {"preset": p}) for p in (None, {"blending": {"gain_limit": 1.2}}))
    stages = ("landmarks", "regions", "donors", "inversion", "blending", "checks")
    changed = [s for s in stages if config.stage_options(shipped, s) != config.stage_options(own, s)]
    assert changed == ["blending"]
    assert config_digest(shipped) != config_digest(own)
    told = dict(flat_config(own))
    assert (told["preset.name"], told["preset.blending.gain_limit"]) == ('"own"', "1.2")


def test_the_key_file_comes_from_the_configuration_then_from_the_environment():
    environment = {"DEIDLIB_KEY_FILE": "from/environment"}
    assert config.key_file(GOOD | {"key_file": "mine"}, environment) == Path("mine")
    assert config.key_file(GOOD | {"key_file": None}, environment) == Path("from/environment")
    with pytest.raises(config.ConfigError, match="deidlib keygen"):
        config.key_file(GOOD, {})


def test_the_shipped_configuration_is_valid_once_it_has_a_cohort():
    given = yaml.safe_load((REPOSITORY / "config" / "config.yaml").read_text())
    config.complete_config(given | GOOD)


def test_the_shipped_configurations_comments_show_the_defaults():
    text = (REPOSITORY / "config" / "config.yaml").read_text()
    rest = text.split("\nresults:", 1)[1]
    shown = yaml.safe_load("results:" + re.sub(r"(?m)^# ?(?=\S|  )", "", rest))
    defaults = config.complete_config(GOOD)
    assert "preserve" in shown
    assert "columns" in shown["release"]
    for key, value in shown.items():
        assert defaults[key] == (defaults[key] | value if isinstance(value, dict) else value), key


def test_the_tables_in_the_readme_are_made_from_the_schemas():
    """`make tables` writes them."""
    check = [sys.executable, REPOSITORY / "docs" / "settings.py", "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    readme = (REPOSITORY / "config" / "README.md").read_text()
    for kind in ("config", "preset"):
        for key, rule in described(config.load_schema(kind)):
            if "properties" not in rule:
                rows = [line for line in readme.splitlines() if line.startswith(f"| `{key}` |")]
                assert len(rows) == 1, key
    for name, _ in described(config.load_schema("samples")):
        assert re.search(rf"(?m)^\| `{name}` \|", readme), name


def test_without_a_generator_no_view_is_generated_and_asking_for_a_face_is_refused():
    cfg = config.complete_config({"cohort": "s.tsv", "generator": "none", "views": {"profile": "refuse"}})
    assert not config.draws_faces(cfg)
    assert cfg["views"] == {
        "profile": "refuse",
        "intraoral": "intraoral",
        **dict.fromkeys(("frontal_rest", "frontal_smile", "three_quarter", "not_stated"), "region_only"),
    }
    assert config.complete_config(cfg) == cfg, "jobs complete it again"
    assert config.draws_faces(config.complete_config({"cohort": "s.tsv"}))
    with pytest.raises(config.ConfigError, match=r"views\.frontal_rest: generate draws a face, but generator is none"):
        config.complete_config({"cohort": "s.tsv", "generator": "none", "views": {"frontal_rest": "generate"}})
