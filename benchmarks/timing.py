"""Compares speeds, interleaved in one run, and prints medians and ratios.

Each round calls every candidate once, so that a busy moment of the machine hits all of them alike;
the ratio to the first row of a group is what to read, not the milliseconds.
"""

import statistics
import time

ROUNDS = 9


def medians(candidates, rounds=ROUNDS):
    """Times each candidate once a round; returns the medians in milliseconds, by name."""
    for call in candidates.values():
        call()  # builds graphs and fills caches
    times = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def compare(title, candidates, rounds=ROUNDS):
    """Times each candidate once a round and prints the medians, the first one as 1."""
    found = medians(candidates, rounds)
    first = next(iter(found.values()))
    print(f"\n{title} (median of {rounds})")
    for name, value in found.items():
        print(f"  {name:<44} {value:9.1f} ms   {value / first:5.2f} x", flush=True)
