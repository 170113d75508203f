"""What `make results` and `make bench` run: labels, stages, scores, what is saved when."""

import dataclasses
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from measured import store, tables
from seglib.chapters import results
from seglib.data import pets, sample

pytestmark = pytest.mark.no_cover  # of seglib they run what other tests run


def test_the_ellipse_in_a_box_by_hand(script):
    labels = script("train_labels")
    # 8 x 8 pixels, the box around rows 2 to 5 and all columns: the half axes are 2 and 4 pixels.
    found = labels.ellipse((0.25, 0.0, 0.75, 1.0), 8, 8)
    y, x = np.mgrid[:8, :8] + 0.5
    assert (found == (((y - 4) / 2) ** 2 + ((x - 4) / 4) ** 2 <= 1)).all()
    assert found.sum() == 28  # 6 + 8 + 8 + 6
    assert not labels.ellipse((0.0, 0.0, 0.0, 0.0), 8, 8).any()


def test_every_recipe_of_few_labels_takes_about_as_many_steps(script):
    labels = script("train_labels")
    steps = set()
    for recipe in labels.RECIPES.values():
        pictures = recipe.labeled if recipe.others is None else labels.PICTURES
        epochs = sum(stage.epochs for stage in recipe.stages)
        steps.add(epochs * -(-pictures // recipe.batch_size))
    assert max(steps) / min(steps) < 1.03  # whole epochs


def test_a_recipe_sees_the_labels_that_it_says(script, real_pets, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(real_pets))
    labels = script("train_labels")
    count = labels.pets.records("trainval").cardinality().numpy()
    _, truth = labels.Labeled(labels.RECIPES["labels_653"], 0).read((32, 32))
    _, few = labels.Labeled(labels.RECIPES["labels_100"], 0).read((32, 32))
    _, boxes = labels.Labeled(labels.RECIPES["boxes_100"], 0).read((32, 32))
    assert len(few) == 100 and len(boxes) == count
    assert (few == truth[:100]).all() and (boxes[:100] == truth[:100]).all()
    assert set(np.unique(boxes[100:])) == {labels.PET, labels.IGNORE}


def test_the_clock_adds_what_ran_before_a_resumption(script, tmp_path, monkeypatch):
    training = script("training")
    now = iter([100.0, 103.0, 200.0, 204.0])  # begins, an epoch; begins again, an epoch
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(training, "processor_seconds", lambda: 0.0)
    for _ in range(2):
        clock = training.Clock(tmp_path / "seconds.json")
        clock.on_train_begin()
        clock.on_epoch_end(0)
    assert clock.seconds == [3.0 + 4.0, 0.0]
    assert training.Clock(tmp_path / "seconds.json").seconds == [7.0, 0.0]


def test_a_field_that_a_run_does_not_have_yet_stands_at_its_default(script, tmp_path, monkeypatch):
    training = script("training")
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setenv("DIRTY", "1")
    stages = (training.Stage(1, 0.1),)
    first = training.Recipe("first", stages)
    recipes = {"first": first, "second": training.Recipe("second", stages, start="first")}
    experiment = training.Experiment("tiny", recipes, build=None)
    runs = [{"recipe": r, "seed": 0, "settings": experiment.settings(r)} for r in recipes]
    for settings in (runs[0]["settings"], runs[1]["settings"]["start_settings"]):
        del settings["copies"], settings["stages"][0]["share"]
    data = {"name": "none", "train": 0, "test": 0, "note": "", "fingerprint": "f"}
    training.save(experiment, data, runs)
    assert training.finished(experiment, data) == runs
    changed = recipes | {"first": dataclasses.replace(first, copies=2)}
    assert training.finished(dataclasses.replace(experiment, recipes=changed), data) == []


def test_a_field_of_one_experiment_has_a_default_too(script):
    unet = script("train_unet").EXPERIMENT
    run = {"recipe": "unet_128", "settings": unet.settings("unet_128")}
    assert script("training").same_recipe(unet, run)
    del run["settings"]["alpha"]
    assert script("training").same_recipe(unet, run)
    run["settings"]["alpha"] = 0.35
    assert not script("training").same_recipe(unet, run)


def test_the_weights_of_copies_are_averaged(script, tmp_path, monkeypatch):
    training = script("training")
    monkeypatch.setattr(training, "ROOT", tmp_path)
    starts, seeds = [], []

    def fit(model, loss, recipe, stage, data, folder):
        folder.mkdir(parents=True)
        starts.append(model.get_weights()[0].item())
        model.set_weights([np.full((1, 1), 10.0 * len(starts))])  # 10 the first time, then 20
        return [0.5], 3.0, 2.0

    def build(recipe, size):
        layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
        return keras.Sequential([keras.Input((1,)), layer])

    monkeypatch.setattr(training, "fit", fit)
    experiment = training.Experiment(
        "tiny",
        {"twice": training.Recipe("twice", (training.Stage(1, 0.1),), copies=2)},
        build,
        data=lambda recipe, stage, seed: seeds.append(seed),
        score=lambda model, recipe, size: {"weight": model.get_weights()[0].item()},
        keep_weights=False,
    )
    entry = training.run(experiment, "twice", 7, [], {"fingerprint": "f"})
    assert starts == [1.0, 1.0]  # both from the same start
    assert len(set(seeds)) == 2  # on other pictures
    assert entry["weight"] == 15.0
    assert (entry["epochs"], entry["train_seconds"], entry["cpu_seconds"]) == (2, 6.0, 4.0)
    assert list((tmp_path / "runs" / "tiny").iterdir()) == []


# --- Killed, in a fresh clone, on other data ------------------------------------------------------


@pytest.fixture
def tiny(script, drawn_for_real, eagerly, tmp_path, monkeypatch):
    """An experiment of two recipes, the second on the weights of the first, on drawn pets."""
    training = script("training")
    monkeypatch.setattr(training, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["script", "--seeds", "0"])
    stages = (training.Stage(2, 0.01, image_size=32), training.Stage(2, 0.001, image_size=32))
    first = training.Recipe("first", stages, batch_size=8, augment="none")
    second = dataclasses.replace(first, title="second", stages=stages[:1], start="first")

    def build(recipe, size):
        image = keras.Input((size, size, 3))
        x = keras.layers.Rescaling(1 / 255)(image)
        return keras.Model(image, keras.layers.Conv2D(3, 3, padding="same")(x))

    return training.Experiment("tiny", {"first": first, "second": second}, build)


def recorded(experiment):
    """What the file holds of each run, less the times."""
    times = ("train_seconds", "cpu_seconds")
    runs = results.load(experiment.name)["runs"]
    return [{key: value for key, value in run.items() if key not in times} for run in runs]


@pytest.mark.rare
def test_a_measurement_that_is_stopped_ends_with_the_same_numbers(
    script, tiny, tmp_path, monkeypatch
):
    training = script("training")
    training.main(tiny, "")
    unbroken = recorded(tiny)
    for folder in ("results", "runs"):
        (tmp_path / folder).rename(tmp_path / f"unbroken {folder}")
    epochs = []

    class Watched(training.Resume):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            epochs.append(epoch)

    monkeypatch.setattr(training, "Resume", Watched)

    def stopped(where, name, when):
        """Raises in the call of this number to a function of an object."""
        calls, original = [], getattr(where, name)

        def stops(*arguments, **options):
            calls.append(arguments)
            if len(calls) == when:
                raise KeyboardInterrupt
            return original(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(where, name, stops)
            with pytest.raises(KeyboardInterrupt):
                training.main(tiny, "")

    stopped(Watched, "on_epoch_end", 4)  # in the second epoch of the second stage
    assert epochs == [0, 1, 0]
    stopped(training, "score", 1)
    assert epochs == [0, 1, 0, 1]
    training.main(tiny, "")
    assert epochs == [0, 1, 0, 1] + [0, 1]  # no epoch was trained twice
    assert recorded(tiny) == unbroken


@pytest.mark.rare
def test_a_fresh_clone_trains_again_what_a_recipe_starts_from(script, tiny, tmp_path):
    training = script("training")
    training.main(dataclasses.replace(tiny, recipes={"first": tiny.recipes["first"]}), "")
    before = recorded(tiny)
    tiny.weights_path("first", 0).unlink()  # the repository holds results, but no weights
    training.main(tiny, "")
    assert [run["recipe"] for run in recorded(tiny)] == ["first", "second"]
    assert recorded(tiny)[0] == before[0]
    assert tiny.weights_path("first", 0).exists()


@pytest.mark.rare
def test_runs_on_other_data_stand_beside_the_first_ones(script, tiny, tmp_path, monkeypatch):
    training = script("training")
    training.main(tiny, "")
    first = results.load("tiny")
    other = sample.prepare(train=12, test=4, size=64, seed=5, cache_dir=tmp_path / "other")
    monkeypatch.setenv("TFDS_DATA_DIR", str(other))
    training.main(tiny, "")
    both = results.load("tiny")
    mine, theirs = store.measurements(both)
    assert mine == first and theirs["data"]["note"] == "12/4 subset"
    scores = [[run["mean_iou"] for run in each["runs"]] for each in (mine, theirs)]
    assert len(scores[1]) == 2 and scores[0] != scores[1]
    assert tables.markdown_table(both).count("(12/4 subset)") == 3  # two rows and the data
    training.main(tiny, "")  # nothing is left to do
    assert results.load("tiny") == both


@pytest.fixture
def board(script, tiny, tmp_path, monkeypatch):
    """The script leaderboard.py with the models of `tiny`, which are trained."""
    script("training").main(tiny, "")
    board = script("leaderboard")
    module = type("module", (), {"EXPERIMENT": tiny})
    models = {module: {"first": "First", "second": "Second"}}
    costs = {"milliseconds": {"1": 1.0, "8": 8.0}, "multiply_adds": 1, "peak_memory_mib": 1}
    monkeypatch.setattr(board, "MODELS", models)
    monkeypatch.setattr(board, "ROOT", tmp_path)
    monkeypatch.setattr(board, "SIZE", 48)
    monkeypatch.setattr(board, "measure_costs", lambda runs: [run.update(costs) for run in runs])
    monkeypatch.setattr(sys, "argv", ["script"])
    return board


@pytest.mark.rare
def test_the_leaderboard_scores_enlarged_logits_on_one_size_and_stays_in_a_fresh_clone(
    board, tiny, capsys, monkeypatch
):
    board.main()
    second = results.load("leaderboard")["runs"][1]
    model = tiny.build(tiny.recipes["second"], 32)
    model.load_weights(tiny.weights_path("second", 0))
    matrix = np.zeros((3, 3))
    test = zip(pets.load("test", image_size=32), pets.load("test", image_size=48), strict=True)
    for (images, _), (_, masks) in test:
        logits = tf.image.resize(model(images), (48, 48))
        np.add.at(matrix, (masks.numpy(), logits.numpy().argmax(-1)), 1)
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    assert second["mean_iou"] == pytest.approx((matrix.diagonal() / union).mean(), abs=1e-4)
    assert (second["title"], second["image_size"]) == ("Second", 32)

    # In a fresh clone, to be scored again.
    before = results.load("leaderboard")
    for recipe in tiny.recipes:
        tiny.weights_path(recipe, 0).unlink()
    monkeypatch.setattr(sys, "argv", ["script", "--again"])
    board.main()
    assert results.load("leaderboard") == before
    assert "first-0.weights.h5 is missing: it is not scored anew" in capsys.readouterr().out
    results.path("leaderboard").unlink()
    board.main()  # nothing to score and nothing known
    assert not results.path("leaderboard").exists()


@pytest.mark.rare
def test_weights_of_another_training_are_not_scored(board, tiny, capsys):
    other = tiny.build(tiny.recipes["second"], 32)
    other.layers[-1].bias.assign([9.0, 0.0, 0.0])
    other.save_weights(tiny.weights_path("second", 0))
    board.main()
    assert [run["recipe"] for run in results.load("leaderboard")["runs"]] == ["first"]
    assert "they are not of the same training" in capsys.readouterr().out


def test_a_saving_is_measured_in_both_ways(script, monkeypatch):
    speedups = script("speedups")
    monkeypatch.setattr(speedups, "medians", lambda calls, rounds: dict.fromkeys(calls, rounds))
    entry = speedups.measure("a", "work", ("slow", list), ("fast", dict), 3)
    assert entry == {
        **{"saving": "a", "work": "work", "before": "slow", "after": "fast"},
        **{"before_ms": 3, "after_ms": 3},
    }


@pytest.mark.rare
def test_decoding_whole_or_reduced_is_the_same_work(script):
    speedups = script("speedups")
    [image], [mask] = speedups.batch(1, speedups.PHOTOGRAPH[0])
    example = speedups.encoded(image, mask)
    (whole, labels), (reduced, same) = (
        decode(example) for decode in (speedups.decode_whole, speedups.decode_reduced)
    )
    assert whole.shape == reduced.shape == (*speedups.DECODED, 3)
    assert (labels == same).numpy().all()
    difference = np.abs(whole.numpy().astype(int) - reduced.numpy())
    assert 0 < difference.mean() < 8  # gray levels: the picture is the same, its detail is not


# --- Mask R-CNN -----------------------------------------------------------------------------------

NARROW = {
    "fpn_filters": 8,
    "rpn_filters": 8,
    "rpn_samples": 16,
    "anchor_sizes": (16, 32, 64),
    "pre_nms_top_k_train": 12,
    "pre_nms_top_k_predict": 12,
    "post_nms_top_k_train": 8,
    "post_nms_top_k_predict": 8,
    "rois_per_image": 4,
    "box_pool_size": 3,
    "mask_pool_size": 4,
    "mask_size": 8,
    "box_head_widths": (8,),
    "mask_head_filters": (8,),
    "semantic_filters": 8,
    "detection_candidates": 8,
    "max_detections": 4,
}


@pytest.fixture
def drawn_for_real(tmp_path, monkeypatch):
    """Drawn pets and random weights where the scripts look for the real ones."""
    pets = sample.prepare(train=16, test=8, size=64, seed=9, cache_dir=tmp_path / "pets")
    network = keras.applications.MobileNetV2(alpha=0.35, weights=None, include_top=False)
    network.save_weights(tmp_path / "mobilenet.weights.h5")
    monkeypatch.setenv("TFDS_DATA_DIR", str(pets))
    monkeypatch.setenv("SEGLIB_WEIGHTS", str(tmp_path / "mobilenet.weights.h5"))
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    monkeypatch.setenv("DIRTY", "1")


@pytest.fixture
def eagerly():
    """A few steps are not worth the time that TensorFlow takes to trace a graph."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def detection(script, drawn_for_real, tmp_path, monkeypatch):
    """The experiment of train_mask_rcnn.py with an epoch a stage and a narrow network."""
    train, training = script("train_mask_rcnn"), script("training")
    monkeypatch.setattr(training, "ROOT", tmp_path)  # of the states and weights
    for name, value in (NARROW | {"alpha": 0.35}).items():
        monkeypatch.setitem(train.SETTINGS, name, value)
    train.test_scenes.cache_clear()
    stages = [
        dataclasses.replace(stage, epochs=1, image_size=64, warmup=0) for stage in train.STAGES
    ]
    recipes = {
        name: dataclasses.replace(recipe, stages=tuple(stages))
        for name, recipe in train.RECIPES.items()
    }
    yield dataclasses.replace(train.EXPERIMENT, recipes=recipes)
    train.test_scenes.cache_clear()


@pytest.mark.rare
def test_a_detector_is_trained_scored_and_written_down(script, detection, eagerly, monkeypatch):
    training = script("training")
    monkeypatch.setattr(sys, "argv", ["script", "--recipes", "scoring_256", "--seeds", "0"])
    training.main(detection, "")
    result = results.load("mask_rcnn")
    assert result["task"] == detection.task and result["data"]["note"] == "16/8 subset"
    [run] = result["runs"]
    assert (run["recipe"], run["epochs"], len(run["curves"]["loss"])) == ("scoring_256", 2, 2)
    assert np.isfinite(run["curves"]["loss"]).all() and run["test_scenes"] > 0
    kinds = [f"{kind}_{score}" for kind in ("mask", "box") for score in ("ap", "ap50", "ap75")]
    assert all(-1 <= run[kind] <= 1 for kind in kinds)
    assert set(run["class_scores_alone"]) >= set(kinds)
    # Boxes and masks are the same with and without the masks' scores; only their order differs.
    assert run["class_scores_alone"]["box_ar100"] == run["box_ar100"]
    assert detection.weights_path("scoring_256", 0).exists()
    rows = tables.markdown_table(result).splitlines()
    assert "with mask scoring, class scores alone" in rows[3]

    def train_again(*arguments):
        raise AssertionError("a finished run is not run again")

    monkeypatch.setattr(training, "run", train_again)
    training.main(detection, "")
    assert results.load("mask_rcnn") == result


def test_who_detects_the_truth_scores_one(script, drawn_for_real):
    train = script("train_mask_rcnn")
    train.test_scenes.cache_clear()
    truth = train.test_scenes(64)
    train.test_scenes.cache_clear()
    perfect = [{**scene, "scores": np.ones(len(scene["classes"]), "float32")} for scene in truth]
    found = train.precision(truth, perfect)
    assert found["mask_ap"] == found["box_ap75"] == 1
    assert set(found["mask_ap_by_class"].values()) == {1}
    nothing = [{name: part[:0] for name, part in scene.items()} for scene in perfect]
    found = train.precision(truth, nothing)
    assert found["mask_ap"] == found["box_ap75"] == 0


@pytest.mark.rare
def test_the_timed_stages_are_the_whole_model(script):
    bench = script("mask_rcnn")
    model = bench.MaskRCNN(bench.MaskRCNNConfig.small(image_size=(64, 64), **NARROW))
    calls = bench.stages(model)
    values = {name: call() for name, call in calls.items()}
    assert len(values) == 5 and values["pasting 4 masks"].shape == (4, 64, 64)
    found = values["RoI heads and detections"]
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (1, 64, 64, 3)).astype("float32")  # the script's own
    whole = model(picture)
    for name in ("boxes", "classes", "scores", "masks"):
        np.testing.assert_allclose(found[name], whole[name], atol=1e-3)


def test_shares_of_the_time_add_up(script, capsys, monkeypatch):
    bench = script("mask_rcnn")
    clock = iter(range(1000))
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))  # a second a look
    bench.report("test", {"one": lambda: None, "two": lambda: None})
    title, one, two, whole = capsys.readouterr().out.strip().splitlines()
    assert "test" in title
    assert one.split() == ["one", "1000.0", "ms", "50.0%"] and two.split()[3] == "50.0%"
    assert whole.split() == ["whole", "2000.0", "ms", "100.0%"]


def test_random_boxes_are_in_the_picture(script):
    boxes = script("mask_rcnn").random_boxes(np.random.default_rng(0), 200, 100, 60)
    assert (boxes >= 0).all() and (boxes[:, 2:] <= [100, 60]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
