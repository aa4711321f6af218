"""Captions of scenes: phrases that mention some of the facts, from a vocabulary of about a hundred words.

Idea: people mention few facts.  So a caption always mentions the subject, if there is one, and how many there are,
usually a style other than "plain", and most other facts about half of the time or less: "a dog" is as good a caption as
"a small brown dog in a winter forest at night".  From this a network learns that what a caption does not mention may
have any value.  Which facts a caption mentions is known, so evaluation can test exactly those.
Leaves out the direction a subject faces, and the hue of the style "duotone": no word names them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from minidiff.nn.tokenizer import Tokenizer, split
from minidiff.scenes import factors as f
from minidiff.scenes.dice import Dice, Part
from minidiff.scenes.factors import Factors

OMIT = 0.45  # the probability that a fact is left out
OTHER_WORD = 0.3  # the probability of a synonym, if there is one
FACTS = ("subject", "colour", "place", "season", "time", "weather", "style", "count", "size", "position")
LENGTH = 20  # words in the longest caption

# The usual word comes first; "|" separates synonyms, and "/" separates the singular from the plural.
_SUBJECTS = {
    "dog": "dog/dogs|puppy/puppies",
    "cat": "cat/cats|kitten/kittens",
    "rabbit": "rabbit/rabbits|bunny/bunnies",
    "bird": "bird/birds",
    "house": "house/houses|cottage/cottages|home/homes",
    "car": "car/cars|automobile/automobiles",
    "boat": "boat/boats|sailboat/sailboats|ship/ships",
    "tree": "tree/trees",
    "balloon": "balloon/balloons",
    "flower": "flower/flowers|blossom/blossoms",
}
_COLOURS = {"purple": "purple|violet", "grey": "grey|gray"}
_PLACES = {
    "field": "field|meadow",
    "forest": "forest|woods",
    "mountains": "mountains|peaks",
    "sea": "sea|ocean",
    "desert": "desert",
    "city": "city|town",
}
_SEASONS = {"autumn": "autumn|fall"}
_TIMES = {"day": "by day|in daylight", "sunset": "at sunset|in the evening|at dusk", "night": "at night|in the dark"}
_WEATHERS = {"cloudy": "under clouds", "rainy": "in the rain", "snowy": "in the snow"}
_ADJECTIVES = {"cloudy": "cloudy", "rainy": "rainy", "snowy": "snowy"}
_STYLES = {
    "pastel": "in pastel colours|in pastel",
    "vintage": "as an old photo|in sepia",
    "neon": "in neon|in neon light",
    "ink": "as an ink drawing|in ink",
    "duotone": "in two tones|in duotone",
}
_SIZES = {"small": "small|little|tiny", "big": "big|large"}
_POSITIONS = {"left": "on the left", "middle": "in the middle", "right": "on the right"}
_ARTICLES = "a an the in at on two three"
_WITHOUT_SEASON = ("sea", "desert")


@dataclass(frozen=True)
class Captions:
    """N captions, and for each of FACTS which captions mention it: (N,) bool."""

    texts: list[str]
    mentions: dict[str, np.ndarray]


def caption(factors: Factors, seed: int, split: str, sample: np.ndarray) -> Captions:
    """Return captions of the images numbered `sample`, int64 (N,), which show `factors`."""
    numbers = Dice.roll(seed, split, Part.CAPTION, sample, 32)
    texts, mentions = [], {fact: np.zeros(len(sample), bool) for fact in FACTS}
    for n, chances in enumerate(numbers.rows()):
        text, facts = _caption_of(factors, n, iter(chances))
        texts.append(text)
        for fact in facts:
            mentions[fact][n] = True
    return Captions(texts, mentions)


def _caption_of(factors: Factors, n: int, chances: Iterator[float]) -> tuple[str, set[str]]:
    """Return a caption of image n, and the facts that it mentions."""
    chance = lambda probability: next(chances) < probability
    mentioned: set[str] = set()

    def include(fact: str, omit: float = OMIT) -> bool:
        """Decide at random whether the caption mentions a fact; omit: the probability that it does not."""
        if chance(omit):
            return False
        mentioned.add(fact)
        return True

    def word(table: dict[str, str], name: str) -> str:
        """Return the usual word for a value or, at random, a synonym."""
        first, *others = table.get(name, name).split("|")
        return others[int(next(chances) * len(others))] if others and chance(OTHER_WORD) else first

    subject, colour, place = f.SUBJECTS[factors.subject[n]], f.COLOURS[factors.colour[n]], f.PLACES[factors.place[n]]
    season, time = f.SEASONS[factors.season[n]], f.TIMES[factors.time[n]]
    weather, style = f.WEATHERS[factors.weather[n]], f.STYLES[factors.style[n]]
    count, seasonal, parts = int(factors.count[n]), place not in _WITHOUT_SEASON, []

    if subject != "nothing":
        mentioned |= {"subject", "count"}
        adjectives = []
        if chance(0.5) and include("size"):
            adjectives.append(word(_SIZES, f.SIZES[factors.size[n]]))
        if subject == "tree":
            if seasonal and include("season"):
                adjectives.append(word(_SEASONS, season))
        elif include("colour"):
            adjectives.append(word(_COLOURS, colour))
        one, many = word(_SUBJECTS, subject).split("/")
        words = " ".join([*adjectives, one if count == 1 else many])
        parts.append(_article(words) if count == 1 else f"{('two', 'three')[count - 2]} {words}")
        if count == 1 and chance(0.4) and include("position"):
            parts.append(_POSITIONS[f.POSITIONS[factors.position[n]]])
    if include("place", 0 if subject == "nothing" else OMIT):
        adjectives = []
        if weather in _ADJECTIVES and chance(0.3) and include("weather"):
            adjectives.append(_ADJECTIVES[weather])
        if seasonal and "season" not in mentioned and include("season"):
            adjectives.append(word(_SEASONS, season))
        there = " ".join([*adjectives, word(_PLACES, place)])
        if place == "mountains":
            parts.append(there if subject == "nothing" else f"in the {there}")
        else:
            bare = place in ("sea", "city") and not adjectives
            there = f"the {there}" if bare or there.endswith("woods") else _article(there)
            where = "on" if subject == "boat" else "at" if place == "sea" else "in"
            parts.append(there if subject == "nothing" else f"{where} {there}")
    if include("time", 0.85 if time == "day" else OMIT):
        parts.append(word(_TIMES, time))
    if weather in _WEATHERS and "weather" not in mentioned and include("weather"):
        parts.append(word(_WEATHERS, weather))
    if style in _STYLES and include("style", 0.15):
        parts.append(word(_STYLES, style))
    return " ".join(parts), mentioned


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _all_words() -> list[str]:
    tables = (_SUBJECTS, _PLACES, _TIMES, _WEATHERS, _ADJECTIVES, _STYLES, _SIZES, _POSITIONS, _COLOURS, _SEASONS)
    texts = [text for table in tables for text in table.values()]
    return sorted(set(split(" ".join([_ARTICLES, *texts, *f.COLOURS, *f.SEASONS]))))


TOKENIZER = Tokenizer(_all_words(), LENGTH)
