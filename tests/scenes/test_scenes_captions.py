"""What is said about scenes: always the same, always true, always in words that are known, and seldom all there is."""

import re
from functools import cache

import numpy as np
import pytest

from minidiff.nn.tokenizer import MAX_TOKENS, PADDING, split
from minidiff.scenes import Scenes, captions, factors
from minidiff.scenes.captions import FACTS, LENGTH, OMIT, OTHER_WORD, TOKENIZER, caption

MANY = np.arange(20_000)


@pytest.fixture(scope="module")
def said():
    """What is said of twenty thousand images: their factors and captions."""
    chosen = factors.choose(0, "train", MANY)
    return chosen, caption(chosen, 0, "train", MANY)


def words_of(entry):
    """All words that may stand for a fact: of "dog/dogs|puppy/puppies" four sets of one, of "by day|…" the phrases."""
    return [part for synonym in entry.split("|") for part in synonym.split("/")]


@cache
def pattern(phrases):
    """What finds any of the phrases, as whole words."""
    return re.compile(rf"\b({'|'.join(map(re.escape, phrases))})\b")


def says(text, phrases):
    return bool(phrases) and pattern(tuple(phrases)).search(text) is not None


def names(fact):
    return getattr(factors, f"{fact.upper()}S")


def close(share, expected, n, sigmas=5):
    """Whether a share of n independent draws is what it should be; 5 sigmas: one honest failure in two million."""
    return abs(share - expected) <= sigmas * np.sqrt(expected * (1 - expected) / n)


def test_the_same_for_everybody_and_whatever_stands_beside():
    chosen = factors.choose(0, "train", MANY[:200])
    whole = caption(chosen, 0, "train", MANY[:200])
    assert whole.texts == caption(chosen, 0, "train", MANY[:200]).texts
    some = np.array([150, 3, 3, 77])
    part = caption(chosen.of(some), 0, "train", some)
    assert part.texts == [whole.texts[k] for k in some]
    for fact in FACTS:
        np.testing.assert_array_equal(part.mentions[fact], whole.mentions[fact][some])
    assert caption(chosen, 1, "train", MANY[:200]).texts != whole.texts
    assert caption(chosen, 0, "test", MANY[:200]).texts != whole.texts


def test_every_word_is_known_and_every_known_word_is_said(said):
    _, it = said
    used = set().union(*map(split, it.texts))
    assert used == set(TOKENIZER.words)


def test_the_longest_caption_fits(said):
    assert max(len(split(text)) for text in said[1].texts) <= LENGTH <= MAX_TOKENS
    assert TOKENIZER.max_tokens == LENGTH
    assert all(it and TOKENIZER.decode(row) == it for it, row in zip(said[1].texts, TOKENIZER.encode(said[1].texts)))


TABLES = {
    "subject": captions._SUBJECTS,
    "place": captions._PLACES,
    "time": captions._TIMES,
    "style": captions._STYLES,
    "position": captions._POSITIONS,
    "size": captions._SIZES,
    "season": {name: captions._SEASONS.get(name, name) for name in factors.SEASONS},
}


@pytest.mark.parametrize("fact", TABLES)
def test_what_is_told_stands_there_and_nothing_else(said, fact):
    """Told: one of the fact's phrases occurs, and none of another value.  Not told: no phrase of any value occurs."""
    chosen, it = said
    table = {name: words_of(entry) for name, entry in TABLES[fact].items()}
    everything = [phrase for phrases in table.values() for phrase in phrases]
    value = getattr(chosen, fact)
    for n, text in enumerate(it.texts):
        name = names(fact)[value[n]]
        if it.mentions[fact][n]:
            assert says(text, table[name]), (text, name)
            others = [phrase for other, phrases in table.items() if other != name for phrase in phrases]
            assert not says(text, others), (text, name)
        else:
            assert not says(text, everything), (text, name)


def test_colours_are_told_of_subjects(said):
    """A style may be "in pastel colours"; other than that a colour's word is the subject's colour."""
    chosen, it = said
    table = {name: words_of(captions._COLOURS.get(name, name)) for name in factors.COLOURS}
    for n, text in enumerate(it.texts):
        found = {name for name, phrases in table.items() if says(text, phrases)}
        assert found == ({factors.COLOURS[chosen.colour[n]]} if it.mentions["colour"][n] else set()), text
    trees = chosen.subject == factors.TREE
    assert not it.mentions["colour"][trees].any()  # a tree wears its season


def test_weather_is_told_once(said):
    chosen, it = said
    for n, text in enumerate(it.texts):
        name = factors.WEATHERS[chosen.weather[n]]
        told = {
            weather
            for weather in captions._WEATHERS
            if says(text, [captions._WEATHERS[weather], captions._ADJECTIVES[weather]])
        }
        assert told == ({name} if it.mentions["weather"][n] else set()), text
        assert not (says(text, captions._WEATHERS.values()) and says(text, captions._ADJECTIVES.values())), text


def test_counts_agree_with_their_nouns(said):
    chosen, it = said
    plural = {one.split("/")[1] for entry in captions._SUBJECTS.values() for one in entry.split("|")}
    for n, text in enumerate(it.texts):
        if not it.mentions["count"][n]:
            assert chosen.subject[n] == factors.NOTHING
            continue
        count = int(chosen.count[n])
        number = re.findall(r"\b(two|three)\b(?! tones)", text)
        assert number == {1: [], 2: ["two"], 3: ["three"]}[count], text
        assert says(text, plural) == (count > 1), text


def test_articles(said):
    for text in said[1].texts:
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text), text
        assert not re.search(r"\b(a|an|the) (a|an|the)\b", text), text


def test_facts_are_left_out_as_often_as_is_said(said):
    chosen, it = said
    something = chosen.subject != factors.NOTHING
    coloured = something & (chosen.subject != factors.TREE)
    night = chosen.time == factors.NIGHT
    day = chosen.time == factors.TIMES.index("day")
    styled = chosen.style > 0
    one = something & (chosen.count == 1)
    for fact, where, expected in (
        ("subject", something, 1.0),
        ("place", ~something, 1.0),
        ("colour", coloured, 1 - OMIT),
        ("place", something, 1 - OMIT),
        ("time", night, 1 - OMIT),
        ("time", day, 0.15),
        ("style", styled, 0.85),
        ("size", something, 0.5 * (1 - OMIT)),
        ("position", one, 0.4 * (1 - OMIT)),
    ):
        share = it.mentions[fact][where].mean()
        assert close(share, expected, where.sum()), (fact, share, expected)
    for fact in ("subject", "colour", "count", "size", "position"):
        assert not it.mentions[fact][~something].any()


def test_synonyms_come_as_often_as_is_said(said):
    chosen, it = said
    cats = np.flatnonzero((chosen.subject == factors.SUBJECTS.index("cat")) & (chosen.count == 1))
    share = np.mean([says(it.texts[n], ["kitten"]) for n in cats])
    assert close(share, OTHER_WORD, len(cats)), share


def test_no_caption_of_training_names_a_held_out_pair(said):
    """Whatever is said of the subject is true, so it suffices that no image shows such a pair; yet read the words."""
    chosen, it = said
    assert not chosen.held_out().any()
    table = {"colour": captions._COLOURS, "time": captions._TIMES, "place": captions._PLACES}
    phrases = lambda names, name: words_of(names.get(name, name))
    seen = 0
    for fact, pairs in factors.HELD_OUT.items():
        for subject, value in pairs:
            there = [text for text in it.texts if says(text, phrases(captions._SUBJECTS, subject))]
            assert not [text for text in there if says(text, phrases(table[fact], value))], (subject, value)
            seen += len(there)
    assert seen > 10_000
    test = caption(factors.choose(0, "test", MANY), 0, "test", MANY).texts
    dogs = [text for text in test if says(text, phrases(captions._SUBJECTS, "dog"))]
    assert any("blue" in text for text in dogs)  # the exam has them


def test_scenes_are_labelled_with_captions():
    plain, data = Scenes(16), Scenes(16, captions=True)
    assert (data.classes, data.tokenizer) == ((), TOKENIZER)
    index = np.array([5, 2, 300])
    for some in (np.arange(4), index):
        images, tokens = data.batch(some)
        np.testing.assert_array_equal(images, plain.batch(some)[0])  # the images are those without captions
        assert tokens.shape == (len(some), LENGTH) and tokens.dtype == np.int64
        texts = caption(factors.choose(0, "train", some), 0, "train", some).texts
        assert [TOKENIZER.decode(row) for row in tokens] == texts
    tokens[:] = PADDING  # what is returned is one's own
    assert data.batch(index)[1].any()
    assert data.batch(np.arange(0))[1].shape == (0, LENGTH)
