"""The text that other programs read: its form, their reader, and back."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.diffusion.solvers import SAMPLERS as OURS
from minidiff.diffusion.timesteps import SPACINGS
from minidiff.sampling.request import SampleRequest
from minidiff.studio.parameters import NEGATIVE, SAMPLERS, SCHEDULES, infotext, parse, sampler_of

HASH = "0123456789abcdef" * 4
REQUEST = SampleRequest(prompt=("a dog", "a cat"), steps=50, guidance_scale=3.0, count=2)


def theirs(text):
    """Read such a text as the web UI and many programs after it do: by a regular expression over the last line."""
    *lines, last = text.strip().split("\n")
    found = re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', last)
    quoted = lambda value: json.loads(value) if value[:1] == '"' else value
    return "\n".join(lines), {name: quoted(value) for name, value in found}


def test_the_text_of_an_image():
    text = infotext(replace(REQUEST, negative="night", count=1), "scenes", HASH, 32, 24, version="1.2.3")
    assert text == (
        "a dog\nNegative prompt: night\nSteps: 50, Sampler: DDIM, CFG scale: 3, Seed: 0, Size: 32x24, "
        "Model hash: 0123456789, Model: scenes, Version: minidiff 1.2.3"
    )


def test_prompts_and_labels_take_turns():
    assert [infotext(REQUEST, "m", HASH, 8, 8, k).split("\n")[0] for k in (0, 1, 2)] == ["a dog", "a cat", "a dog"]
    assert parse(infotext(REQUEST, "m", HASH, 8, 8, 1))["Batch pos"] == "1"
    request = SampleRequest(label=("dog", "owl"), steps=4)
    assert parse(infotext(request, "m", HASH, 8, 8, 3))["Label"] == "owl"
    assert infotext(request, "m", HASH, 8, 8).startswith("Steps: 4, Sampler")


def test_what_is_given_beside_the_prompt():
    file = Path("a.png")
    values = lambda **changes: parse(infotext(replace(REQUEST, **changes), "m", HASH, 8, 8))
    assert "Denoising strength" not in values()
    assert values(init=file)["Denoising strength"] == "0.6"
    assert values(init=file, mask=file)["Denoising strength"] == "1"
    assert values(init=file, strength=0.25)["Denoising strength"] == "0.25"
    assert "Denoising strength" not in values(init=file, vary=0.5)
    assert values(spacing="karras", eta=0.5).items() >= {"Schedule type": "Karras", "Eta DDIM": "0.5"}.items()
    assert values(branch=(line := 'step = 2, prompt = "a cat"',))["Branch 0"] == line
    both = values(control=file, control_kind="depth", control_scale=0.5, reference=file)
    assert both["ControlNet 0"] == "Module: depth, Weight: 0.5"
    assert both["ControlNet 1"] == "Module: reference, Weight: 0.8"


@pytest.mark.parametrize(
    "name", ["a, b", "a: b", 'the "best"', '"', 'C:\\new, "x"', "ä—中", " spaces ", "a\nb", "back\\"]
)
def test_a_value_may_contain_anything(name):
    text = infotext(REQUEST, name, HASH, 8, 8)
    assert parse(text)["Model"] == theirs(text)[1]["Model"] == name
    assert len(text.split("\n")) == 2


WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


@given(
    prompt=WORDS.filter(lambda text: not text.strip().startswith(NEGATIVE)),
    negative=WORDS,
    model=WORDS,
    sampler=st.sampled_from(sorted(SAMPLERS)),
    spacing=st.none() | st.sampled_from(SPACINGS),
    scale=st.floats(-1e4, 1e4),
    seed=st.integers(0, 2**64 - 1),
    size=st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
)
def test_the_text_is_read_back(prompt, negative, model, sampler, spacing, scale, seed, size):
    request = SampleRequest(
        prompt=(prompt,), negative=negative, steps=7, sampler=sampler, spacing=spacing, guidance_scale=scale, seed=seed
    )
    text = infotext(request, model, HASH, *size)
    values = parse(text)
    words = lambda text: " ".join(text.split())
    assert (values["Prompt"], values["Negative prompt"]) == (words(prompt), words(negative))
    assert (values["Seed"], values["Steps"]) == (str(seed), "7") and float(values["CFG scale"]) == scale
    assert (int(values["Size-1"]), int(values["Size-2"])) == size
    assert values.get("Model", "") == model or re.fullmatch(r"\d+x\d+", model)
    assert sampler_of(values["Sampler"], values.get("Schedule type", "Automatic")) == (sampler, spacing)


@given(st.text(st.sampled_from('ab:, "\\\n{}[]u0d8Steps')) | st.text())
def test_any_text_can_be_read(text):
    for value in parse(text).values():
        value.encode()


def test_reading_what_others_write():
    text = (
        "masterpiece, best quality: a dog\n  second line\nNegative prompt: ugly, (bad:1.2)\nblurry\n"
        "Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 5, Size: 512x768, Model hash: 45dee52b, "
        'Lora hashes: "a: 12, b: 34", Version: v1.6.0'
    )
    values = parse(text)
    assert values["Prompt"] == "masterpiece, best quality: a dog\nsecond line"
    assert values["Negative prompt"] == "ugly, (bad:1.2)\nblurry"
    assert values["Lora hashes"] == "a: 12, b: 34" and values["Version"] == "v1.6.0"
    assert (values["Size-1"], values["Size-2"]) == ("512", "768")
    assert sampler_of(values["Sampler"]) == ("dpm-solver", "karras")
    assert parse("just a prompt: with a colon, and more") == {
        "Prompt": "just a prompt: with a colon, and more",
        "Negative prompt": "",
    }
    assert parse("") == {"Prompt": "", "Negative prompt": ""}


def test_reading_takes_no_longer_than_the_text():
    """A regular expression would take minutes for these."""
    for piece in ("a", "a ", ":", '"', 'a:"', 'a:"\\",', "a:", ", ", "a: b,"):
        parse(piece * (1_000_000 // len(piece)))


def test_every_sampler_and_spacing_has_a_name():
    assert set(SAMPLERS) == set(OURS) and set(SCHEDULES) == set(SPACINGS)
    assert len(set(SAMPLERS.values())) == len(SAMPLERS)
    for ours, theirs in SAMPLERS.items():
        assert sampler_of(theirs) == sampler_of(ours) == sampler_of(theirs.upper(), "no such") == (ours, None)
        for spacing, schedule in SCHEDULES.items():
            assert sampler_of(theirs, schedule) == sampler_of(f"{theirs} {schedule}") == (ours, spacing)
            assert sampler_of(theirs, schedule.lower().replace(" ", "_")) == (ours, spacing)  # as their API names them
    assert sampler_of("Restart") is None and sampler_of("") is None
