"""A user's mistake ends as one line: these helpers make one, check that, and return the line."""

from collections.abc import Callable
from typing import Any

import pytest

from minidiff.errors import MinidiffError


def of_call(function: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    """Call a function, expect a MinidiffError, and return its line."""
    with pytest.raises(MinidiffError) as caught:
        function(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def of_command(main: Callable[[list[str]], Any], capsys: Any, *words: object) -> str:
    """Run a command, expect exit code 2 and nothing but one line on stderr; return it without "error: "."""
    text = printed(main, capsys, *words).err
    assert text.startswith("error: ") and text.count("\n") == 1, text
    return text.removeprefix("error: ").rstrip("\n")


def printed(main: Callable[[list[str]], Any], capsys: Any, *words: object) -> Any:
    """Run a command, expect exit code 2, and return what it printed, (out, err)."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    assert caught.value.code == 2
    return capsys.readouterr()
