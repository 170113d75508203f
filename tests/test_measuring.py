"""What `make results` runs: which code a run depends on, and which labels a recipe sees."""

import importlib
import sys

import numpy as np
import pytest


@pytest.fixture(scope="module")
def script(root):
    """A function that imports a script of benchmarks/."""
    folder = str(root / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)


@pytest.fixture
def fingerprint(script, tmp_path, monkeypatch):
    """A function from the text of a file to the fingerprint of what it does."""
    training = script("training")
    monkeypatch.setattr(training, "ROOT", tmp_path)

    def of(text, path="code/file.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
        return training.fingerprint_of_code("code")

    return of


CODE = 'def double(x):\n    """Twice."""\n    return 2 * x\n'


@pytest.mark.parametrize(
    "same",
    [
        CODE + "# a comment\n",
        CODE.replace("Twice.", "Two times."),
        CODE.replace("2 * x", "(\n        2 * x\n    )"),
        '"""A module."""\n' + CODE,
    ],
)
def test_words_and_lines_do_not_make_other_code(fingerprint, same):
    assert fingerprint(same) == fingerprint(CODE)


@pytest.mark.parametrize(
    "other", [CODE.replace("2", "3"), CODE.replace("x", "y"), CODE + "double = 1\n"]
)
def test_what_a_file_does_makes_other_code(fingerprint, other):
    assert fingerprint(other) != fingerprint(CODE)


def test_a_new_file_makes_other_code(fingerprint):
    assert fingerprint(CODE) != fingerprint(CODE, "code/new.py")


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
