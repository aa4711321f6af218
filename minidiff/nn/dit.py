"""The diffusion transformer (DiT): a denoiser without convolutions, whose layers are those of a language model.

Idea: the image is cut into square patches, and each becomes one vector, a token.  In every block the tokens exchange
information by self-attention, then a small network processes each token by itself.  Attention does not know where a
token is, so a vector of sines and cosines that tells its row and its column is added first.  The timestep and the
condition enter every block through its normalisations (adaptive layer normalisation, adaLN), and decide by a gate how
much the block adds.  The gates start at zero, so that each block starts as the identity.

From top to bottom: three functions, the block, and the network.
Leaves out ControlNet and IP-Adapter, which are made for the U-Net.
Source: Peebles and Xie 2022, arXiv:2212.09748, section 3.2; where captions enter is as in Chen et al. 2023,
arXiv:2310.00426, section 2.3.
"""

from typing import Any

from minidiff import backend, ops
from minidiff.autograd import Tensor
from minidiff.nn.conditioning import Conditioning
from minidiff.nn.cross_attention import CrossAttention
from minidiff.nn.denoiser import Denoiser
from minidiff.nn.dit_config import DiTConfig
from minidiff.nn.embedding import TimeEmbedding, sinusoidal
from minidiff.nn.layers import Linear
from minidiff.nn.module import Module
from minidiff.nn.text import LayerNorm
from minidiff.nn.unet import depth_to_space, space_to_depth

MLP_RATIO = 4  # of the small network: its hidden layer is so many times as wide as a token


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (1 + scale) + shift.  x: (N, h, w, D).  shift, scale: (N, 1, 1, D), the same for all patches of an image."""
    return x * (scale + 1.0) + shift


def vectors(x: Tensor, count: int) -> list[Tensor]:
    """Cut each row into `count` vectors: (N, count D) to so many Tensors (N, 1, 1, D)."""
    n, length = x.shape
    parts = ops.reshape(x, (n, count, 1, 1, length // count))
    return [parts[:, i] for i in range(count)]


def positions(height: int, width: int, size: int, dtype: Any) -> Any:
    """Return a vector for each place of a grid: (height, width, size).

    Sines and cosines of the row fill its first half, those of the column the second.  size: a number that 4 divides, 8
    or more.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5, in two dimensions.
    """
    xp = backend.current().xp
    rows, columns = (sinusoidal(xp.arange(n, dtype=dtype), size // 2) for n in (height, width))
    shape = (height, width, size // 2)
    return xp.concatenate([xp.broadcast_to(rows[:, None], shape), xp.broadcast_to(columns[None], shape)], axis=2)


class DiTBlock(Module):
    """Self-attention between all patches, then a two-layer network for each patch: (N, h, w, D) to the same shape.

        x <- x + gate1 attention(modulate(norm1(x), shift1, scale1))
        x <- cross_attention(x, words)                                   for networks that read captions
        x <- x + gate2 mlp(modulate(norm2(x), shift2, scale2))

    Shifts, scales and gates are a linear function of the embedding of timestep and condition (N, D), whose weights
    start at zero: adaLN-zero.  The layers before a gate must not start at zero as well, or neither would ever learn.
    text_width: length of a word's vector, 0 without captions.
    As everywhere here, and unlike in the paper, norms have a gain and a bias of their own, and the activation is SiLU.
    """

    def __init__(self, size: int, heads: int, text_width: int = 0) -> None:
        self.heads = heads
        self.modulation = Linear(size, 6 * size, zero=True)
        self.norm1 = LayerNorm(size)
        self.q, self.k, self.v = (Linear(size, size) for _ in range(3))
        self.out = Linear(size, size)
        self.cross_attention = CrossAttention(size, text_width, heads, groups=1) if text_width else None
        self.norm2 = LayerNorm(size)
        self.linear1 = Linear(size, MLP_RATIO * size)
        self.linear2 = Linear(MLP_RATIO * size, size)

    def forward(self, x: Tensor, emb: Tensor, cond: Conditioning) -> Tensor:
        n, h, w, size = x.shape
        shift1, scale1, gate1, shift2, scale2, gate2 = vectors(self.modulation(emb), 6)
        tokens = ops.reshape(modulate(self.norm1(x), shift1, scale1), (n, h * w, size))
        y = self.out(ops.attention(self.q(tokens), self.k(tokens), self.v(tokens), self.heads))
        x = x + gate1 * ops.reshape(y, x.shape)
        if self.cross_attention is not None:
            x = self.cross_attention(x, cond)
        y = modulate(self.norm2(x), shift2, scale2)
        return x + gate2 * self.linear2(ops.silu(self.linear1(y)))


class DiT(Denoiser):
    """From noisy images x_t, timesteps t and a condition to the prediction that the network is trained for.

    forward(x, t, cond): as `UNet`: x (N, H, W, C), array or Tensor; t (N,) float32; cond from `condition`, None for an
    unconditional prediction.  Returns (N, H, W, C), zeros at first.
    """

    config: DiTConfig

    def __init__(self, config: DiTConfig) -> None:
        self.config = config
        size = config.hidden_size
        self.embedding = TimeEmbedding(size // 4, config.classes)  # whose result has `size` numbers
        if config.vocab_size:
            self._add_text_encoder()
        patch_channels = config.channels * config.patch**2
        text_width = config.text_width if config.vocab_size else 0
        self.linear_in = Linear(patch_channels, size)
        self.blocks: list[Module] = [DiTBlock(size, config.heads, text_width) for _ in range(config.num_layers)]
        self.norm = LayerNorm(size)
        self.modulation = Linear(size, 2 * size, zero=True)
        self.linear_out = Linear(size, patch_channels, zero=True)

    def forward(self, x: Any, t: Any, cond: Conditioning | None = None) -> Tensor:
        expected = (self.config.height, self.config.width, self.config.channels)
        x = ops.as_tensor(x)
        if x.shape[1:] != expected:
            raise ValueError(f"transformer: expected images of {expected} (height, width, channels), got {x.shape[1:]}")
        cond = self.condition(len(t)) if cond is None else cond
        emb = self.embedding(t, cond.embedding)
        h = self.linear_in(space_to_depth(x, self.config.patch))
        _, height, width, size = h.shape
        h = h + Tensor(positions(height, width, size, self.linear_in.w.dtype))
        for block in self.blocks:
            h = block(h, emb, cond)
        shift, scale = vectors(self.modulation(emb), 2)
        return depth_to_space(self.linear_out(modulate(self.norm(h), shift, scale)), self.config.patch)
