"""The speed of seglib beside that of public libraries and tutorials: results/peers.json."""

MEGA = 1e6
HEADER = ("Model", "Parameters", "Trained", "Training step", "Speed", "Prediction", "Speed")


def rows(result):
    """Returns the candidates of each work, and how many times as fast as the first they are.

    Args:
        result: what `seglib.chapters.results.load("peers")` returns.

    Returns:
        A dict from the title of a work, such as `"U-Net, …, 8 × 128 px, 3 classes"`, to a list of
        dicts, one per candidate: its run in the file, and `step_speed` and `predict_speed`, the
        first candidate's time by its own.
    """
    works = {}
    for run in result["runs"]:
        title = f"{run['work']}, {run['batch']} × {run['image_size']} px, {run['classes']} classes"
        works.setdefault(title, []).append(dict(run))
    for runs in works.values():
        for run in runs:
            for kind in ("step", "predict"):
                run[f"{kind}_speed"] = runs[0][f"{kind}_ms"] / run[f"{kind}_ms"]
    return works


def cells(row):
    """Returns the cells of a candidate's line, under `HEADER`."""
    return [
        row["title"],
        f"{row['parameters'] / MEGA:.1f} M",
        f"{row['trainable'] / MEGA:.1f} M",
        *(f"{row['step_ms']:.0f} ms", f"{row['step_speed']:.2f} ×"),
        *(f"{row['predict_ms']:.0f} ms", f"{row['predict_speed']:.2f} ×"),
    ]


def absent(result):
    """Returns a sentence for each peer without numbers, and why it has none."""
    sentences = [f"Not installed: {k}: {why}" for k, why in result["not_installed"].items()]
    return sentences + [f"Failed: {title}: {why}" for title, why in result["failed"].items()]


def text(result):
    """Returns the tables for a terminal."""
    lines = []
    for title, found in rows(result).items():
        lines += ["", title]
        for name, *rest in (HEADER, *map(cells, found)):
            lines.append(f"  {name:<50}" + "".join(f"{cell:>15}" for cell in rest))
    return "\n".join([*lines, ""])
