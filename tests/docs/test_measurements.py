"""A measured number stands in one file, and every text says what that file says."""

import re
import runpy
from pathlib import Path

import pytest

from benchmarks.peers.problems import DEFAULT, PLAIN
from minidiff.checkpoint.build import network_config
from minidiff.checkpoint.config import ModelConfig
from minidiff.nn import UNet, UNetConfig
from minidiff.scenes.captions import TOKENIZER

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

# What is shown as it is, and says measured numbers: the sentences, or parts of sentences, that hold them.
SAID = {
    "README.md": """
        {{ weights128.text.mb }} MB, trained from scratch in {{ weights128.minutes.drawing }} minutes
        Sixteen images take about {{ drawing.warm }}.
        compiles the kernels and takes {{ drawing.compiling }} more
        take {{ drawing_slow.warm }}
        they find {{ short shipped.facts.seen }} of it
        for some other prompt contains {{ shipped.facts.seen_floor }} of it by chance
        they find {{ short shipped.facts.unseen }}, by chance {{ shipped.facts.unseen_floor }}
        it is {{ short twenty.facts.seen }} and {{ short twenty.facts.unseen }}
        | training step, plain U-Net | {{ peers.plain.ratio }} | {{ peers.plain.ratio_bfloat16 }} |
        | {{ peers.default.ratio }} | {{ peers.default.ratio_bfloat16 }} |
        | drawing, plain U-Net | {{ peers.sample.ratio }} | {{ peers.sample.ratio_bfloat16 }} |
        1 or 3 channels run at {{ peers.lowest.ends }} times PyTorch's speed
        takes {{ peers.cold.ours }}, PyTorch's {{ short peers.cold.float32 }}""",
    "benchmarks/README.md": """
        `step/plain` ({{ networks.plain }} weights
        {{ same_minutes.compiled.steps }} steps in place of {{ same_minutes.steps.torch }}
        by up to {{ same_minutes.compiled.off }} instead of {{ same_minutes.eager.off }} of the largest
        was {{ same_minutes.loss_after_150.compiled }} compiled
        {{ same_minutes.loss_after_150.eager }} not compiled
        and {{ same_minutes.loss_after_150.ours }} with ours""",
    "kernels/README.md": """
        takes {{ peers.cold.ours }} on two cores""",
}
WITH_UNIT = re.compile(
    r"\d[\d.,]*\s?(?:%|°|(?:ms|s|ns|MB|MiB|GB|times|minutes|million|seconds)\b)|\d[\d.,]* GFLOP|±\s?\d"
)
CHOSEN = (  # numbers with a unit that somebody chose or counted: nothing measures them
    "8 MiB, takes",
    "An array of 8 MiB",
    "about ±1 for",
    "5.76 times fewer multiplications",
    "at least 97% of the real renders",
    "Intervals are 95%",
    "in 8.5 minutes",
    "in 5 minutes",
    "Fashion-MNIST, 3 minutes",
    "CIFAR-10, 4 minutes",
    "35.7 million weights, here random",
    "in this way in the 1960s",
    "less than 50 ms",
    "a pause of 30 ms",
    "97% of what is left is planned",
    "After 15 seconds without",
    "draws a preview for ten seconds",
    "it would be within 90°, as they are up to 180° apart",
    "more than about 80 ms takes",
    "4 KiB to 4 MiB",
    "24 times as many numbers as its latents",
)


def prose(path: Path) -> str:
    """The text of a page in one line, without programs, formulas and what stands for a number."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$", "", text, flags=re.DOTALL)
    return " ".join(re.sub(r"\{\{ [^}]* \}\}", "", text).split())


def said(measured, page: str) -> list[str]:
    return [measured.fill(line.strip()) for line in SAID[page].strip().splitlines()]


@pytest.mark.parametrize("page", SAID)
def test_a_page_that_spells_numbers_out_says_those_of_the_file(page, measured):
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    for sentence in said(measured, page):
        assert sentence in text, f"{page} does not say what docs/measurements.toml says: {sentence}"


@pytest.mark.parametrize("page", [*SAID, *(f"docs/{path.name}" for path in sorted(DOCS.glob("*.md")))])
def test_no_page_says_a_measured_number_that_the_file_does_not_know(page, measured):
    text = prose(ROOT / page)
    for known in [*CHOSEN, *(said(measured, page) if page in SAID else ())]:
        text = text.replace(known, "")
    assert WITH_UNIT.findall(text) == [], f"{page}: give this number a name in docs/measurements.toml"


def test_every_number_is_said_somewhere_and_has_a_machine_and_a_command(measured):
    texts = [path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")] + list(SAID.values())
    used = {name for text in texts for name in re.findall(r"\{\{ (?:short )?([\w.]+) \}\}", text)}
    assert used == measured.names()
    tables = measured.tables()
    for name, table in tables.items():
        if name != "machines":
            assert table["machine"] in tables["machines"] and table["command"], name


def test_what_stands_behind_a_value_can_be_left_out(measured, monkeypatch):
    numbers = {"a": "99.1% (98.8 to 99.4 of 3,794)", "b": "456 ± 4 ms", "c": "0.64 ± 0.08", "d": "2.15"}
    monkeypatch.setattr(measured, "tables", lambda: {"one": numbers})
    text = "{{ one.a }} {{ short one.a }} {{ short one.b }} {{ short one.c }} {{ short one.d }}"
    assert measured.fill(text) == "99.1% (98.8 to 99.4 of 3,794) 99.1% 456 ms 0.64 2.15"
    with pytest.raises(KeyError, match=r"no number one\.e"):
        measured.fill("{{ one.e }}")


def test_the_networks_have_as_many_weights_as_the_file_says(measured):
    def weights(config: UNetConfig) -> str:
        return f"{UNet(config).count_parameters() / 1e6:.2f} million"

    def default(model: ModelConfig) -> str:
        return weights(network_config(model, 32, 32, 3, tokenizer=TOKENIZER))

    one_file = runpy.run_path(str(DOCS / "chapter2" / "mini.py"))["UNet"]()
    numbers = {name: number for name, number in measured.tables()["networks"].items() if name not in measured.ABOUT}
    assert numbers == {
        "labels": weights(DEFAULT.config),
        "captions": default(ModelConfig()),
        "text_layers": default(ModelConfig(text_layers=2)),
        "plain": weights(PLAIN.config),
        "mini": f"{sum(weight.value.size for weight in one_file.weights) / 1e6:.2f} million",
    }
