"""What noise is added to: the pixels of images, or their latents.

Idea: a diffusion model learns arrays of numbers, whatever they mean.  A `Space` says what they mean: `encode` maps
images to the arrays x0 that noise is added to, and `decode` maps such arrays to images.  In `Pixels` both change
nothing.  In `Latents` they are the encoder and the decoder of an autoencoder.  Only these classes know which of the two
a model works with: the sampler, guidance and the loss see arrays.

Latents are normalised by constants, which are computed once for all images, so that every channel has mean 0 and
variance 1 over them, as noise has.  `preview` shows what an array looks like without the decoder, by a linear map from
the channels of a position to its colour, fitted by least squares: rough, but almost free.
Leaves out training an autoencoder: training/.
Source: Rombach et al. 2021, arXiv:2112.10752, section 3.2 and appendix G (latents of variance 1; there
all channels are divided by one number).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from minidiff import backend
from minidiff.autograd import no_grad
from minidiff.diffusion.edit import Edit
from minidiff.nn.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.random import Key, Stream, normal

Shape = tuple[int, int, int]


class Space(Protocol):
    """The way from images to arrays that noise is added to, and back.

    clip: what is done with x0_hat by default, see `clipping.clip_x0`: pixels have a range, latents have none.
    guidance_scale: the default with a prompt or label; images show it clearly and still vary.  In latents, where no
    clipping takes back what guidance exaggerates, it is lower.
    autoencoder_config: None without an autoencoder.
    """

    @property
    def clip(self) -> str: ...
    @property
    def guidance_scale(self) -> float: ...
    @property
    def autoencoder_config(self) -> AutoencoderConfig | None: ...

    def image_shape(self, shape: Shape) -> Shape:
        """Return height, width and channels of the images of arrays (h, w, c)."""
        ...

    def array_shape(self, shape: Shape) -> Shape:
        """Return height, width and channels of the arrays of images (H, W, C).

        Raises MinidiffError for images of a size that has no arrays.
        """
        ...

    def encode(self, images: Any) -> Any:
        """Return x0, (N, h, w, c) float32, of images (N, H, W, C) float32 in [-1, 1]."""
        ...

    def decode(self, x: Any) -> Any:
        """Return the images (N, H, W, C) float32, in [-1, 1] or slightly beyond, of arrays (N, h, w, c)."""
        ...

    def preview(self, x: Any) -> Any:
        """Return roughly what arrays (N, h, w, c), noisy ones too, look like as images: (N, H, W, C) float32."""
        ...

    def edit(self, edit: Edit) -> Edit:
        """Return an edit of images as one of arrays."""
        ...

    def finish(self, x: Any, edit: Edit | None) -> Any:
        """Return the images (N, H, W, C) float32 of finished arrays; edit: that of images which led to them."""
        ...


@dataclass(frozen=True)
class Pixels:
    """The arrays are the images."""

    clip: str = "clip"
    guidance_scale: float = 3.0
    autoencoder_config: None = None

    def image_shape(self, shape: Shape) -> Shape:
        return shape

    def array_shape(self, shape: Shape) -> Shape:
        return shape

    def encode(self, images: Any) -> Any:
        return images

    def decode(self, x: Any) -> Any:
        return x

    def preview(self, x: Any) -> Any:
        return x

    def edit(self, edit: Edit) -> Edit:
        return edit

    def finish(self, x: Any, edit: Edit | None) -> Any:
        return x


PIXELS = Pixels()


@dataclass(frozen=True)
class LatentStatistics:
    """What is known of the latents of a dataset: constants, which a checkpoint keeps.

    mean, std: of each channel of the encoder's means, (c,).
    colour: a matrix (c + 1, C), stored row by row.  Row i < c is what channel i, normalised, adds to the colour of a
    position; row c is the colour of a position whose channels are all 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    colour: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Latents:
    """The arrays are latents of an autoencoder, (N, H / factor, W / factor, c), normalised."""

    autoencoder: Autoencoder
    statistics: LatentStatistics
    clip: str = "none"
    guidance_scale: float = 2.0
    _constant: dict[str, Any] = field(default_factory=dict)  # by backend, its context for filters that stay

    @property
    def autoencoder_config(self) -> AutoencoderConfig:
        return self.autoencoder.config

    @property
    def factor(self) -> int:
        """How many times smaller height and width of the latents are than those of the images."""
        return self.autoencoder.config.factor

    def image_shape(self, shape: Shape) -> Shape:
        return shape[0] * self.factor, shape[1] * self.factor, self.autoencoder.config.channels

    def array_shape(self, shape: Shape) -> Shape:
        return replace(self.autoencoder.config, height=shape[0], width=shape[1]).latent_shape

    def encode(self, images: Any) -> Any:
        mean, std = self._constants()
        with self._constant_filters():
            return (_means(self.autoencoder, images) - mean) / std

    def decode(self, x: Any) -> Any:
        mean, std = self._constants()
        with no_grad(), self._constant_filters():
            return self.autoencoder.decoder(x * std + mean).data

    def preview(self, x: Any) -> Any:
        config = self.autoencoder.config
        table = np.array(self.statistics.colour, np.float32).reshape(config.latent_channels + 1, config.channels)
        weights, zero = backend.to_device(table[:-1]), backend.to_device(table[-1])
        xp = backend.current().xp
        colours = x.reshape(-1, config.latent_channels) @ weights + zero
        small = colours.reshape(*x.shape[:3], config.channels)
        return xp.repeat(xp.repeat(small, self.factor, 1), self.factor, 2)

    def edit(self, edit: Edit) -> Edit:
        """The images become latents, and the mask is reduced: a position is generated anew if any pixel of it is.

        Noise of standard deviation sigma in the image changes its latents by another amount.  That amount is measured:
        the root mean square of the difference between them and the latents of the image with as much noise again.
        """
        mask, sigma = edit.mask, edit.sigma
        if mask is not None:
            height, width, factor = *mask.shape[:2], self.factor
            mask = mask.reshape(height // factor, factor, width // factor, factor, 1).max((1, 3))
        if sigma is not None:
            eps = backend.to_numpy(normal(Key(0, Stream.KNOWN, 0, 0), edit.image.shape))
            noisier = self._encode_one(edit.image + np.float32(edit.noise_level()) * eps)
            sigma = float(np.sqrt(np.mean((noisier - self._encode_one(edit.image)) ** 2)))
        to = None if edit.to is None else self._encode_one(edit.to)
        return replace(edit, image=self._encode_one(edit.image), to=to, mask=mask, sigma=sigma)

    def finish(self, x: Any, edit: Edit | None) -> Any:
        """Decode, and put the kept pixels of an inpainted image back: its latents do not hold all of them."""
        images = self.decode(x)
        if edit is None or edit.mask is None:
            return images
        mask = backend.to_device(edit.mask)
        return mask * images + (1 - mask) * backend.to_device(edit.image)

    def _encode_one(self, image: np.ndarray) -> np.ndarray:
        return backend.to_numpy(self.encode(backend.to_device(image[None])))[0]

    def _constant_filters(self) -> Any:
        table = backend.current()
        return self._constant.setdefault(table.name, table.constant_filters())

    def _constants(self) -> tuple[Any, Any]:
        mean, std = (np.array(values, np.float32) for values in (self.statistics.mean, self.statistics.std))
        return backend.to_device(mean), backend.to_device(std)


def fit(autoencoder: Autoencoder, batches: Callable[[int], np.ndarray], count: int) -> LatentStatistics:
    """Measure the latents of images, and fit the linear map from latents to colours.

    batches: from k = 0, 1, …, count - 1 to images (N, H, W, C) float32 in [-1, 1], on the host.
    """
    factor, latents, colours = autoencoder.config.factor, [], []
    for k in range(count):
        images = batches(k)
        latents.append(backend.to_numpy(_means(autoencoder, backend.to_device(images))))
        n, height, width, channels = images.shape
        small = images.reshape(n, height // factor, factor, width // factor, factor, channels).mean((2, 4))
        colours.append(small.reshape(-1, channels))
    z = np.concatenate([part.reshape(-1, part.shape[-1]) for part in latents]).astype(np.float64)
    mean, std = z.mean(0), z.std(0) + 1e-6  # a channel may be constant
    rows = np.concatenate([(z - mean) / std, np.ones((len(z), 1))], 1)
    colour = np.linalg.lstsq(rows, np.concatenate(colours).astype(np.float64), rcond=None)[0]
    return LatentStatistics(*(tuple(map(float, values)) for values in (mean, std, colour.ravel())))


def _means(autoencoder: Autoencoder, images: Any) -> Any:
    """Return the means of the encoder's distributions: (N, H, W, C) to (N, h, w, c)."""
    with no_grad():
        return autoencoder.encoder(images)[0].data
