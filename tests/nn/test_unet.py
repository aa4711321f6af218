"""The denoiser: sizes, starts, structure, and the lines that bad shapes get."""

import numpy as np
import pytest

from minidiff import backend, ops
from minidiff.autograd import no_grad
from minidiff.errors import MinidiffError
from minidiff.nn import Linear, Module, UNet, UNetConfig, on_forward, sinusoidal
from minidiff.nn.unet import depth_to_space, space_to_depth
from tests.backends import RUN_HERE

TINY = dict(model_channels=8, channel_mult=(1, 2), attention_at=(), groups=4)


def images(config, n=2):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, config.height, config.width, config.channels)).astype(np.float32)
    return x, np.linspace(1, 900, n, dtype=np.float32)


@pytest.mark.parametrize("time", ["scale_shift", "add"])
@pytest.mark.parametrize(("height", "width", "channels"), [(8, 8, 1), (6, 10, 3), (2, 2, 1), (28, 28, 1)])
def test_any_size_that_the_levels_divide(network_backend, height, width, channels, time):
    config = UNetConfig(height, width, channels, time=time, **TINY)
    net = UNet(config).initialize(0)
    x, t = images(config)
    x = backend.to_device(x)
    y = net(x, t)
    assert y.shape == x.shape and y.dtype == np.float32
    assert not y.data.any()  # the last convolution starts at zero
    ops.mean(ops.square(y - x)).backward()
    assert np.abs(backend.to_numpy(net.conv_out.w.grad)).max() > 0


def test_a_size_that_does_not_fit_says_which_do():
    with pytest.raises(MinidiffError, match=r"3 levels need .* that 4 divides \(4, 8, 12, …\), got 30×32"):
        UNetConfig(30, 32, 3, channel_mult=(1, 2, 2), attention_at=())


def test_patches_are_stacked_and_unstacked():
    x = ops.as_tensor(np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3))
    stacked = space_to_depth(x, 2)
    assert stacked.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(stacked.data[1, 0, 2], x.data[1, 0:2, 4:6].ravel())
    np.testing.assert_array_equal(depth_to_space(stacked, 2).data, x.data)
    with pytest.raises(MinidiffError, match=r"2 levels of 2×2 patches need .* that 4 divides .* got 10×8"):
        UNetConfig(10, 8, 3, patch=2, **TINY)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (dict(attention_at=(9,)), r"attention_at: no level has height 9; the heights are \[32, 16, 8\]"),
        (dict(model_channels=0), "model_channels must be from 1 to 16384, got 0"),
        (dict(model_channels=7), "model_channels must be even and at least 4, got 7"),
        (dict(channel_mult=()), "channel_mult needs 1 to 13 entries, got 0"),
        (dict(channel_mult=(1,) * 10**5), "channel_mult needs 1 to 13 entries, got 100000"),
        (dict(channel_mult=(1, 0)), "channel_mult must be from 1 to 256, got 0"),
        (dict(height=1 << 40), "height must be from 1 to 4096, got 1099511627776"),
        (dict(text_layers=10**9), "text_layers must be from 0 to 64, got 1000000000"),
        (dict(heads=5), "5 heads do not divide the 128 channels"),
        (dict(classes=-1), "classes must be from 0 to 65536, got -1"),
        (dict(time="later"), "time must be scale_shift or add, got 'later'"),
    ],
)
def test_bad_shapes_are_one_line(wrong, line):
    with pytest.raises(MinidiffError, match=line) as error:
        UNetConfig(**wrong)
    assert "\n" not in str(error.value)


def test_wrong_images_are_refused():
    net = UNet(UNetConfig(8, 8, 1, **TINY)).initialize(0)
    with pytest.raises(ValueError, match=r"expected images of \(8, 8, 1\) .* got \(8, 8, 3\)"):
        net(np.zeros((1, 8, 8, 3), np.float32), np.zeros(1, np.float32))


def test_same_seed_same_network_other_seed_another():
    config = UNetConfig(8, 8, 1, **TINY)
    a, b, c = (UNet(config).initialize(seed).named_parameters() for seed in (0, 0, 1))
    for name in a:
        np.testing.assert_array_equal(a[name].data, b[name].data)
    assert any((a[name].data != c[name].data).any() for name in a)
    assert UNet(config).count_parameters() == sum(p.data.size for p in a.values())
    drawn = [p.data.ravel()[:8].tobytes() for p in a.values() if p.data.size >= 8 and p.data.ravel()[:8].std() > 0]
    assert len(drawn) > 10 and len(set(drawn)) == len(drawn)  # nor do two layers start alike


def moved(config, seed=0):
    """A network away from its zeros."""
    net = UNet(config).initialize(seed)
    rng = np.random.default_rng(1)
    for p in net.named_parameters().values():
        p.data += (0.1 * rng.standard_normal(p.shape)).astype(np.float32)
    return net


def test_labels_and_times_matter_and_no_label_is_the_last_row():
    config = UNetConfig(8, 8, 1, classes=3, **TINY)
    net = moved(config)
    x, t = images(config)
    with no_grad():
        y = net(x, t, net.condition(2, np.array([0, 1]))).data
        assert np.abs(net(x, t, net.condition(2, np.array([0, 2]))).data[1] - y[1]).max() > 1e-3
        np.testing.assert_allclose(net(x, t, net.condition(2, np.array([0, 2]))).data[0], y[0], atol=1e-6)
        assert np.abs(net(x, t + 100, net.condition(2, np.array([0, 1]))).data - y).max() > 1e-3
        np.testing.assert_array_equal(net(x, t).data, net(x, t, net.condition(2, np.array([3, 3]))).data)


def test_images_do_not_see_each_other():
    config = UNetConfig(8, 8, 1, **{**TINY, "attention_at": (4,), "heads": 2})
    net = moved(config)
    x, t = images(config, 3)
    with no_grad():
        together = net(x, t).data
        alone = net(x[1:2], t[1:2]).data
    # the same arithmetic in another order of summation: float32 rounding through some thirty layers
    np.testing.assert_allclose(together[1:2], alone, atol=2e-5 * np.abs(together).max())


def test_backends_agree_on_a_whole_network():
    config = UNetConfig(12, 8, 3, classes=2, **{**TINY, "attention_at": (12, 6), "heads": 2})
    x, t = images(config)
    with backend.using("numpy"):
        network, results = moved(config), []
    weights = {name: parameter.data for name, parameter in network.named_parameters().items()}
    for name in RUN_HERE:
        with backend.using(name), no_grad():
            for key, parameter in network.named_parameters().items():
                parameter.data = backend.to_device(weights[key])
            results.append(
                backend.to_numpy(network(backend.to_device(x), t, network.condition(2, np.array([0, 2]))).data)
            )
    for other in results[1:]:  # float32 on both sides; see BOUND_FLOAT32 in gradcheck.py
        np.testing.assert_allclose(other, results[0], atol=1e-4 * np.abs(results[0]).max())


def test_sinusoidal_is_what_the_paper_says():
    waves = sinusoidal(np.array([0.0, 3.0]), 8)
    np.testing.assert_allclose(waves[0], [0, 0, 0, 0, 1, 1, 1, 1], atol=1e-15)
    frequency = np.array([1, 10000 ** (-1 / 3), 10000 ** (-2 / 3), 1e-4])
    np.testing.assert_allclose(waves[1], np.concatenate([np.sin(3 * frequency), np.cos(3 * frequency)]), rtol=1e-12)


def test_watch_sees_modules_from_the_inside_out():
    class Two(Module):
        def __init__(self):
            self.first, self.second = Linear(2, 3), Linear(3, 1)

        def forward(self, x):
            return self.second(self.first(x))

    net = Two().initialize(0)
    names = {id(module): name for name, module in net.named_modules()}
    seen = []
    with on_forward(lambda module, out: seen.append((names[id(module)], out.shape))):
        net(ops.as_tensor(np.zeros((4, 2), np.float32)))
    assert seen == [("first", (4, 3)), ("second", (4, 1)), ("", (4, 1))]
    net(ops.as_tensor(np.zeros((4, 2), np.float32)))
    assert len(seen) == 3
