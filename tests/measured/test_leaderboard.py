"""The leaderboard says what the runs say: means over the seeds, the best first, who is beaten."""

import pytest

from measured import tables
from seglib import plot
from seglib.chapters import results


def run(recipe, mean_iou, *, seed=0, milliseconds=10.0, experiment="unet", **changes):
    """An entry of results/leaderboard.json."""
    return {
        "experiment": experiment,
        "recipe": recipe,
        "title": recipe.upper(),
        "image_size": 128,
        "seed": seed,
        "cpu_seconds": 600.0,
        "parameters": 2_500_000,
        "mean_iou": mean_iou,
        "iou": {"pet": 0.8, "background": 0.9, "border": 0.5},
        "boundary_f1": 0.6,
        "intervals": {"mean": [mean_iou - 0.02, mean_iou + 0.01]},
        "milliseconds": {"1": milliseconds, "8": 5 * milliseconds},
        "multiply_adds": 391_460_000,
        "peak_memory_mib": 120,
        **changes,
    }


def result(*runs):
    data = {"name": "Pets", "train": 653, "test": 308, "note": "653/308 subset"}
    device = {"cpu": "A processor", "cores": 2, "gpu": []}
    return {
        **{"kind": "leaderboard", "task": "classes of pixels", "data": data, "device": device},
        **{"versions": {"python": "3.11"}, "commit": "0123456789abcdef", "runs": list(runs)},
    }


def test_seeds_are_averaged_and_the_best_comes_first():
    fast, good = results.rows(
        result(
            run("bad", 0.5),
            run("good", 0.70, cpu_seconds=700.0),
            run("good", 0.74, seed=1, cpu_seconds=650.0),
        )
    )[::-1]
    assert (good["title"], good["seeds"]) == ("GOOD", 2)
    assert good["mean_iou"] == pytest.approx(0.72)
    assert good["spread"] == pytest.approx(0.04 / 2**0.5)  # of two values: their distance by √2
    assert good["interval"] == pytest.approx((0.70, 0.73))
    assert good["cpu_seconds"] == 650.0  # another program, or a slower hour, only adds
    assert (fast["seeds"], fast["spread"]) == (1, None)


def test_one_recipe_name_in_two_experiments_is_two_models():
    rows = results.rows(result(run("a", 0.5), run("a", 0.6, experiment="fcn8")))
    assert [row["experiment"] for row in rows] == ["fcn8", "unet"]


def test_the_front_holds_who_is_beaten_by_nobody():
    rows = results.rows(
        result(
            run("slow", 0.8, milliseconds=30),
            run("beaten", 0.7, milliseconds=31),
            run("fast", 0.6, milliseconds=5),
            run("equal", 0.6, milliseconds=6),  # as good as another, and slower
            run("middle", 0.7, milliseconds=20),
        )
    )
    drawn = results.drawn(rows, {"time": lambda row: row["milliseconds"]["1"]})
    front = plot.pareto_front(drawn["scores"], drawn["costs"]["time"])
    assert [rows[i]["recipe"] for i in front] == ["fast", "middle", "slow"]


def test_figures_name_the_models_by_their_place():
    rows = results.rows(result(run("bad", 0.5), run("good", 0.7), run("middle", 0.6)))
    assert [(row["letter"], row["recipe"]) for row in rows] == [
        ("A", "good"),
        ("B", "middle"),
        ("C", "bad"),
    ]


def test_a_network_costs_the_same_whatever_its_weights():
    rows = results.rows(
        result(
            run("a", 0.70, milliseconds=10.0, cpu_seconds=60.0),
            run("b", 0.71, milliseconds=12.0, peak_memory_mib=124),
            run("c", 0.72, milliseconds=11.0, peak_memory_mib=500),
            run("larger", 0.73, milliseconds=40.0, image_size=256),
            run("other", 0.60, milliseconds=4.0, parameters=1_000_000),
        )
    )
    costs = results.costs(rows)
    paid = {row["recipe"]: [cost(row) for cost in costs.values()] for row in rows}
    # One picture and eight (ms), memory (MiB), multiply-adds, parameters (M), training (min).
    of_network = [11.0, 5 * 11.0 / 8, 124, 391.46, 2.5]
    assert paid["a"] == pytest.approx([*of_network, 1.0])
    assert paid["b"] == paid["c"] == pytest.approx([*of_network, 10.0])
    assert paid["larger"] == pytest.approx([40.0, 25.0, 120, 391.46, 2.5, 10.0])
    assert paid["other"] == pytest.approx([4.0, 2.5, 120, 391.46, 1.0, 10.0])


def cells_of(table):
    """The cells of a table's first row, by their column."""
    header, _, row = ([c.strip() for c in line.split("|")[1:-1]] for line in table.splitlines())
    return dict(zip(header, row, strict=True))


def test_the_tables_say_what_the_entries_say():
    reached, costs, how = tables.markdown_table(result(run("a", 0.751))).split("\n\n")
    assert cells_of(reached) == {
        **{"Model": "A", "Pixels": "128", "Seeds": "1", "Mean IoU": "0.751"},
        **{"95% of test sets": "0.731–0.761", "IoU pet": "0.800", "IoU background": "0.900"},
        **{"IoU border": "0.500", "Boundary F1": "0.600"},
    }
    assert cells_of(costs) == {
        **{"Model": "A", "Pixels": "128", "Parameters": "2.50 M", "Multiply-adds": "391 M"},
        **{"One picture": "10 ms", "Eight": "50 ms", "Memory": "120 MiB", "Training": "10 min"},
    }
    assert "653/308 subset" in how and "bootstrap" in how


@pytest.mark.parametrize(
    ("spread", "text"),
    [
        (None, ""),
        (0.0023, " ± 0.002"),
        (0.0005, " ± 0.001"),
        (0.00049, " ± <0.001"),
        (0.0, " ± <0.001"),
    ],
)
def test_a_small_spread_does_not_look_like_none(spread, text):
    assert tables.plus_minus(spread) == text
