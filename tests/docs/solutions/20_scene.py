"""Solution of exercise 20, and one that forgets the place."""

from dataclasses import replace

import numpy as np

from minidiff.scenes import factors as names


def balloon_at_sunset(factors, place="sea"):
    asked = {
        "subject": names.SUBJECTS.index("balloon"),
        "colour": names.COLOURS.index("red"),
        "place": names.PLACES.index(place),
        "time": names.TIMES.index("sunset"),
        "weather": names.WEATHERS.index("clear"),
        "style": names.STYLES.index("plain"),
        "size": names.SIZES.index("big"),
        "position": names.POSITIONS.index("middle"),
        "count": 1,
    }
    return replace(factors, **{name: np.full_like(getattr(factors, name), value) for name, value in asked.items()})


def wrong_balloon_at_sunset(factors):
    return balloon_at_sunset(factors, place="field")
