"""Names of settings, options and parameters in earlier versions, and their present names and forms.

Idea: files are kept longer than the names in them.  This is the only file that knows the old names.  Code that reads a
file of an earlier version translates the names in it with these tables.  A command line is not translated: an old
option or an old backend name is an error, whose message gives the present name.
"""

import re
from collections.abc import Mapping
from typing import Any

# By the table of the file ("sample": the settings in a grid.png), the old name and the new name.
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "model": {
        "base": "model_channels",
        "multipliers": "channel_mult",
        "blocks": "num_res_blocks",
        "attention": "attention_at",
        "words_at": "cross_attention_at",
    },
    "network": {
        "base": "model_channels",
        "multipliers": "channel_mult",
        "blocks": "num_res_blocks",
        "attention": "attention_at",
        "words": "vocab_size",
        "length": "max_tokens",
        "words_at": "cross_attention_at",
    },
    "run": {"batch": "batch_size"},
    "sample": {"batch": "batch_size"},
    "diffusion": {"times": "num_timesteps", "draw_t": "timestep_sampling", "label_drop": "cond_dropout"},
}

# Setting to old value to new value.
VALUES: Mapping[str, Mapping[str, str]] = {"backend": {"numba-direct": "numba-gemm"}}

# By the table of the file, the settings that were one whole number and are a list of them now.
LISTS: Mapping[str, tuple[str, ...]] = {"data": ("size",)}

# Command-line options: those of the settings in three tables above.
OPTIONS: Mapping[str, str] = {
    f"--{old.replace('_', '-')}": f"--{new.replace('_', '-')}"
    for table in ("model", "diffusion", "run")
    for old, new in SETTINGS[table].items()
}

# Dotted names of parameters: a pattern for the whole old name, and the new name.
PARAMETERS = [
    (re.compile(pattern), new)
    for pattern, new in (
        (r"enter\.(\w+)", r"conv_in.\1"),
        (r"leave\.(\w+)", r"conv_out.\1"),
        (r"embedding\.first\.(\w+)", r"embedding.linear1.\1"),
        (r"embedding\.second\.(\w+)", r"embedding.linear2.\1"),
        (r"embedding\.label\.(\w+)", r"embedding.class_embedding.\1"),
        (r"sentence\.(\w+)", r"text_projection.\1"),
        (r"text\.word\.(\w+)", r"text.token_embedding.\1"),
        (r"text\.place", "text.position_embedding"),
        (r"text\.layers\.(\d+)\.first\.(\w+)", r"text.layers.\1.linear1.\2"),
        (r"text\.layers\.(\d+)\.second\.(\w+)", r"text.layers.\1.linear2.\2"),
        (r"(down|middle|up)\.(\d+)\.cross\.(.+)", r"\1.\2.cross_attention.\3"),
        (r"look\.(\w+)", r"hint_in.\1"),  # ControlNet
        (r"understand\.(\w+)", r"hint_out.\1"),
        (r"zeros\.(\d+)\.(\w+)", r"zero_convs.\1.\2"),
        (r"encoder\.mix\.(\w+)", r"encoder.linear1.\1"),  # IP-Adapter
        (r"encoder\.leave\.(\w+)", r"encoder.linear2.\1"),
        (r"looks\.(\d+)\.(\w)\.(\w+)", r"cross_attentions.\1.\2.\3"),
    )
]


def settings(values: Any) -> Any:
    """Translate the tables of settings, such as {"model": {"base": 8}, "data": {"size": 64}}.

    Names become those of today, and a number where a list is expected becomes a list of one.  Other values are returned
    unchanged.
    """
    if not isinstance(values, dict):
        return values
    return {name: _listed(_table(value, SETTINGS.get(name, {})), LISTS.get(name, ())) for name, value in values.items()}


def _table(value: Any, names: Mapping[str, str]) -> Any:
    """Translate the names of one table; an old name beside its new one stays, and is an unknown setting."""
    if not isinstance(value, dict):
        return value
    return {name if names.get(name) in value else names.get(name, name): inner for name, inner in value.items()}


def _listed(value: Any, lists: tuple[str, ...]) -> Any:
    """Make lists of the numbers that one table has under the names `lists`."""
    if not isinstance(value, dict):
        return value
    return {name: [inner] if name in lists and type(inner) is int else inner for name, inner in value.items()}


def parameter(name: str) -> str:
    """Return the present dotted name of a parameter."""
    for pattern, new in PARAMETERS:
        if match := pattern.fullmatch(name):
            return match.expand(new)
    return name
