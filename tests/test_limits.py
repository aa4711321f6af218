"""One table says how large numbers from files and options may be."""

import math

import pytest

from minidiff.errors import MinidiffError
from minidiff.limits import LIMITS, check_limits


@pytest.mark.parametrize("name", LIMITS)
def test_every_row_refuses_what_no_setting_can_be(name):
    row = LIMITS[name]
    for value in (math.nan, -math.inf, -(10**400)):
        with pytest.raises(MinidiffError, match=f"^{name} must be .*, got "):
            check_limits({name: value})
    for value in [math.inf, 10**400, 10**5000] * (row.most < math.inf):
        with pytest.raises(MinidiffError, match=f"^{name} must be .*, got "):
            check_limits({name: value})
    check_limits({name: row.most if not row.below else row.least})


@pytest.mark.parametrize(
    "name, value, text",
    [
        ("num_res_blocks", 0, "--num-res-blocks must be from 1 to 256, got 0"),
        ("beta1", 1.0, "--beta1 must be from 0 to below 1, got 1.0"),
        ("lr", 0.0, "--lr must be above 0, at most 1e+12, got 0.0"),
        ("clip", 0, "--clip must be above 0, got 0"),
        ("seed", -1, "--seed must be from 0 to 2^64 - 1, got -1"),
        ("cross_attention_at", (8, 0), "--cross-attention-at must be from 1 to 4096, got 0"),
    ],
)
def test_the_message_names_the_option_what_it_may_be_and_what_came(name, value, text):
    with pytest.raises(MinidiffError) as caught:
        check_limits({name: value}, "--{}")
    assert str(caught.value) == text


def test_what_is_no_number_and_what_the_table_lacks_pass():
    check_limits({"num_res_blocks": None, "schedule": "cosine", "no_such_name": -1})
