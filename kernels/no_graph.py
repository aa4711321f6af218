"""The functions of graph.py for a backend that captures nothing."""

from collections.abc import Callable
from typing import Any

capture = Graph = None


def traced(array: Any) -> Any:
    """Return the array."""
    return array


plain = traced


def perform(function: Callable, *arguments: Any) -> None:
    """Call a function."""
    function(*arguments)
