"""The factors of a scene: what an image shows, how frequent each value is, and which pairs training never contains.

Idea: a scene is a short list of random choices: a subject, its colour, a place, a time.  They are independent, but for
two rules: animals mostly have natural colours, and impossible combinations, such as a boat on land, are corrected.  The
choices are known exactly, unlike those of photographs: the label is always right, and "blue dog" can be left out of
training so that evaluation can ask for a blue dog.
Leaves out how anything looks.

The frequencies make scenes quick to learn: three images in four have the plain style, and most show one subject in the
middle.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from minidiff.scenes.dice import Dice, Part

SUBJECTS = ("nothing", "dog", "cat", "rabbit", "bird", "house", "car", "boat", "tree", "balloon", "flower")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "black", "grey")
PLACES = ("field", "forest", "mountains", "sea", "desert", "city")
SEASONS = ("spring", "summer", "autumn", "winter")
TIMES = ("day", "sunset", "night")
WEATHERS = ("clear", "cloudy", "rainy", "snowy")
STYLES = ("plain", "pastel", "vintage", "neon", "ink", "duotone")
POSITIONS = ("left", "middle", "right")
SIZES = ("small", "big")

# The classes of the segmentation map; a subject's class is its label.
_SCENERY = ("cloud", "light", "hill", "mountain", "ground", "water", "sand", "foliage", "trunk", "building", "road")
LABELS = ("sky", *SUBJECTS[1:], *_SCENERY)

NOTHING, BOAT, TREE = SUBJECTS.index("nothing"), SUBJECTS.index("boat"), SUBJECTS.index("tree")
SEA, DESERT = PLACES.index("sea"), PLACES.index("desert")
SUMMER, AUTUMN, WINTER = SEASONS.index("summer"), SEASONS.index("autumn"), SEASONS.index("winter")
CLEAR, RAINY, SNOWY = WEATHERS.index("clear"), WEATHERS.index("rainy"), WEATHERS.index("snowy")
SUNSET, NIGHT = TIMES.index("sunset"), TIMES.index("night")

# Pairs that never occur in split "train"; evaluation reports them separately.
HELD_OUT = {
    "colour": (
        ("dog", "blue"),
        ("cat", "green"),
        ("rabbit", "red"),
        ("bird", "purple"),
        ("house", "pink"),
        ("car", "white"),
        ("boat", "orange"),
        ("balloon", "green"),
        ("flower", "blue"),
    ),
    "time": (("cat", "sunset"), ("car", "night"), ("flower", "night")),
    "place": (("dog", "desert"), ("house", "sea"), ("rabbit", "city")),
}
_VALUES = {"colour": COLOURS, "time": TIMES, "place": PLACES}

# The natural colours of animals; two of three animals have one of these.
_NATURAL = {
    "dog": ("brown", "white", "black", "grey", "yellow"),
    "cat": ("grey", "black", "white", "orange"),
    "rabbit": ("white", "grey", "brown"),
    "bird": ("blue", "red", "yellow", "grey"),
}


@dataclass(frozen=True)
class Factors:
    """The choices behind N images: arrays (N,), indices into the tuples above unless said otherwise."""

    subject: np.ndarray
    colour: np.ndarray  # of the subject; a tree has the colour of its season instead
    place: np.ndarray
    season: np.ndarray
    time: np.ndarray
    weather: np.ndarray
    style: np.ndarray
    count: np.ndarray  # 1, 2 or 3 of the subject
    size: np.ndarray
    position: np.ndarray
    facing: np.ndarray  # 1: the subject faces right, -1: left
    hue: np.ndarray  # float32 in [0, 1): the tone of the style "duotone", which no word names

    def __len__(self) -> int:
        return len(self.subject)

    def of(self, images: np.ndarray) -> "Factors":
        """Return the factors of some of the images."""
        return Factors(*(getattr(self, field.name)[images] for field in fields(self)))

    def held_out(self) -> np.ndarray:
        """Return which images show a pair that training never contains: (N,) bool."""
        found = np.zeros(len(self), bool)
        for factor, pairs in HELD_OUT.items():
            for subject, value in pairs:
                found |= self.shows(subject, factor, value)
        return found

    def shows(self, subject: str, factor: str, value: str) -> np.ndarray:
        """Return which images show this subject with this value of a factor: (N,) bool."""
        chosen = getattr(self, factor) == _VALUES[factor].index(value)
        return (self.subject == SUBJECTS.index(subject)) & chosen


def choose(seed: int, split: str, sample: np.ndarray) -> Factors:
    """Choose the factors of the images numbered `sample`: int64 (N,).

    In split "train" the second member of a held-out pair is replaced by the next value of its factor.
    """
    dice = Dice.roll(seed, split, Part.FACTORS, sample, 16)
    factors = Factors(
        subject=dice.integers(len(SUBJECTS)),
        colour=dice.integers(len(COLOURS)),
        place=dice.integers(len(PLACES)),
        season=dice.integers(len(SEASONS)),
        time=dice.categorical((0.62, 0.2, 0.18)),
        weather=dice.categorical((0.76, 0.14, 0.10, 0.0)),  # `sensible` turns rain in winter into snow
        style=dice.categorical((0.75, 0.05, 0.05, 0.05, 0.05, 0.05)),
        count=1 + dice.categorical((0.92, 0.05, 0.03)),
        size=dice.categorical((0.15, 0.85)),
        position=dice.categorical((0.12, 0.76, 0.12)),
        facing=1 - 2 * dice.integers(2),
        hue=dice.uniform(),
    )
    factors = replace(factors, colour=_natural(factors, dice))
    if split == "train":
        factors = _without_held_out(factors)
    return sensible(factors)


def sensible(factors: Factors) -> Factors:
    """Correct impossible factors.

    They are: boats on land; seasons at sea and in the desert; rain in winter and in the desert; snow in another season;
    and three subjects that are small.
    """
    place = np.where(factors.subject == BOAT, SEA, factors.place)
    season = np.where((place == SEA) | (place == DESERT), SUMMER, factors.season)
    weather = np.where((factors.weather >= RAINY) & (season == WINTER), SNOWY, factors.weather)
    weather = np.where((weather == SNOWY) & (season != WINTER), RAINY, weather)
    weather = np.where((weather == RAINY) & (place == DESERT), CLEAR, weather)
    size = np.where(factors.count == 3, SIZES.index("big"), factors.size)
    return replace(factors, place=place, season=season, weather=weather, size=size)


def _natural(factors: Factors, dice: Dice) -> np.ndarray:
    """Return the colours, with natural ones for two of three animals."""
    colour = factors.colour.copy()
    natural, which = dice.bernoulli(2 / 3), dice.uniform()
    for name, wears in _NATURAL.items():
        animals = np.flatnonzero((factors.subject == SUBJECTS.index(name)) & natural)
        table = np.array([COLOURS.index(colour) for colour in wears])
        colour[animals] = table[(which[animals] * np.float32(len(wears))).astype(np.int64)]
    return colour


def _without_held_out(factors: Factors) -> Factors:
    for factor, pairs in HELD_OUT.items():
        values = getattr(factors, factor).copy()
        for subject, value in pairs:
            values[factors.shows(subject, factor, value)] += 1
        factors = replace(factors, **{factor: values % len(_VALUES[factor])})
    return factors
