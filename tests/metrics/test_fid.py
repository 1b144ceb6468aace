import numpy as np
import pytest

from fmjax import assemble, config, judge
from fmjax.metrics import fid, frechet


def test_it_is_the_distance_of_the_features(key, images, extractor, make_sample, tmp_path):
    made = np.random.default_rng(1).integers(0, 256, (90, 8, 8, 3)).astype(np.uint8)
    out = fid.fid(
        None, key, images, make_sample(made), features=extractor, n=90, floor="test",
        data_dir=str(tmp_path),
    )  # fmt: skip
    train, test = (extractor(None, images.take(split).x1) for split in ("train", "test"))
    title = "frechet_tiny"
    assert out[title] == pytest.approx(frechet.frechet_distance(extractor(None, made), train))
    assert out[f"{title}_floor"] == pytest.approx(frechet.frechet_distance(test, train))
    sizes = {"n": 90, "reference_n": 200, "floor_n": 60, "dims": 3}
    assert {term: out[f"{title}_{term}"] for term in sizes} == sizes
    assert len(list((tmp_path / "fmjax_statistics").iterdir())) == 2
    assert all(isinstance(value, float) for value in out.values())


def test_copies_of_a_split_are_at_no_distance_and_names_say_which(
    key, images, make_extractor_named, make_sample
):
    sample = make_sample(images.take("test").x1)
    features = make_extractor_named("inception")
    out = fid.fid(None, key, images, sample, features=features, split="test")
    assert out["fid_test"] == pytest.approx(0, abs=1e-12)
    assert out["fid_test_n"] == 60
    assert "fid" in fid.fid(None, key, images, sample, features=features, n=60)


def test_samples_as_floats_count_as_their_bytes(key, images, extractor, make_sample):
    x = images.take("train").x1
    out = fid.fid(None, key, images, make_sample(x + np.float32(0.3)), features=extractor)
    assert out["frechet_tiny"] == pytest.approx(0, abs=1e-12)


def test_too_few_rows_and_no_extractor_are_refused(key, images, extractor, make_sample):
    sample = make_sample(images.take("train").x1)
    with pytest.raises(
        ValueError, match=r"3 rows of 3 features give a singular .* at least 4 rows"
    ):
        fid.fid(None, key, images, sample, features=extractor, n=3)
    with pytest.raises(ValueError, match="singular"):
        fid.fid(None, key, images, sample, features=extractor, reference_n=2)
    with pytest.raises(ValueError, match="is no extractor of a pretrained network"):
        fid.fid(None, key, images, sample, features=len)
    with pytest.raises(ValueError, match="cannot be its own floor"):
        fid.fid(None, key, images, sample, features=extractor, floor="train")


def node(name, **options):
    return {"bind": "fmjax.metrics.fid:fid", "features": {"name": name, **options}}


def test_weights_are_opened_when_the_run_is_built(tmp_path):
    missing = node("fmjax.pretrained.inception:extractor", weights=str(tmp_path / "none.pth"))
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none.pth. Get pt_inception"):
        config.build(missing)


def test_the_record_has_the_weights_hash(images):
    nodes = {"fid": node("fmjax.pretrained.efficientnet_lite0:extractor", size=64)}
    run = {"evaluators": nodes, "sampler": {}, "guidance": {}, "source": {}, "sample_chunk": 1}
    absent = dict.fromkeys(assemble.Parts._fields)
    parts = assemble.Parts(**absent)._replace(
        config=run | {"ema": []}, evaluators=config.build(nodes), datas=[images]
    )
    found = judge.depends_on(parts)["evaluators"]["fid"]
    assert found["features_depends"]["sha256"].startswith("57934424")
    assert found["features_depends"]["size"] == 64
    assert (found["split"], found["n"]) == ("train", None)
