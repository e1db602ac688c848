"""Times several candidates in turn, round by round, so that a busy machine slows all of them down alike."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Gets what was prepared for the round.
Candidate = Callable[[Any], object]


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate, a value per round.

    Attributes:
        seconds: in the order of the rounds, the same for all candidates that were timed together.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        """Quickest round."""
        return min(self.seconds)

    @property
    def maximum(self) -> float:
        """Slowest round."""
        return max(self.seconds)


def time_alternating(
    candidates: Mapping[str, Candidate],
    rounds: int,
    warmup: int = 1,
    prepare: Callable[[int], object] = lambda number: number,
    seed: int = 0,
) -> dict[str, Timing]:
    """Runs every candidate once per round, in an order that is drawn anew for each round.

    Args:
        candidates: name -> what is timed; compile and load before.
        rounds: that count, at least 1.
        warmup: rounds before them, which do not count; their numbers are -warmup to -1.
        prepare: makes from the number of a round what its candidates get, outside of the timing; another content for
            every round leaves nothing to those that remember what they have seen.
        seed: of the order.

    Returns:
        Name -> seconds.
    """
    generator = random.Random(seed)
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(-warmup, rounds):
        content = prepare(number)
        for name in generator.sample(list(candidates), len(candidates)):
            start = time.perf_counter()
            candidates[name](content)
            seconds = time.perf_counter() - start
            if number >= 0:
                taken[name].append(seconds)
    return {name: Timing(tuple(seconds)) for name, seconds in taken.items()}


def speedup(slow: Timing, fast: Timing) -> dict[str, float]:
    """Compares two candidates that were timed in the same rounds.

    Returns:
        `speedup`: the median over the rounds of slow / fast; `speedup_low` and `speedup_high`: the smallest and the
        largest; `speedup_of_minima`: quickest round of either.
    """
    ratios = [a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)]
    return {
        "speedup": statistics.median(ratios),
        "speedup_low": min(ratios),
        "speedup_high": max(ratios),
        "speedup_of_minima": slow.minimum / fast.minimum,
    }


def comparison(name: str, timings: Mapping[str, Timing], reference: str) -> dict:
    """One row of the JSON object: all candidates of a comparison beside the reference.

    Args:
        name: of what is computed.
        timings: of the candidates.
        reference: which of them the speed-ups refer to.
    """
    rows = [
        {
            "name": candidate,
            "median_s": timing.median,
            "min_s": timing.minimum,
            "max_s": timing.maximum,
            **speedup(timings[reference], timing),
        }
        for candidate, timing in timings.items()
    ]
    return {"name": name, "reference": reference, "candidates": rows}


def find_speedup(comparisons: Sequence[dict], name: str, candidate: str) -> float | None:
    """Looks up a speed-up in what :func:`comparison` made; None where it was not measured."""
    for entry in comparisons:
        for row in entry["candidates"]:
            if entry["name"] == name and row["name"] == candidate:
                return row["speedup"]
    return None
