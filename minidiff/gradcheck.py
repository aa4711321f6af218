"""Checks of every gradient: of each operation, each layer, and whole small networks.

    python -m minidiff.gradcheck [--backend numba]

Idea: a gradient g predicts that a step h d changes the value f by h (g . d).  The central difference
(f(x + h d) - f(x - h d)) / 2h measures that change per h.  No entry of the random direction d is small, so that a
single wrong entry of g shows.  The float64 gradients of the NumPy backend are compared with such differences, one input
at a time.  The float32 gradients of another backend are compared with those of NumPy, entry by entry.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minidiff import backend, command_line, ops
from minidiff.autograd import Tensor, no_grad
from minidiff.errors import MinidiffError, exit_with_one_line, one_line
from minidiff.latent.reconstruction import reconstruction_loss
from minidiff.nn import (
    Conv2d,
    DiT,
    DiTConfig,
    Embedding,
    GroupNorm,
    Linear,
    Module,
    ResidualBlock,
    SelfAttention,
    TimeEmbedding,
    UNet,
    UNetConfig,
)
from minidiff.nn.autoencoder import Autoencoder, AutoencoderConfig

# With h = 1e-5 the difference quotient is off by about h² from curvature and 1e-16 / h from rounding: some 1e-9 of the
# gradient's norm, more where the function is much larger than its gradient: in the U-Nets up to 2e-7.  One entry of
# ten thousand that is wrong by half of itself is off by 5e-3.
BOUND_FLOAT64 = 1e-6
# float32 carries 6e-8; sums over some hundred terms, through some ten layers, leave about 1e-5.
BOUND_FLOAT32 = 1e-4
STEP = 1e-5


@dataclass(frozen=True)
class Case:
    """A differentiable function: function() computes a Tensor of any shape from `inputs`, which are float64 leaves."""

    name: str
    function: Callable[[], Tensor]
    inputs: dict[str, Tensor]

    def gradients(self, dtype: Any) -> dict[str, np.ndarray]:
        """Return the gradient of every input, computed in the given dtype, on the host."""
        xp = backend.current().xp
        exact = {name: tensor.data for name, tensor in self.inputs.items()}
        for name, tensor in self.inputs.items():
            tensor.data, tensor.grad = xp.asarray(exact[name], dtype=dtype), None
        y = self.function()
        ops.sum(y * Tensor(xp.asarray(self._cotangent(y), dtype=dtype))).backward()
        found = {name: backend.to_numpy(tensor.grad).astype(np.float64) for name, tensor in self.inputs.items()}
        for name, tensor in self.inputs.items():
            tensor.data, tensor.grad = exact[name], None
        return found

    def value(self) -> float:
        """Return the number that `gradients` differentiates: the sum of all outputs with fixed random weights."""
        with no_grad():
            y = self.function()
        return float((y.data * self._cotangent(y)).sum())

    @staticmethod
    def _cotangent(y: Tensor) -> np.ndarray:
        return np.random.default_rng(1).standard_normal(y.shape)


def cases() -> Iterator[Case]:
    """Yield a case for everything that has a gradient, with small odd sizes."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape)

    yield _operation("add", ops.add, a=draw(3, 5), b=draw(5))
    yield _operation("sub", ops.sub, a=draw(5), b=draw(3, 5))
    yield _operation("mul", ops.mul, a=draw(3, 5), b=draw(3, 1))
    yield _operation("div", ops.div, a=draw(3, 5), b=2 + np.abs(draw(5)))
    yield _operation("neg", ops.neg, x=draw(3, 5))
    yield _operation("square", ops.square, x=draw(3, 5))
    yield _operation("exp", ops.exp, x=draw(3, 5))
    yield _operation("abs", ops.abs, x=draw(3, 5))
    yield _operation("matmul", ops.matmul, a=draw(2, 3, 5), b=draw(5, 4))
    yield _operation("sum", lambda x: ops.sum(x, 1), x=draw(3, 4, 2))
    yield _operation("mean", lambda x: ops.mean(x, (1, 2)), x=draw(3, 4, 2))
    yield _operation("reshape", lambda x: ops.reshape(x, (5, 3)), x=draw(3, 5))
    yield _operation("transpose", lambda x: ops.transpose(x, (2, 0, 1)), x=draw(3, 4, 2))
    yield _operation("concat", ops.concat, x=draw(2, 3), y=draw(2, 4))
    yield _operation("pad", lambda x: ops.pad(x, 1, 2), x=draw(2, 3, 4, 2))
    yield _operation("index", lambda x: x[:, 1:, :-2, 1], x=draw(2, 3, 4, 2))
    yield _operation("silu", ops.silu, x=3 * draw(3, 5))
    yield _operation("linear", ops.linear, x=draw(2, 3, 5), w=draw(5, 4), b=draw(4))
    for kernel, stride in ((3, 1), (3, 2), (1, 1), (1, 2)):
        convolve = lambda x, w, b, stride=stride: ops.conv2d(x, w, b, stride)
        w = draw(kernel, kernel, 3, 4)
        yield _operation(f"conv2d {kernel}×{kernel} stride {stride}", convolve, x=draw(2, 7, 5, 3), w=w, b=draw(4))
    for upsample, x in ((False, draw(2, 13, 9, 9)), (True, draw(2, 6, 5, 9))):  # Winograd's way on the CPU
        convolve = lambda x, w, b, upsample=upsample: ops.conv2d(x, w, b, 1, upsample)
        yield _operation(
            f"conv2d 9 to 17 channels{', upsampled' * upsample}", convolve, x=x, w=draw(3, 3, 9, 17), b=draw(17)
        )
    for silu in (False, True):
        for shape in ((6,), (2, 6)):
            normalise = lambda x, scale, shift, silu=silu: ops.group_norm(x, scale, shift, 3, 1e-5, silu)
            name = f"group_norm{' + SiLU' if silu else ''}, {'one scale' if len(shape) == 1 else 'scale an image'}"
            yield _operation(name, normalise, x=draw(2, 3, 5, 6), scale=draw(*shape), shift=draw(*shape))
    fused = lambda x, scale, shift, w, b, add: ops.norm_silu_conv2d(x, scale, shift, 3, 1e-5, w, b, add)
    for size, width in ((3, 6), (12, 9)):
        w, image = draw(3, 3, width, 2 * width), draw(2, size, 12, width)
        scale, shift, b = draw(2, width), draw(width), draw(2, 2 * width)
        add = draw(2, size, 12, 2 * width)
        name = f"norm_silu_conv2d, {width} channels"
        yield _operation(name, fused, x=image, scale=scale, shift=shift, w=w, b=b, add=add)
    attend = lambda q, k, v: ops.attention(q, k, v, 2)
    yield _operation("attention", attend, q=draw(2, 5, 6), k=draw(2, 7, 6), v=draw(2, 7, 6))
    index = np.array([2, 0, 2])
    yield _operation("embedding", lambda table: ops.embedding(table, index), table=draw(4, 3))
    yield _operation("cross_entropy", lambda logits: ops.cross_entropy(logits, index), logits=draw(3, 4))

    image, vector = draw(2, 6, 4, 8), draw(2, 16)
    t, labels = np.array([3.0, 500.0], np.float32), np.array([1, 3])
    small = UNetConfig(
        16, 8, 3, patch=2, model_channels=8, channel_mult=(1, 2), attention_at=(4,), heads=2, groups=4, classes=3
    )
    yield _layer("Linear", Linear(8, 5), rng, image)
    yield _layer("Conv2d", Conv2d(8, 5), rng, image)
    yield _layer("Conv2d stride 2", Conv2d(8, 5, stride=2), rng, image)
    yield _layer("GroupNorm", GroupNorm(4, 8, silu=True), rng, image, draw(2, 8), draw(2, 8))
    table = Embedding(4, 3)
    yield _layer("Embedding", table, rng, call=lambda: table(index))
    yield _layer("SelfAttention", SelfAttention(8, 2, 4), rng, image)
    embedding = TimeEmbedding(8, 3)
    yield _layer("TimeEmbedding", embedding, rng, call=lambda: embedding(t, embedding.class_embedding(labels)))
    yield _layer("ResidualBlock, scale and shift", ResidualBlock(8, 12, 16, 4), rng, image, vector)
    yield _layer("ResidualBlock, addition", ResidualBlock(8, 8, 16, 4, "add"), rng, image, vector)
    yield _layer("ResidualBlock, no embedding", ResidualBlock(8, 12, 0, 4), rng, image)
    pair = AutoencoderConfig(8, 12, 3, 2, 2, (8, 8), (8, 8), (0, 1), (1, 0), 4)
    coder = Autoencoder(pair)
    loss = lambda x, eps: reconstruction_loss(coder, x, eps, 0.5, 0.25, 0.1)
    yield _layer("Autoencoder, its loss", coder, rng, draw(2, 8, 12, 3), draw(2, *pair.latent_shape), call=loss)
    unet = UNet(small)
    yield _layer("U-Net", unet, rng, draw(2, 16, 8, 3), call=lambda x: unet(x, t, unet.condition(2, labels)))
    reading = replace(
        small, classes=0, vocab_size=5, max_tokens=3, text_width=8, text_layers=1, cross_attention_at=(4,)
    )
    captions = np.array([[2, 4, 0], [0, 0, 0]])  # two words, and none
    text = UNet(reading)
    yield _layer(
        "U-Net with words", text, rng, draw(2, 16, 8, 3), call=lambda x: text(x, t, text.condition(2, captions))
    )
    patches = DiTConfig(8, 12, 3, patch=4, hidden_size=16, num_layers=2, heads=2, classes=3)
    dit = DiT(patches)
    yield _layer("Transformer", dit, rng, draw(2, 8, 12, 3), call=lambda x: dit(x, t, dit.condition(2, labels)))
    reader = DiT(replace(patches, num_layers=1, classes=0, vocab_size=5, max_tokens=3, text_width=8, text_layers=1))
    yield _layer(
        "Transformer with words",
        reader,
        rng,
        draw(2, 8, 12, 3),
        call=lambda x: reader(x, t, reader.condition(2, captions)),
    )


def _operation(name: str, function: Callable[..., Tensor], **arrays: np.ndarray) -> Case:
    inputs = {key: Tensor(array, requires_grad=True) for key, array in arrays.items()}
    return Case(name, lambda: function(*inputs.values()), inputs)


def _layer(name: str, layer: Module, rng: Any, *arrays: np.ndarray, call: Callable[..., Tensor] | None = None) -> Case:
    """A layer as a function of its inputs and parameters; parameters that start at zero get random values here."""
    inputs = {f"input {i}": Tensor(array, requires_grad=True) for i, array in enumerate(arrays)}
    parameters = layer.named_parameters()
    for parameter in parameters.values():
        parameter.data = parameter.initial_mean + (parameter.std or 0.3) * rng.standard_normal(parameter.planned_shape)
    return Case(name, lambda: (call or layer)(*inputs.values()), {**inputs, **parameters})


def largest_error(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """Return the largest difference over all inputs, relative to the largest expected gradient of that input.

    Some gradients are exactly zero in theory, such as that of a bias on the keys of attention.  Their differences are
    relative to a thousandth of the largest gradient of the case.
    """
    floor = 1e-3 * max(np.abs(gradient).max() for gradient in expected.values())
    errors = [np.abs(found[key] - expected[key]).max() / max(np.abs(expected[key]).max(), floor) for key in expected]
    return float(np.max(errors))  # np.max, because max() would let a NaN pass


def error_along_directions(case: Case, gradients: dict[str, np.ndarray], together: bool) -> float:
    """Return the largest error of the gradients of a case along random directions, by central differences in float64.

    together: change all inputs at once, which needs fewer evaluations, instead of one input at a time.
    The error is relative to the norm of the gradient g: g . d varies by about so much over random d.  For gradients
    that are zero in theory it is relative to a thousandth of the largest norm of the case.
    """
    rng, errors = np.random.default_rng(2), []
    norms = {name: float(np.linalg.norm(gradient)) for name, gradient in gradients.items()}
    exact = {name: tensor.data for name, tensor in case.inputs.items()}
    for changed in [list(exact)] if together else [[name] for name in exact]:
        size = max(float(np.linalg.norm([norms[name] for name in changed])), 1e-3 * max(norms.values()))
        d = {name: _direction(rng, exact[name].shape) for name in changed}
        values = []
        for step in (STEP, -STEP):
            for name in changed:
                case.inputs[name].data = exact[name] + step * d[name]
            values.append(case.value())
        for name in changed:
            case.inputs[name].data = exact[name]
        predicted = sum(float((gradients[name] * d[name]).sum()) for name in changed)
        errors.append(abs(predicted - (values[0] - values[1]) / (2 * STEP)) / size)
    return float(np.max(errors))


def _direction(rng: Any, shape: tuple[int, ...]) -> np.ndarray:
    return rng.choice((-1.0, 1.0), shape) * rng.uniform(0.5, 1.5, shape)


def check(case: Case, name: str) -> tuple[float, bool]:
    """Return the error of the gradients of a case on a backend, and whether it is within the bound.

    The gradients of NumPy are compared with central differences.  Those of another backend are compared with NumPy's,
    entry by entry; NumPy's are then checked too, since the rule in ops.py may be wrong for all backends alike.
    """
    with backend.using("numpy"):
        exact = case.gradients(np.float64)
        error = error_along_directions(case, exact, together=name != "numpy")
    if name == "numpy" or not error <= BOUND_FLOAT64:
        return error, error <= BOUND_FLOAT64
    with backend.using(name):
        error = largest_error(case.gradients(np.float32), exact)
    return error, error <= BOUND_FLOAT32


def run(name: str) -> bool:
    """Check all cases on one backend, print a line for each, and return whether all gradients are right."""
    name = backend.get(name).name
    bound = BOUND_FLOAT64 if name == "numpy" else BOUND_FLOAT32
    against = "central differences" if name == "numpy" else "NumPy in float64"
    print(f"backend {name}: gradients against {against}; largest relative error, at most {bound:.0e} is right\n")
    wrong = []
    for case in cases():
        error, right = check(case, name)
        if not right:
            wrong.append(case.name)
        print(f"  {case.name:42s} {error:9.1e}  {'right' if right else 'WRONG'}")
    print(f"\n{'all gradients are right' if not wrong else 'WRONG: ' + ', '.join(wrong)}")
    return not wrong


@dataclass(frozen=True)
class GradcheckConfig:
    """Check every gradient of minidiff: each operation, each layer, and whole small networks."""

    backend: str = "all"
    """Which backend: numpy, numba, numba-gemm, cupy, numba-cuda, or all that run here."""
    threads: int | None = None
    """CPU threads that compute, for numpy those of its BLAS. Default: all that this process may use."""


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """The command; exits with 1 if a gradient is wrong."""
    asked = command_line.read(GradcheckConfig, "gradcheck", sys.argv[1:] if arguments is None else arguments)
    chosen = asked.backend
    if chosen not in ("all", "auto", *backend.names(), *backend.RENAMED):
        raise MinidiffError(f"--backend: expected all, auto or one of {', '.join(backend.names())}; got {chosen!r}")
    backend.on_compile(lambda line: print(line, file=sys.stderr))
    right = []
    for name in backend.names() if chosen == "all" else [chosen]:
        try:
            used = backend.use(name, asked.threads)
        except MinidiffError as error:
            if chosen != "all":
                raise
            print(f"left out: {one_line(error)}\n")
            continue
        right.append(run(used.name))
    if not all(right):
        sys.exit(1)


if __name__ == "__main__":
    main()
