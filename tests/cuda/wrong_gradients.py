"""One number of a gradient too large by half, on any backend: what a checker of gradients must see."""

import dataclasses

from minidiff import backend, gradcheck

FAULTS = {  # of which function, and where
    "tap": ("conv2d_grad_w", (-1, -1, -1, -1)),
    "corner": ("conv2d_grad_x", (-1, -1, -1, -1)),
    "channel": ("conv2d_grad_b", (..., -1)),
    "sample": ("conv2d_grad_x", (-1,)),
}


def with_fault(monkeypatch, name, fault):
    """Let the backend of this name have the fault, or none, until the test ends, and check a small convolution only."""
    small = [case for case in gradcheck.cases() if case.name == "conv2d 3×3 stride 1"]
    monkeypatch.setattr(gradcheck, "cases", lambda: iter(small))
    if fault is None:
        return
    table = backend.get(name)
    function, where = FAULTS[fault]
    right = getattr(table, function)

    def wrong(*arguments):
        result = right(*arguments)
        result[where] = result[where] * 1.5
        return result

    planted = dataclasses.replace(table, **{function: wrong})
    monkeypatch.setitem(backend._BUILDERS, name, lambda: planted)
