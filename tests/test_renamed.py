"""Names of earlier versions are translated, and names of today stay as they are."""

import pytest

from minidiff import renamed
from minidiff.nn import UNet, UNetConfig

CAPTIONED = UNetConfig(
    8, 8, 3, model_channels=8, channel_mult=(1, 2), attention_at=(4,), heads=2, groups=4, vocab_size=7, max_tokens=4,
    text_width=8, text_layers=1, cross_attention_at=(8, 4),
)  # fmt: skip


@pytest.mark.parametrize(
    ("before", "today"),
    [
        ("enter.w", "conv_in.w"),
        ("down.0.cross.q.w", "down.0.cross_attention.q.w"),
        ("middle.1.cross.norm.gain", "middle.1.cross_attention.norm.gain"),
        ("text.place", "text.position_embedding"),
        ("looks.3.k.b", "cross_attentions.3.k.b"),
    ],
)
def test_parameters_of_earlier_versions(before, today):
    assert renamed.parameter(before) == today


def test_parameters_of_today_are_not_translated():
    names = UNet(CAPTIONED).named_parameters()
    assert any(".cross_attention." in name for name in names)
    assert [renamed.parameter(name) for name in names] == list(names)


def test_an_old_name_beside_its_new_one_is_not_translated():
    """Neither may win: the file is refused, as any unknown setting is."""
    both = {"run": {"batch": 5, "batch_size": 3}}
    assert renamed.settings(both) == both
    assert renamed.settings({"run": {"batch": 5}}) == {"run": {"batch_size": 5}}


def test_a_number_becomes_the_list_that_it_is_today():
    assert renamed.settings({"data": {"size": 64, "grey": 1}, "run": {"size": 3}}) == {
        "data": {"size": [64], "grey": 1},
        "run": {"size": 3},
    }
    for today in ({"data": {"size": [64, 96]}}, {"data": {"size": True}}, {"data": "its digest"}):
        assert renamed.settings(today) == today
