"""Arrays that behave as CuPy's do where a mistake would hurt: they do not mix with NumPy's, and say when they leave.

On a GPU's backend, whatever minidiff hands from the host to the device or back must be said (`to_device`, `to_numpy`).
CuPy raises TypeError where it is not; these arrays do the same on a machine without a GPU.
While something is captured, nothing is computed: results hold NaN, and what would compute them joins a list.
"""

import operator

import numpy as np

ARITHMETIC = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift",
    "lt", "le", "gt", "ge", "eq", "ne",
)  # fmt: skip
IN_PLACE = ("iadd", "isub", "imul", "itruediv")


class DeviceArray:
    """A NumPy array that only other DeviceArrays, and numbers, may meet.

    leaves: how many arrays have been brought to the host, all together.
    """

    __array_ufunc__ = None  # NumPy's arrays ask this one, and are refused
    leaves = 0
    captured: list | None = None  # functions to be called by a replay

    def __init__(self, inside):
        self.inside = inside

    def set_inside(self, numbers):
        """Write all numbers."""
        self.inside[...] = numbers

    def get(self):
        """The numbers, on the host."""
        not_captured("a number leaves the device")
        DeviceArray.leaves += 1
        return self.inside.copy()

    @property
    def __cuda_array_interface__(self):
        return self.inside.__array_interface__

    def item(self):
        return self.get().item()

    def __array__(self, *_, **__):
        raise TypeError("a device's array does not become NumPy's without a word: use to_numpy")

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __bool__(self):
        return bool(self.get())

    def __len__(self):
        return len(self.inside)

    def __iter__(self):
        return (on_device(row) for row in self.inside)

    def __getitem__(self, key):
        return compute(operator.getitem, self, key)

    def __setitem__(self, key, value):
        change(operator.setitem, self, key, value)

    def __getattr__(self, name):
        if name == "inside":  # a copy that is being made
            raise AttributeError(name)
        found = getattr(self.inside, name)
        return called(getattr(np.ndarray, name), self) if callable(found) else on_device(found)

    def __neg__(self):
        return compute(operator.neg, self)

    def __abs__(self):
        return compute(abs, self)

    def __repr__(self):
        return f"DeviceArray({self.inside!r})"


def _operator(name, turned=False):
    function = getattr(operator, f"{name}_" if name in ("and", "or") else name)
    if name in IN_PLACE:
        return lambda a, b: change(function, a, b)
    if turned:
        return lambda a, b: compute(function, b, a)
    return lambda a, b: compute(function, a, b)


for _name in ARITHMETIC:
    setattr(DeviceArray, f"__{_name}__", _operator(_name))
    setattr(DeviceArray, f"__r{_name}__", _operator(_name, turned=True))
for _name in IN_PLACE:
    setattr(DeviceArray, f"__{_name}__", _operator(_name))


def on_device(value):
    """Results of NumPy as results of a device; also single numbers, which CuPy leaves on the device."""
    if isinstance(value, np.ndarray | np.generic):
        return DeviceArray(np.asarray(value))
    if isinstance(value, tuple | list) and any(isinstance(each, np.ndarray) for each in value):
        return type(value)(on_device(each) for each in value)
    return value


def on_host(value):
    """What NumPy is to compute with; TypeError for one of its own arrays, which a device would not take."""
    if isinstance(value, DeviceArray):
        return value.inside
    if isinstance(value, np.ndarray):
        raise TypeError(f"unsupported type {np.ndarray}: an array of the host meets the device's")
    if isinstance(value, tuple | list):
        return type(value)(on_host(each) for each in value)
    return value


def called(function, *first):
    return lambda *args, **kwargs: compute(function, *first, *args, **kwargs)


def compute(function, *args, **kwargs):
    """function(*args, **kwargs), of arrays of the device."""

    def numbers():
        return function(*on_host(args), **{name: on_host(value) for name, value in kwargs.items()})

    result = on_device(numbers())
    if DeviceArray.captured is not None:
        several = isinstance(result, tuple | list)
        for number, each in enumerate(result if several else [result]):
            view = any(np.may_share_memory(each.inside, a.inside) for a in args if isinstance(a, DeviceArray))
            if isinstance(each, DeviceArray) and not view:
                fill(each)
                DeviceArray.captured.append(
                    lambda into=each, number=number: into.set_inside(numbers()[number] if several else numbers())
                )
    return result


def change(function, changed, *args):
    """function(changed, *args), which changes its first argument; returns that."""
    call = lambda: function(changed.inside, *on_host(args))
    if DeviceArray.captured is None:
        call()
    else:
        on_host(args)  # refuses the host's
        DeviceArray.captured.append(call)
    return changed


def fill(array):
    """The numbers of an array that nothing has computed."""
    if array.inside.dtype.kind == "f" and array.inside.flags.writeable:
        array.inside[...] = np.nan


class NotInGraph(RuntimeError):
    """What CUDA refuses while something is captured."""


def not_captured(what):
    if DeviceArray.captured is not None:
        raise NotInGraph(f"while a graph is captured, {what}")


class Library:
    """NumPy's functions for such arrays: what stands for the module `cupy`."""

    ndarray = DeviceArray

    @staticmethod
    def asarray(array, dtype=None):
        """From the host to the device, or as it is."""
        if not isinstance(array, DeviceArray):
            not_captured("an array comes from the host")
        inside = array.inside if isinstance(array, DeviceArray) else np.array(array, dtype)
        return DeviceArray(np.asarray(inside, dtype))

    def __getattr__(self, name):
        found = getattr(np, name)
        return called(found) if callable(found) and not isinstance(found, type) else found


xp = Library()
