"""Words and numbers: both ways, what is unknown, empty, too long or written in another script."""

import unicodedata

import numpy as np
import pytest

from minidiff.errors import MinidiffError
from minidiff.nn import tokenizer as module
from minidiff.nn.tokenizer import PADDING, Tokenizer, build_tokenizer, drop_caption_parts, shorten, split

KNOWN = Tokenizer(("a", "cat", "dog", "winter"), 5)


def refused(prompt, known=KNOWN):
    with pytest.raises(MinidiffError) as caught:
        known.encode_prompt(prompt)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_captions_become_rows_of_numbers_and_words_again():
    rows = KNOWN.encode(["A dog, a CAT!", "", "a purple dog", "a a a a a dog"])
    assert rows.dtype == np.int64
    assert rows.tolist() == [[1, 3, 1, 2, 0], [0] * 5, [1, 3, 0, 0, 0], [1] * 5]  # unknown and too long: left out
    assert [KNOWN.decode(row) for row in rows] == ["a dog a cat", "", "a dog", "a a a a a"]
    assert KNOWN.encode([]).shape == (0, 5)
    assert len(KNOWN) == 5 and PADDING == 0  # four words and the number of none


def test_a_prompt_is_read_like_a_caption():
    for prompt in ("a dog", "  A\tDog…", "a_dog", "A-dog\n"):
        assert KNOWN.encode_prompt(prompt).tolist() == [1, 3, 0, 0, 0]
    assert KNOWN.encode_prompt("a a a a a").tolist() == [1] * 5


@pytest.mark.parametrize("prompt", ["", "   ", "…!?", "_"])
def test_a_prompt_without_words_is_refused(prompt):
    assert refused(prompt) == f"a prompt must have words, such as 'a dog'; got {prompt!r}"


def test_unknown_words_are_named_with_the_nearest_known_one():
    assert refused("a dgo") == "unknown word in the prompt: 'dgo' (did you mean 'dog'?); known are a cat dog winter"
    line = refused("xyz winetr xyz a")
    assert line.startswith("unknown words in the prompt: 'xyz', 'winetr' (did you mean 'winter'?); known are")


def test_five_unknown_words_are_enough():
    line = refused("q1 q2 q3 q4 q5 q6 q7", Tokenizer(("dog",), 9))
    assert "'q5'" in line and "'q6'" not in line


def test_a_long_unknown_word_is_shortened():
    line = refused("y" * 100_000)
    assert "'" + "y" * 29 + "…'" in line and len(line) < 200


def test_too_many_words_are_counted():
    line = refused(" ".join(["dog"] * 10_000))
    assert line.startswith("a prompt may have up to 5 words, got 10000: 'dog dog") and len(line) < 150


def test_of_many_known_words_the_first_are_listed():
    many = Tokenizer([f"w{i:04d}" for i in range(400)], 3)
    line = refused("zebra", many)
    assert "w0149 and 250 more" in line and "w0150" not in line
    assert "such as 'w0000'" in refused("", many)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ein kleiner HUND im Schnee, 2 Äpfel", ["ein", "kleiner", "hund", "im", "schnee", "2", "äpfel"]),
        ("Маленькая собака", ["маленькая", "собака"]),
        ("一只狗", ["一", "只", "狗"]),
        ("いぬ ネコ", ["い", "ぬ", "ネ", "コ"]),
        ("छोटा कुत्ता", ["छोटा", "कुत्ता"]),  # vowel signs belong to the word
        ("كلب صغير", ["كلب", "صغير"]),
        ("강아지 한 마리", ["강아지", "한", "마리"]),
        ("dog ❤️ cat 🐈‍⬛", ["dog", "cat"]),  # signs that only change how an emoji looks are no words
        ("a\x00b\u200bc", ["a", "b", "c"]),
    ],
)
def test_words_of_any_script(text, words):
    assert split(text) == words
    known = build_tokenizer([text])
    assert known.decode(known.encode_prompt(text)) == " ".join(words)


def test_an_accent_may_be_a_character_of_its_own():
    assert split(unicodedata.normalize("NFD", "Été brûlé")) == split("Été brûlé") == ["été", "brûlé"]


def test_a_vocabulary_is_alphabetical_whatever_the_order_of_captions():
    captions = ["two dogs", "a cat", "a dog in the woods", ""]
    known = build_tokenizer(captions)
    assert known.words == ("a", "cat", "dog", "dogs", "in", "the", "two", "woods")
    assert known.max_tokens == 5
    assert build_tokenizer(reversed(captions)).words == known.words


def test_a_vocabulary_keeps_the_most_frequent_words(monkeypatch):
    monkeypatch.setattr(module, "MAX_VOCAB_SIZE", 4)
    assert build_tokenizer(["d d d", "c b b", "a a"]).words == ("a", "b", "d")


def test_ten_thousand_words_are_cut_to_those_that_there_are_numbers_for():
    captions = [f"common w{i}" for i in range(10_000)]
    known = build_tokenizer(captions)
    assert len(known) == module.MAX_VOCAB_SIZE and "common" in known.words
    assert known.encode(captions[-1:]).tolist() == [[known.words.index("common") + 1, 0]]  # the rare word has none


def test_what_is_never_learnt_is_not_known():
    """Words after the 32nd of a caption never reach the network, and what is longer than 64 letters is no word."""
    known = build_tokenizer([" ".join(["dog"] * module.MAX_TOKENS + ["cat"]), "x" * 65 + " bird", "y" * 64])
    assert known.words == ("bird", "dog", "y" * 64)
    assert known.max_tokens == module.MAX_TOKENS


@pytest.mark.parametrize("captions", [[], ["", " ", "…"], ["x" * 65]])
def test_captions_without_words_are_refused(captions):
    with pytest.raises(MinidiffError, match=r"^the captions have no words$"):
        build_tokenizer(captions)


def test_shorten():
    assert shorten("a" * 60) == "a" * 60
    assert shorten("a" * 61) == "a" * 59 + "…"


def test_parts_of_captions():
    known = build_tokenizer(["cat, small animal; pet", "a dog", ",, ,egg"])
    assert known.caption_parts(["cat, small animal; pet", "a dog", ",, ,egg, unheard, cat"]).tolist() == [
        [0, 1, 1, 2],
        [0, 0, 0, 0],
        [0, 1, 0, 0],
    ]


def test_parts_left_out():
    caption = "cat, small animal; pet"
    known = build_tokenizer([caption, "a dog"])
    tokens, parts = (each([caption] * 3 + ["a dog", ""]) for each in (known.encode, known.caption_parts))
    u = np.array([[0.0, 0.5, 0.2, 0.3, 0.9], [0.4, 0.5, 0.2, 0.3, 0.9], [0.6, 0.5, 0.2, 0.3, 0.9], [0] * 5, [0] * 5])
    told = [known.decode(row) for row in drop_caption_parts(tokens, parts, u)]
    assert told == ["small animal", "small animal pet", "cat small animal pet", "a dog", ""]


def test_every_number_of_parts_is_as_likely():
    known = build_tokenizer(["a, b, c"])
    tokens, parts = (np.repeat(each(["a, b, c"]), 30_000, axis=0) for each in (known.encode, known.caption_parts))
    told = drop_caption_parts(tokens, parts, np.random.default_rng(0).random((30_000, 4), np.float32))
    counts = np.bincount((told != 0).sum(1), minlength=4)  # one that is none becomes one
    np.testing.assert_allclose(counts, [0, 15_000, 7_500, 7_500], atol=400)
    alone = told[(told != 0).sum(1) == 1, 0]
    np.testing.assert_allclose(np.bincount(alone)[1:], 5_000, atol=300)
