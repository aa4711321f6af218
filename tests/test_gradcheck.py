"""The checker says what is right, and catches what is wrong."""

import dataclasses

import numpy as np
import pytest

from minidiff import backend, gradcheck, ops
from minidiff.autograd import record
from tests.backends import RUN_HERE
from tests.cuda.wrong_gradients import FAULTS, with_fault


@pytest.fixture(autouse=True)
def own_backend(monkeypatch):
    """The command selects a backend for its whole process, which here is the tests'."""
    monkeypatch.setattr(backend, "_stack", [])


@pytest.mark.parametrize("name", RUN_HERE)
def test_every_gradient_is_right(name, capsys):
    assert gradcheck.run(name)
    out = capsys.readouterr().out
    assert "U-Net" in out and "WRONG" not in out


EVERY = list(gradcheck.cases())


def few(*names):
    return [case for case in EVERY if case.name in names]


def test_a_wrong_formula_is_caught(monkeypatch, capsys):
    x = few("square")[0].inputs["x"]
    wrong = lambda: record(x.data * x.data, (x,), lambda gy: (2.01 * gy * x.data,))
    planted = gradcheck.Case("planted", wrong, {"x": x})
    chosen = [*few("add"), planted]
    monkeypatch.setattr(gradcheck, "cases", lambda: iter(chosen))
    with pytest.raises(SystemExit) as stop:
        gradcheck.main(["--backend", "numpy"])
    assert stop.value.code == 1
    assert "\nWRONG: planted\n" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["conv2d_grad_w", "conv2d_grad_x"])
def test_a_wrong_kernel_is_caught(monkeypatch, capsys, wrong):
    """One gradient of one kernel off by 0.1%, in one backend: the convolutions fail, and only what holds them."""
    table = backend.get("numba")
    right = getattr(table, wrong)
    planted = dataclasses.replace(table, **{wrong: lambda *arguments: right(*arguments) * 1.001})
    monkeypatch.setitem(backend._BUILDERS, "numba", lambda: planted)
    chosen = few("silu", "conv2d 3×3 stride 1", "Conv2d")
    monkeypatch.setattr(gradcheck, "cases", lambda: iter(chosen))
    with pytest.raises(SystemExit) as stop:
        gradcheck.main(["--backend", "numba"])
    assert stop.value.code == 1
    assert "WRONG: conv2d 3×3 stride 1, Conv2d" in capsys.readouterr().out


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", RUN_HERE)
def test_one_wrong_number_is_caught(monkeypatch, name, fault):
    """A tap of a filter, a corner of an image, a channel, a sample: each too large by half, all else right."""
    with_fault(monkeypatch, name, fault)
    assert not gradcheck.run(name)


@pytest.mark.parametrize("name", RUN_HERE)
@pytest.mark.parametrize("wrong", ["w", "x"])
def test_a_rule_that_is_wrong_on_every_backend_is_caught(monkeypatch, name, wrong):
    """The tape, not a kernel: then NumPy's gradients are as wrong as the backend's."""
    (case,) = few("conv2d 3×3 stride 1")
    tensor = case.inputs[wrong]

    def planted():
        y = case.function()
        entry = np.zeros(tensor.shape)
        entry[(-1,) * 4] = 0.5
        add = lambda gy: (gy, backend.to_device(entry.astype(gy.dtype)) * gy.sum())
        return record(y.data, (y, tensor), add)

    monkeypatch.setattr(gradcheck, "cases", lambda: iter([gradcheck.Case("planted", planted, case.inputs)]))
    assert not gradcheck.run(name)


def test_a_nan_is_wrong(monkeypatch, capsys):
    tensor = few("square")[0].inputs["x"]
    broken = gradcheck.Case("nan", lambda: ops.square(tensor) * float("nan"), {"x": tensor})
    monkeypatch.setattr(gradcheck, "cases", lambda: iter([broken]))
    assert not gradcheck.run("numpy")


def test_an_unknown_backend_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        gradcheck.main(["--backend", "gpu"])
    assert stop.value.code == 2
    assert (
        capsys.readouterr().err
        == "error: --backend: expected all, auto or one of numpy, numba, numba-gemm, cupy, numba-cuda; got 'gpu'\n"
    )
