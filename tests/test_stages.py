"""`benchmarks/stages.py`: the stages that are timed do the work, all of it, in order."""

import functools
import subprocess
import types

import numpy as np
import pytest

from seglib.chapters import results
from seglib.data import sample
from seglib.models import deeplab_v3_plus, fcn8, unet

pytestmark = pytest.mark.no_cover  # of seglib they run what other tests run
SIZE = 64
OPTIONS = {"backbone": "small", "weights": None, "input_shape": (SIZE, SIZE, 3)}


@pytest.fixture(scope="module")
def stages(script):
    """The script benchmarks/stages.py."""
    return script("stages")


@pytest.fixture
def speedups(script, few, monkeypatch):
    """The script benchmarks/speedups.py with few pictures; stages.py takes some of its parts."""
    module = script("speedups")
    monkeypatch.setattr(module, "sample", few)
    monkeypatch.setattr(module, "PHOTOGRAPHS", 2)
    monkeypatch.setattr(module, "EVALUATED", 4)
    return module


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """`seglib.data.sample` with few and small pictures."""
    folder = sample.prepare(train=6, test=3, size=SIZE, cache_dir=tmp_path_factory.mktemp("pets"))
    read = {n: functools.partial(getattr(sample, n), data_dir=folder) for n in ("load", "records")}
    return types.SimpleNamespace(prepare=lambda: folder, **read)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, SIZE, SIZE, 3), "uint8")
    return images, rng.integers(0, 3, (2, SIZE, SIZE), "uint8")


def outcome(staged):
    """Runs a generator of stages to its end; returns their names and its return value."""
    names = []
    while True:
        try:
            names.append(next(staged))
        except StopIteration as end:
            return names, end.value


@pytest.mark.parametrize("build", [unet, fcn8])
def test_the_stages_of_a_prediction_are_the_model(stages, data, build):
    model = build(**OPTIONS)
    for weight in model.decoder.trainable_variables:  # an FCN's scores start at zero
        weight.assign(np.random.default_rng(1).normal(0, 0.1, weight.shape))
    staged, whole = stages.prediction(model, data[0])
    names, labels = outcome(staged())
    assert names == ["backbone", "decoder", "head and upsampling", "to NumPy", "arg-max"]
    backbone, decoder, head = stages.parts(model, training=False)
    logits = head(decoder(backbone(data[0]))).numpy()
    assert logits.std() > 1e-3
    np.testing.assert_allclose(logits, model(data[0], training=False), rtol=1e-4, atol=1e-4)
    # Graphs of parts and a whole graph may round in other ways, which can turn an arg-max where
    # the two largest logits are as near to each other as the logits above are held to be.
    second, first = np.sort(logits, axis=-1)[..., -2:].transpose(3, 0, 1, 2)
    clear = first - second > 2 * (1e-4 + 1e-4 * np.abs(first))
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(labels[clear], whole()[clear])


@pytest.mark.parametrize(
    "build, options",
    [
        (unet, {"freeze_backbone": True}),
        # Without dropout, or no two steps were the same
        pytest.param(deeplab_v3_plus, {"dropout": 0.0}, marks=pytest.mark.rare),
    ],
)
def test_the_stages_of_a_training_step_are_the_step(stages, data, build, options):
    one, other = build(**OPTIONS, **options), build(**OPTIONS, **options)
    other.set_weights(one.get_weights())
    start = one.get_weights()
    names, _ = outcome(stages.training_step(one, data)[0]())
    assert names[:3] == ["backbone, forward", "decoder and head, forward", "loss, forward"]
    assert ("backbone, backward" in names) == ("freeze_backbone" not in options)
    assert names[-1] == "optimizer"
    stages.training_step(other, data)[1]()
    # Adam's first step has one length whatever the gradient, so it tells signs: where a gradient
    # is nearly zero, rounding may turn it.
    for before, mine, theirs in zip(start, one.get_weights(), other.get_weights(), strict=True):
        off = np.abs(mine - theirs) > 1e-4 + 0.01 * np.abs(theirs - before)
        assert off.mean() < 0.02
    assert any((a != b).any() for a, b in zip(start, one.get_weights(), strict=True))


@pytest.mark.rare
def test_the_stages_of_an_evaluation_give_its_score(stages, few):
    data = few.load("test", image_size=SIZE, batch_size=2)
    staged, whole = stages.evaluation(unet(**OPTIONS), data)
    names, score = outcome(staged())
    assert len(names) == 4 * 2 + 2  # two batches, then the end
    assert score == pytest.approx(whole()[1])


def test_the_stages_of_reading_give_the_pipelines_pictures(stages, speedups, monkeypatch):
    monkeypatch.setattr(stages, "PHOTOGRAPHS", 2)
    [(work, staged, whole)] = stages.of_reading()
    assert work.startswith("reading 2 JPEG files of 375 x 500 px to 128 x 128 px")
    names, (images, masks) = outcome(staged())
    assert len(names) == 3
    [(their_images, their_masks)] = whole()
    np.testing.assert_array_equal(images, their_images)
    np.testing.assert_array_equal(masks, their_masks)


def test_the_stages_of_an_epoch_give_the_pipelines_batches(stages, few, monkeypatch):
    monkeypatch.setattr(stages, "sample", few)
    [(_, staged, whole)] = stages.of_epoch(size=SIZE, count=2)
    names, mine = outcome(staged())
    theirs = whole()
    assert len(mine) == len(theirs) == 3 and len(names) == 3 * 6 + 1
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_a_decoder_on_stored_features_is_the_model(speedups, data):
    model = unet(**OPTIONS)
    features = speedups.backbone_of(model).predict_on_batch(data[0])
    logits = model.after_backbone().predict_on_batch(features)
    np.testing.assert_allclose(logits, model.predict_on_batch(data[0]), rtol=1e-4, atol=1e-4)


@pytest.mark.rare
def test_both_ways_of_an_evaluation_give_one_score(speedups):
    [(_, _, (_, predicted), (_, evaluated))] = speedups.of_evaluation()
    assert predicted() == pytest.approx(evaluated()[1])


def test_a_start_is_timed_in_a_process_of_its_own(stages, few, monkeypatch):
    code = {"one": "import sys; print('noise')", "two": "assert 'keras' not in sys.modules"}
    monkeypatch.setattr(stages, "START_UP", code)
    monkeypatch.setattr(stages, "sample", few)
    [work] = stages.of_start_up()
    runs = stages.measure(*work, rounds=1)
    names = ["starting Python", "one", "two", "ending Python", "whole"]
    assert [run["stage"] for run in runs] == names
    times = [run["ms"] for run in runs]
    assert min(times) >= 0 and max(times[:-1]) > 1


def test_a_start_that_fails_is_no_result(stages, few, monkeypatch):
    monkeypatch.setattr(stages, "START_UP", {"one": "import no_such_module"})
    monkeypatch.setattr(stages, "sample", few)
    [(_, staged, whole)] = stages.of_start_up()
    for call in (lambda: list(staged()), whole):
        with pytest.raises(subprocess.CalledProcessError):
            call()


def test_the_cells_of_the_start_are_python(stages):
    for code in stages.START_UP.values():
        compile(code, "cell", "exec")
    exec(stages.START_UP["importing seglib"], {})


def test_times_of_a_stage_add_up_and_medians_are_taken(stages, monkeypatch):
    clock = iter([0, 1, 1, 3, 3, 7, 7])  # at the start, then after each stage and before the next
    monkeypatch.setattr(stages, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    assert stages.laps(iter("aba")) == {"a": 5000, "b": 2000}


def test_a_work_is_measured_stage_by_stage_and_as_a_whole(stages, monkeypatch):
    found = iter([{"a": 90.0, "b": 9.0}, {"whole": 80.0}] + [{"a": 1.0, "b": 2.004}, {"whole": 4}])
    monkeypatch.setattr(stages, "laps", lambda work: next(found))
    assert stages.measure("work", list, list, rounds=1) == [
        {"work": "work", "stage": "a", "ms": 1.0},
        {"work": "work", "stage": "b", "ms": 2.0},
        {"work": "work", "stage": "whole", "ms": 4},
    ]


def test_the_file_holds_the_works_one_after_the_other(stages, tmp_path, monkeypatch):
    def group():
        yield "first", lambda: iter(["a", "b"]), lambda: None
        yield "second", lambda: iter(["c"]), lambda: None

    monkeypatch.setattr(stages, "GROUPS", (group,))
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    stages.main(rounds=2)
    result = results.load("stages")
    assert result["task"] == "where the time of each work goes"
    assert [(run["work"], run["stage"]) for run in result["runs"]] == [
        *[("first", stage) for stage in ("a", "b", "whole")],
        *[("second", stage) for stage in ("c", "whole")],
    ]
