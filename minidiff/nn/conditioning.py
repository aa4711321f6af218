"""What the denoiser is given besides the noisy image and the timestep, in encoded form.

Idea: a class, a caption, a reference image and a control drawing stay the same at all timesteps of a sampling run.  So
each is encoded once, before the first step, and all parts of the network read the result from one frozen object,
`cond` in the code.
Leaves out the encoders: embedding.py (classes), text.py, ip_adapter.py and controlnet.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from minidiff.autograd import Tensor
from minidiff.nn.module import Module


@dataclass(frozen=True)
class Conditioning:
    """The encoded condition of N images; without any field set, the images are unconditional.

    embedding: (N, E), of the classes or of whole captions; it is added to the embedding of the timestep.
    tokens: (N, M, D), the encoded captions that cross-attention reads.
    image_attention: for each cross-attention layer the attention to a reference image, a function of the layer's
        queries (N, L, C) with a result of the same shape, which is added to the attention to the caption.
    control: the residuals of a ControlNet, a function of x (N, H, W, C) and of the time embedding (N, E), which are
        added to the features of the encoder.
    """

    embedding: Tensor | None = None
    tokens: Tensor | None = None
    image_attention: Mapping[Module, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    control: Callable[[Tensor, Tensor], list[Tensor]] | None = None
