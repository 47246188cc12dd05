"""The attack suite on faces: what is bad is caught, what holds nothing of the patient comes out at chance."""

import numpy as np
import pyarrow as pa
import pytest
import yaml
from scipy.stats import binom
from virtual_faces import PATIENTS, WEAK_METHODS, codes, draw, names, released_rows, stage_tables, summary
from virtual_faces import two_photographs_each as two_each

from deidlib import config, models
from deidlib.donors.bank import read_bank
from deidlib.reid.embeddings import embed_shard, faces_of, renderings
from deidlib.reid.suite import Evidence, run_suite
from deidlib.storage import tables
from deidlib.vision import networks as vision_networks
from deidlib.vision.recognisers import OnnxRecogniser

OPTIONS = config.complete_config({"cohort": "samples.tsv"})["reid"]


@pytest.fixture(scope="module")
def recognisers(sface, dlib_resnet):
    return [sface, dlib_resnet]


@pytest.fixture(scope="module")
def about(recognisers):
    known = models.recognisers()
    return {r.name: {**known[r.name], "measure": r.measure, "same_above": r.same_above} for r in recognisers}


@pytest.fixture(scope="module")
def bank():
    whole = read_bank()
    return {"sface": whole.sface[:600].astype(np.float32), "dlib": whole.dlib[:600].astype(np.float32)}


@pytest.fixture(scope="module")
def originals(generator):
    return two_each(generator)


@pytest.fixture(scope="module")
def known(originals, recognisers):
    """Embeddings of the originals, without anything released."""
    return embed_shard(*stage_tables(originals), lambda photo_id: None, recognisers)


@pytest.fixture(scope="module")
def attacked(originals, known, recognisers, about, bank):
    """``attacked(images)``: the suite's result, and its attacks by (name, recogniser), whole pictures only."""

    def run(images):
        table = pa.concat_tables([known, released_rows(images, originals, recognisers)])
        result = run_suite(Evidence(summary(len(images)), lambda *_: [table], about, bank), OPTIONS, "per_patient")
        found = {(a["name"], a["recogniser"]): a for a in result["attacks"] if a["region"] == "whole"}
        return result, found

    return run


def criterion(result, name):
    return next(entry for entry in result["gate"]["criteria"] if entry["name"] == name)


@pytest.mark.parametrize("method", WEAK_METHODS)
def test_weak_methods_are_caught(method, attacked, originals):
    result, found = attacked([WEAK_METHODS[method](image) for image in originals])
    least = 1.0 if method == "originals" else 0.9
    for recogniser in ("sface", "dlib"):
        for name in ("verification_same_photo", "verification_other_photo", "identification_rank1_originals"):
            attack = found[name, recogniser]
            assert attack["trials"] == 2 * PATIENTS, (name, recogniser)
            assert attack["rate"] >= least, (name, recogniser)
        assert found["identification_rank1", recogniser]["rate"] >= (1.0 if method == "originals" else 0.5)
    assert result["gate"]["passed"] is False
    assert not criterion(result, "no_verified_reidentification")["passed"]
    if method == "originals":  # with five patients what is found has to be everybody
        for name in ("rank1_originals", "rank1_other_photo"):
            assert criterion(result, name)["verdict"] == "not judged", "five patients are too few even to fail"


def test_donors_without_anything_of_the_patient_come_out_at_chance(attacked, generator):
    impostors = draw(generator, codes(generator, 2 * PATIENTS, seed=99))
    result, found = attacked(impostors)
    for recogniser, synthetic in ((entry["recogniser"], entry["bank_fmr"]) for entry in result["calibration"]):
        attack = found["verification_same_photo", recogniser]
        # originals are drawn by the same generator here, so impostors are as alike as the bank's faces are
        assert attack["hits"] <= binom.ppf(0.999, attack["trials"], synthetic)
        assert found["identification_rank1", recogniser]["hits"] == 0


def people(n, seed, leak, bank):
    """Embeddings of n people who are released as others, who share ``leak`` of their identity; and distractors."""
    whole, rows = bank["sface"], []
    order = np.random.default_rng(seed).permutation(len(whole))
    faces = {"original": whole[order[:n]], "released": whole[order[n : 2 * n]]}
    mixed = leak * faces["original"] + (1 - leak) * faces["released"]
    faces["released"] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    for shown, vectors in faces.items():
        for i, vector in enumerate(vectors):
            photo, _ = names(2 * i)
            key = {"release_photo_id": photo, "release_patient_id": f"patient{i:03d}", "shown": shown}
            rows.append(key | {"recogniser": "sface", "embedding": vector})
    return tables.from_rows(rows, tables.EMBEDDINGS), whole[order[2 * n :]]


@pytest.mark.parametrize(("leak", "caught"), [(0.0, False), (0.5, True)])
def test_of_many_people_a_leak_is_found_and_its_absence_is_chance(leak, caught, bank, about):
    table, others = people(200, 3, leak, bank)
    photos = summary(400)[::2]
    evidence = Evidence(photos, lambda *_: [table], {"sface": about["sface"]}, {"sface": others})
    result = run_suite(evidence, OPTIONS, "per_patient")
    (found,) = (a for a in result["attacks"] if (a["name"], a["region"]) == ("identification_rank1", "whole"))
    assert criterion(result, "rank1_originals")["verdict"] == ("failed" if caught else "passed")
    assert (found["ci95"][0] > found["chance"]) is caught
    (curve,) = (c for c in result["ranks"] if c["region"] == "whole" and c["gallery"] > 200)
    hits, chance = (dict(map(tuple, curve[name])) for name in ("cmc", "chance"))
    assert (abs(hits[200] - chance[200]) < 0.12) is not caught
    (pairs,) = result["calibration"]
    (verified,) = (a for a in result["attacks"] if (a["name"], a["region"]) == ("verification_same_photo", "whole"))
    assert (abs(verified["rate"] - pairs["cohort_fmr"]) < 0.1) is not caught


def test_the_suite_gives_the_same_result_twice_and_from_several_shards(bank, about):
    table, others = people(40, 3, 0.3, bank)
    results = [
        run_suite(
            Evidence(summary(80)[::2], lambda *_, parts=parts: parts, {"sface": about["sface"]}, {"sface": others}),
            OPTIONS,
            "per_patient",
        )
        for parts in ([table], [table], [table[:17], table[17:17], table[17:60], table[60:]])
    ]
    assert results[1] == results[0]
    assert results[2] == results[0]


def test_region_and_context_show_one_part_each():
    image = np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8)
    core = np.zeros((32, 32), np.uint8)
    core[20:28, 10:22] = 255
    shown = renderings(image, core)
    inside = core > 0
    assert np.array_equal(shown["_region"][inside], image[inside])
    assert np.array_equal(shown["_context"][~inside], image[~inside])
    assert len(np.unique(shown["_region"][~inside], axis=0)) == 1
    assert len(np.unique(shown["_context"][inside], axis=0)) == 1


def test_embeddings_hold_every_rendering_and_count_what_has_no_face(originals, recognisers):
    from deidlib.reid.embeddings import Released

    blank = np.full_like(originals[0], 128)
    photos, regions = stage_tables([originals[0], blank])
    table = embed_shard(photos, regions, lambda photo_id: Released(1, originals[1]), recognisers[:1])
    for shown in ("original", "square", "square_region", "released", "released_region", "released_context"):
        assert len(faces_of(table, "sface", shown)) >= 1, shown
    assert (len(faces_of(table, "sface", "original")), faces_of(table, "sface", "original").missing) == (1, 1)
    assert set(table.filter(pa.compute.equal(table["shown"], "released"))["attempt"].to_pylist()) == {1}


def test_a_users_onnx_network_agrees_with_opencvs_own_class(model_files, yunet, sface, astronaut):
    file = model_files("sface")["face_recognition_sface_2021dec_int8bq.onnx"]
    mine = OnnxRecogniser("mine", file, yunet, mean=0.0, scale=1.0)
    assert mine.compare(mine.embed(astronaut), sface.embed(astronaut)) > 0.999
    swapped = OnnxRecogniser("mine", file, yunet, mean=0.0, scale=1.0, colour="bgr")
    assert swapped.compare(swapped.embed(astronaut), sface.embed(astronaut)) < 0.99
    with pytest.raises(ValueError, match="rgb or bgr"):
        OnnxRecogniser("mine", file, yunet, colour="grey")


def test_a_registered_network_is_opened_with_its_preprocessing(tmp_path, model_files, astronaut, sface, monkeypatch):
    (file,) = model_files("sface").values()
    entry = models.load_registry()["sface"]
    mine = {key: entry[key] for key in ("task", "licence", "citation", "use")}
    mine |= {"path": str(file), "sha256": next(iter(entry["members"].values()))}
    mine["recogniser"] = {**entry["recogniser"], "name": "mine", "preprocessing": {"mean": 0.0, "scale": 1.0}}
    (tmp_path / "models.yaml").write_text(yaml.safe_dump(models.load_registry() | {"mine_net": mine}))
    monkeypatch.setattr(models.registry, "REGISTRY_PATH", tmp_path / "models.yaml")
    opened = vision_networks.recogniser("mine")
    assert opened.name == "mine"
    assert opened.compare(opened.embed(astronaut), sface.embed(astronaut)) > 0.999


def test_what_is_no_network_is_told(tmp_path, yunet):
    (tmp_path / "mine.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match="cannot load"):
        OnnxRecogniser("mine", tmp_path / "mine.onnx", yunet)
