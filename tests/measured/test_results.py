"""Measured results: the table says what the file says, and the README shows that table."""

import copy
import json
import runpy
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from measured import machine, pages, store, tables
from seglib.chapters import results

RESULT = {
    "task": "three classes of pixels",
    "data": {"name": "Pets", "train": 653, "test": 308, "note": "653/308 subset"},
    "device": {"cpu": "A processor", "cores": 2, "gpu": []},
    "versions": {"python": "3.11.0", "keras": "3.15.1"},
    "commit": "0123456789abcdef",
    "runs": [],
}


def run(recipe="light", seed=0, **changes):
    made = {
        "recipe": recipe,
        "title": f"The {recipe} one",
        "image_size": 128,
        "epochs": 20,
        "seed": seed,
        "train_seconds": 600.0,
        "cpu_seconds": 1115.0,
        "parameters": 2_214_000,
        "pixel_accuracy": 0.9,
        "iou": {"pet": 0.8, "background": 0.9, "border": 0.4},
        "mean_iou": 0.7,
        "mean_iou_mirrored": 0.71,
        "curves": {},
    }
    return made | changes


# What a run of each kind of result has; the others have scores.
KINDS = {"against": "differences", "mask_ap": "detections", "saving": "savings", "stage": "stages"}


def result(*runs):
    kinds = [kind for key, kind in KINDS.items() if runs and key in runs[0]]
    return {"kind": kinds[0] if kinds else "scores"} | copy.deepcopy(RESULT) | {"runs": list(runs)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder in place of results/."""
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    return tmp_path / "results"


def rows(markdown):
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_table_has_the_measured_numbers():
    header, _, row = rows(tables.markdown_table(result(run())))
    assert dict(zip(header, row, strict=True)) == {
        "Recipe": "The light one",
        "Pixels": "128",
        "Seeds": "1",
        "Mean IoU": "0.700",
        "with mirror image": "0.710",
        "IoU pet": "0.800",
        "IoU background": "0.900",
        "IoU border": "0.400",
        "Pixel accuracy": "0.900",
        "Training": "10 min 00 s",
        "Processor time": "18 min 35 s",
        "Parameters": "2.21 M",
    }


def test_seeds_share_a_row_with_their_mean_and_sample_deviation():
    runs = [run(seed=seed, mean_iou=score) for seed, score in enumerate((0.70, 0.72, 0.74))]
    header, _, row = rows(tables.markdown_table(result(*runs)))
    # By hand: the mean is 0.72, the squares are 0.0004 + 0 + 0.0004, over 2, and its root 0.02.
    assert row[header.index("Mean IoU")] == "0.720 ± 0.020"
    assert row[header.index("Seeds")] == "3"


def test_a_score_has_a_column_where_all_runs_have_it():
    runs = [run(seed=0, boundary_f1=0.5), run(seed=1, boundary_f1=0.7)]
    header, _, row = rows(tables.markdown_table(result(*runs)))
    # By hand: the squares are 0.01 + 0.01, over 1, and the root of 0.02 is 0.141.
    assert row[header.index("Boundary F1")] == "0.600 ± 0.141"
    header, _, row = rows(tables.markdown_table(result(*runs, run(seed=2))))
    assert "Boundary F1" not in header
    assert len(row) == len(header)


def test_what_was_done_after_the_training_has_a_table_of_its_own():
    def sharpened(mean_iou, seconds):
        iou = {"pet": 0.8, "background": 0.9, "border": 0.5}
        score = {"iou": iou, "mean_iou": mean_iou, "boundary_f1": 0.6, "cpu_seconds": seconds}
        return {"CRF": score}

    runs = [run(seed=0, sharpened=sharpened(0.70, 30.8)), run(seed=1, sharpened=sharpened(0.72, 0))]
    header, _, row = rows(tables.markdown_table(result(*runs, run("plain"))))[-3:]
    assert dict(zip(header, row, strict=True)) == {
        "Recipe": "The light one",
        "and then": "CRF",
        "Seeds": "2",
        "Mean IoU": "0.710",
        "IoU pet": "0.800",
        "IoU background": "0.900",
        "IoU border": "0.500",
        "Boundary F1": "0.600",
        "Processor time per picture": "50 ms",  # half of 30.8 s for 308 pictures
    }


def test_detections_have_a_table_of_average_precision():
    def precision(mask_ap):
        keys = [f"{kind}_{key}" for kind in ("mask", "box") for key in ("ap", "ap50", "ap75")]
        return dict(zip(keys, (mask_ap, 0.8, 0.5, 0.55, 0.85, 0.6), strict=True))

    plain = run("plain") | precision(0.4)
    scored = [
        run("scored", seed=seed) | precision(ap) | {"class_scores_alone": precision(ap - 0.02)}
        for seed, ap in enumerate((0.45, 0.47))
    ]
    header, _, *found = rows(tables.markdown_table(result(plain, *scored)))
    assert header[:6] == ["Recipe", "Pixels", "Seeds", "Mask AP", "Mask AP50", "Mask AP75"]
    first, *others = (dict(zip(header, row, strict=True)) for row in found)
    assert (first["Recipe"], first["Mask AP"], first["Box AP75"]) == (
        "The plain one",
        "0.400",
        "0.600",
    )
    assert first["Processor time"] == "18 min 35 s"
    # By hand: 0.46 and 0.44; the squares are twice 0.0001, over 1, and its root 0.014.
    assert [row["Mask AP"] for row in others] == ["0.460 ± 0.014", "0.440 ± 0.014"]
    assert others[1]["Recipe"] == "The scored one, class scores alone"


def test_recipes_and_sizes_have_their_own_rows_in_the_order_of_the_file():
    runs = [run("b"), run("a"), run("b", image_size=256), run("a", seed=1)]
    _, _, *body = rows(tables.markdown_table(result(*runs)))
    assert [row[:3] for row in body] == [
        ["The b one", "128", "1"],
        ["The a one", "128", "2"],
        ["The b one", "256", "1"],
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(59.6, "1 min 00 s"), (61, "1 min 01 s"), (3725, "62 min 05 s"), (None, "not measured")],
)
def test_a_time_is_in_minutes_and_seconds(seconds, words):
    header, _, row = rows(tables.markdown_table(result(run(train_seconds=seconds))))
    assert row[header.index("Training")] == words


def test_of_several_seeds_the_shortest_time_counts():
    """What else a machine does only adds to a time."""
    found = rows(
        tables.markdown_table(
            result(
                run(train_seconds=130.0, cpu_seconds=250.0),
                run(seed=1, train_seconds=120.0, cpu_seconds=260.0),
                run(seed=2, train_seconds=3600.0, cpu_seconds=255.0),
            )
        )
    )
    header, _, row = found
    assert row[header.index("Training")] == "2 min 00 s"
    assert row[header.index("Processor time")] == "4 min 10 s"


def test_a_table_always_says_on_which_pictures_and_on_what_machine():
    text = tables.markdown_table(result(run()))
    for part in ("653/308 subset", "A processor (2 cores)", "keras 3.15.1", "0123456789ab"):
        assert part in text
    pinned = result(run()) | {"device": {"cpu": "A processor", "cores": 1, "gpu": []}}
    assert "A processor (1 core)," in tables.markdown_table(pinned)
    pinned["device"]["instructions"] = []  # none that Linux knows
    assert "A processor (1 core)," in tables.markdown_table(pinned)
    pinned["device"]["instructions"] = ["AVX2", "AVX-512"]
    assert "A processor (1 core, AVX2, AVX-512)," in tables.markdown_table(pinned)


def mistake(recipe, seed, mean_iou, harms="model", **changes):
    made = {
        "recipe": recipe,
        "title": f"The {recipe} one",
        "harms": harms,
        "against": "right",
        "image_size": 64,
        "seed": seed,
        "mean_iou": mean_iou,
        "settings": {"image_size": 64, "epochs": 6},
    }
    return made | changes


RIGHT = [mistake("right", seed, score, "nothing") for seed, score in enumerate((0.6, 0.7, 0.8))]


def test_differences_are_taken_seed_by_seed():
    # By hand: the scores vary by 0.1 from seed to seed, the differences are -0.10, -0.12, -0.14.
    wrong = [mistake("flip", seed, score) for seed, score in enumerate((0.5, 0.58, 0.66))]
    [row] = results.differences(result(*RIGHT, *wrong))
    assert row["mean"] == pytest.approx(-0.12)
    assert row["spread"] == pytest.approx(0.02)
    assert (row["right"], row["wrong"]) == (pytest.approx(0.7), pytest.approx(0.58))
    assert (row["seeds"], row["harms"], row["verdict"]) == (3, "model", "worse")


def test_a_report_is_compared_with_the_true_number_of_the_same_seed():
    runs = [mistake("accuracy", s, 0.6, "report", reported=0.9 + s / 100) for s in (0, 1)]
    [row] = results.differences(result(*RIGHT, *runs))
    assert row["mean"] == pytest.approx((0.3 + 0.21) / 2)


def test_a_seed_without_its_right_run_does_not_count():
    [row] = results.differences(result(RIGHT[0], mistake("flip", 0, 0.5), mistake("flip", 1, 0.9)))
    assert (row["seeds"], row["spread"]) == (1, None)
    assert row["verdict"] == "one seed says little"
    assert results.differences(result(RIGHT[0], mistake("flip", 2, 0.5))) == []


@pytest.mark.parametrize(
    ("changes", "harms", "verdict"),
    [
        # A t interval, computed with SciPy: -0.02 ± 4.303 * 0.01 / sqrt(3) = ± 0.025
        ((-0.01, -0.02, -0.03), "model", "no difference seen"),
        ((-0.03, -0.04, -0.05), "model", "worse"),
        ((0.03, 0.04, 0.05), "model", "better"),
        ((0.03, 0.04, 0.05), "report", "flatters"),
        ((-0.03, -0.04, -0.05), "report", "understates"),
        ((0.0, 0.0, 0.0), "report", "no difference seen"),
    ],
)
def test_a_difference_is_seen_if_zero_lies_outside_of_the_interval(changes, harms, verdict):
    runs = [
        mistake("m", r["seed"], r["mean_iou"] + change, harms)
        for r, change in zip(RIGHT, changes, strict=True)
    ]
    [row] = results.differences(result(*RIGHT, *runs))
    assert row["verdict"] == verdict


def test_the_intervals_are_those_of_students_t():
    stats = pytest.importorskip("scipy.stats", reason="SciPy has the quantiles")
    for seeds, factor in results.T95.items():
        assert factor == pytest.approx(stats.t.ppf(0.975, seeds - 1), abs=5e-4)


def test_runs_that_are_compared_get_a_table_of_differences():
    wrong = [mistake("flip", seed, score) for seed, score in enumerate((0.5, 0.58, 0.66))]
    text = tables.markdown_table(result(*RIGHT, *wrong))
    header, _, row = rows(text)
    assert dict(zip(header, row, strict=True)) == {
        "What is changed": "The flip one",
        "Harms": "model",
        "Seeds": "3",
        "Right": "0.700",
        "Changed": "0.580",
        "Difference": "-0.120 ± 0.020",
        "Verdict": "worse",
    }
    for part in ("64 pixels after 6 epochs", "653/308 subset", "0123456789ab"):
        assert part in text


@pytest.mark.parametrize("part", ["kind", "task", "data", "device", "versions", "commit", "runs"])
def test_a_result_without_a_part_is_refused(part, folder):
    broken = result(run())
    del broken[part]
    with pytest.raises(ValueError, match=part):
        tables.markdown_table(broken)
    with pytest.raises(ValueError, match=part):
        store.save("broken", broken)
    assert not folder.exists()


def test_a_result_without_runs_or_without_its_note_is_refused():
    with pytest.raises(ValueError, match="no run"):
        tables.markdown_table(result())
    anonymous = result(run())
    del anonymous["data"]["note"]
    with pytest.raises(ValueError, match="data.note"):
        tables.markdown_table(anonymous)


def test_what_is_saved_is_loaded(folder):
    file = store.save("unet", result(run()))
    assert results.load("unet") == result(run())
    assert [other.name for other in file.parent.iterdir()] == ["unet.json"]


FULL = {"name": "Pets", "train": 3680, "test": 3669, "note": "the full set", "fingerprint": "f"}
GPU = {"cpu": "A processor", "cores": 16, "gpu": ["A graphics card"]}


def elsewhere(made, *runs, data=RESULT["data"], device=RESULT["device"]):
    """The same measured on other data or another kind of machine, beside the first one."""
    return made | {"others": [result(*runs) | {"data": data, "device": device}]}


@pytest.mark.parametrize(
    ("place", "note"),
    [
        ({"data": FULL}, "(the full set)"),
        ({"device": GPU}, "(A graphics card)"),
        ({"data": FULL, "device": GPU}, "(the full set, A graphics card)"),
    ],
)
def test_a_readers_measurement_stands_in_the_same_table(place, note):
    made = elsewhere(result(run(), run(seed=1)), run(mean_iou=0.8), **place)
    text = tables.markdown_table(made)
    header, _, own, other = rows(text)
    assert own[0] == "The light one" and own[2] == "2"
    assert other[0] == f"The light one {note}" and other[2] == "1"
    assert other[header.index("Mean IoU")] == "0.800"
    assert ("3680 training and 3669 test pictures (the full set)" in text) == ("data" in place)
    assert ("A processor (16 cores), A graphics card" in text) == ("device" in place)


@pytest.mark.parametrize(
    "more",
    [
        {"sharpened": {"CRF": {"iou": run()["iou"], "mean_iou": 0.75, "boundary_f1": 0.6}}},
        {"against": "light", "harms": "model", "settings": {"image_size": 64, "epochs": 6}},
        {
            **{"mask_ap": 0.6, "mask_ap50": 0.9, "mask_ap75": 0.7},
            **{"box_ap": 0.5, "box_ap50": 0.8, "box_ap75": 0.6},
        },
        {
            **{"experiment": "unet", "boundary_f1": 0.6, "intervals": {"mean": [0.6, 0.8]}},
            **{"milliseconds": {"1": 10.0, "8": 40.0}, "multiply_adds": 1, "peak_memory_mib": 9},
        },
    ],
    ids=["sharpened", "differences", "detections", "leaderboard"],
)
def test_every_table_of_trained_models_has_those_rows(more):
    if "sharpened" in more:
        more["sharpened"]["CRF"]["cpu_seconds"] = 30.8
    right, changed = run("light", **more), run("dark", **more)
    made = elsewhere(result(right, changed), right, changed | {"mean_iou": 0.5}, data=FULL)
    titles = [row[0] for row in rows(tables.markdown_table(made))]
    assert "The dark one" in titles and "The dark one (the full set)" in titles
    assert made["others"][0]["runs"][1]["title"] == "The dark one"  # the result is not changed


def test_a_measurement_replaces_that_of_the_same_data_and_gpus_alone(folder, monkeypatch):
    for measurement in (
        result(run()),
        result(run()) | {"data": FULL},
        result(run(mean_iou=0.1)) | {"device": RESULT["device"] | {"cpu": "another", "cores": 4}},
    ):
        store.add("unet", measurement)
    held = results.load("unet")
    first, other = store.measurements(held)
    assert first["runs"][0]["mean_iou"] == 0.1 and first["device"]["cpu"] == "another"
    assert other["data"] == FULL and other["runs"][0]["mean_iou"] == 0.7
    monkeypatch.setattr(machine, "device", lambda: RESULT["device"])
    assert store.measured_here("unet", FULL) == other
    assert store.measured_here("unet", RESULT["data"]) == first
    monkeypatch.setattr(machine, "device", lambda: GPU)
    assert store.measured_here("unet", FULL) is None
    assert store.measured_here("no-such", FULL) is None


def test_each_run_says_where_and_when_it_was_made():
    early = run(device={"cpu": "An old one", "cores": 1, "gpu": []}, versions={"keras": "3.14"})
    late = run(seed=1, device=RESULT["device"], versions={"keras": "3.15.1"})
    early["commit"], late["commit"] = "a" * 40, "b" * 40 + "+changes"
    text = tables.markdown_table(result(early, late)).splitlines()[-1]
    assert text.endswith(
        "Measured on An old one (1 core), A processor (2 cores), keras 3.14, keras 3.15.1, "
        f"at commits {'a' * 12}, {'b' * 12} with changes."
    )


def test_a_missing_and_a_damaged_file_are_named(folder):
    with pytest.raises(FileNotFoundError, match=r"results/unet\.json.*make results"):
        results.load("unet")
    folder.mkdir()
    (folder / "unet.json").write_text('{"task": ')
    with pytest.raises(ValueError, match=r"unet\.json is not valid JSON"):
        results.load("unet")


def test_tables_are_filled_in_between_their_markers_alone(folder):
    store.save("unet", result(run()))
    page = "before\n<!-- results:unet -->\nold\n<!-- /results:unet -->\nafter\n"
    filled = pages.fill(page)
    assert filled.startswith("before\n<!-- results:unet -->\n| Recipe |")
    assert filled.endswith("\n<!-- /results:unet -->\nafter\n")
    assert "old" not in filled
    assert pages.fill(filled) == filled


def test_a_table_that_was_not_measured_says_so(folder):
    page = "<!-- results:unet --><!-- /results:unet -->"
    assert "make results" in pages.fill(page)


def test_run_as_a_program_it_fills_in_a_page(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("<!-- results:no-such -->\nold\n<!-- /results:no-such -->\n")
    monkeypatch.setattr(sys, "argv", ["measured", str(page)])
    runpy.run_module("measured", run_name="__main__")
    assert "`results/no-such.json` does not exist yet" in page.read_text()


def test_an_open_marker_is_refused():
    with pytest.raises(ValueError, match="no end"):
        pages.fill("<!-- results:unet -->\n| a table |")


def test_versions_leave_out_what_is_not_installed():
    found = machine.versions(("pytest", "no-such-package"))
    assert found["pytest"] == pytest.__version__
    assert set(found) == {"python", "pytest"}


def test_the_device_is_described_in_plain_json():
    described = machine.device()
    assert json.loads(json.dumps(described)) == described
    assert described["cpu"] and described["cores"] >= 1


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("flags\t\t: fpu sse4_2 avx avx2 fma", ["AVX2"]),
        ("flags\t\t: avx2 avx512f avx512_bf16", ["AVX2", "AVX-512", "AVX-512 BF16"]),
        ("flags\t\t: avx512_bf16 avx2 avx512f amx_bf16 amx_tile", None),
        ("Features\t: fp asimd i8mm bf16", ["NEON", "Arm BF16"]),
        ("flags\t\t: fpu sse2", []),
        ("bogomips\t: avx2", []),
    ],
)
def test_the_instruction_sets_are_read_from_cpuinfo(tmp_path, line, names):
    names = ["AVX2", "AVX-512", "AVX-512 BF16", "AMX BF16"] if names is None else names
    processor = f"processor\t: 0\nvendor_id\t: X\n{line}\nmodel name\t: Y\n\n"
    (tmp_path / "cpuinfo").write_text(2 * processor)
    assert machine.instructions(tmp_path / "cpuinfo") == names
    assert machine.instructions(tmp_path / "none") == []  # no Linux


def test_a_commit_is_unknown_outside_of_a_repository(tmp_path):
    assert machine.commit(tmp_path) == "unknown"


def test_a_commit_tells_of_changes(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        done = subprocess.run(
            ["git", "-C", tmp_path, *identity, *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    git("init", "-q")
    assert machine.commit(tmp_path) == "unknown"
    (tmp_path / "results").mkdir()
    for name in ("a", "results/unet.json"):
        (tmp_path / name).write_text("1")
    git("add", ".")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD")
    machine.commit.cache_clear()
    assert machine.commit(tmp_path) == head
    (tmp_path / "results" / "unet.json").write_text("2")
    machine.commit.cache_clear()
    assert machine.commit(tmp_path) == head  # each script of `make results` writes some
    (tmp_path / "a").write_text("2")
    assert machine.commit(tmp_path) == head  # a run states the code that it began with
    machine.commit.cache_clear()
    assert machine.commit(tmp_path) == f"{head}+changes"


def test_what_was_measured_with_changes_is_saved_only_if_asked(folder, monkeypatch):
    monkeypatch.delenv("DIRTY", raising=False)
    dirty = result(run()) | {"commit": "a" * 40 + "+changes"}
    with pytest.raises(RuntimeError, match="Commit first"):
        store.add("unet", dirty)
    assert not folder.exists()
    monkeypatch.setenv("DIRTY", "1")
    store.add("unet", dirty)
    assert "with changes" in tables.markdown_table(results.load("unet"))


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind is 'song', expected one of scores"):
        tables.markdown_table(result(run()) | {"kind": "song"})


@pytest.mark.parametrize(
    "name, result",
    [
        ("README.md", "leaderboard"),
        ("notebooks/02_unet.ipynb", "unet"),
        ("notebooks/03_fcn8_vgg16.ipynb", "fcn8"),
        ("notebooks/06_losses.ipynb", "losses"),
        ("notebooks/08_mistakes.ipynb", "mistakes"),
        ("notebooks/09_choosing.ipynb", "leaderboard"),
        ("notebooks/09_choosing.ipynb", "labels"),
        ("notebooks/09_choosing.ipynb", "speedups"),
        ("notebooks/09_choosing.ipynb", "peers"),
        ("notebooks/04_deeplabv3plus.ipynb", "deeplabv3plus"),
    ],
)
def test_a_page_shows_the_measured_results(root, name, result):
    page = root / name
    text = page.read_text(encoding="utf-8")
    assert f"<!-- results:{result} -->" in text, f"{name} shows no results"
    assert pages.fill_page(page) == text, f"run `python -m measured {name}`"


DRAWING = "book/images/leaderboard.svg"


def description(file):
    """What an SVG file says of itself in its metadata."""
    return ElementTree.parse(file).find(".//{http://purl.org/dc/elements/1.1/}description").text


def test_the_readme_draws_the_measured_results(root):
    assert f"]({DRAWING})" in (root / "README.md").read_text(encoding="utf-8")
    rows = results.rows(results.load("leaderboard"))
    assert description(root / DRAWING) == pages.leaderboard_in_words(rows), (
        f"run `python -m measured {DRAWING}`"
    )


def test_the_drawing_says_what_it_shows(tmp_path):
    files = [tmp_path / name for name in ("one.svg", "two.svg")]
    for file in files:
        pages.draw_leaderboard(file)
    assert files[0].read_bytes() == files[1].read_bytes()
    said = description(files[0]).split("; ")
    rows = results.rows(results.load("leaderboard"))
    assert len(said) == len(rows)
    best = rows[0]
    assert said[0].startswith(f"A {best['title']}: mean IoU {best['mean_iou']:.3f}, latency")
    assert said[0].endswith(f"minutes of processor time: {best['cpu_seconds'] / 60:.2f}")


def test_a_saving_is_shown_with_its_ratio():
    saving = {"saving": "cache", "work": "an epoch", "before": "none", "after": "uint8"}
    times = {"before_ms": 1234.4, "after_ms": 100.0}
    header, _, row = rows(tables.markdown_table(result(saving | times)))
    assert row[header.index("Saving")] == "cache: uint8, not none"
    assert (row[header.index("Without")], row[header.index("With")]) == ("1,234 ms", "100 ms")
    assert row[header.index("Speed")] == "12.34 ×"  # 1234.4 / 100


def test_a_stage_is_shown_with_its_share_of_the_whole():
    work = {"work": "a step"}
    stages = [("forward", 0.25), ("backward", 150.0), ("whole", 200.0)]
    _, _, *found = rows(
        tables.markdown_table(result(*(work | {"stage": s, "ms": ms} for s, ms in stages)))
    )
    assert found == [
        ["a step", "forward", "0.25 ms", "0%"],
        ["", "backward", "150 ms", "75%"],
        ["", "whole", "200 ms", "100%"],
    ]
