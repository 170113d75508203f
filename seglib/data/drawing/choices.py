"""Random choices."""


def pick(rng, options):
    """One of `options`, all equally likely."""
    return options[int(rng.integers(len(options)))]


def choose(rng, table, column):
    """A key of `table`, drawn with the chances in a column of its values."""
    point = rng.random() * sum(row[column] for row in table.values())
    for key, row in table.items():
        point -= row[column]
        if point < 0:
            return key
    return key
