"""What all denoisers have in common: how they encode what the images are to show, a class or a caption.

Idea: whatever its layers, a denoiser adds a vector for the class, or for the whole caption, to the embedding of the
timestep.  The words of a caption are vectors, too, which its cross-attention layers read.  `condition` computes these
vectors once for a whole sampling run.  Captions, with cross_attention.py and text.py, can be skipped until
docs/chapter10.md.
Leaves out the layers themselves: unet.py and dit.py.
"""

from typing import Any

import numpy as np

from minidiff.nn.conditioning import Conditioning
from minidiff.nn.dit_config import DenoiserConfig
from minidiff.nn.embedding import TimeEmbedding
from minidiff.nn.layers import Linear
from minidiff.nn.module import Module
from minidiff.nn.text import TextEncoder
from minidiff.nn.tokenizer import PADDING


class Denoiser(Module):
    """A network from noisy images, timesteps and a condition to a prediction: the U-Net or the transformer.

    Sub-classes assign `config` and `embedding`, and after these they call `_add_text_encoder` if there are captions.
    """

    config: DenoiserConfig
    embedding: TimeEmbedding
    text: TextEncoder
    text_projection: Linear

    def condition(self, n: int, labels: Any | None = None, with_cond: Any | None = None) -> Conditioning:
        """Encode the condition of n images; `forward` takes the result at every timestep.

        labels: (n,) integers, classes; or (n, L) integers, captions.  `config.null_cond` in them stands for no
        condition, and None means this for all images.
        with_cond: (n,) bool, which images receive the reference image, if there is one: see adapted_unet.py.
        """
        if self.config.classes:
            labels = np.full(n, self.config.classes) if labels is None else labels
            return Conditioning(self.embedding.class_embedding(labels))
        if self.config.vocab_size:
            labels = np.full((n, self.config.max_tokens), PADDING) if labels is None else labels
            tokens, caption = self.text(labels)
            return Conditioning(self.text_projection(caption), tokens)
        return Conditioning()

    def _add_text_encoder(self) -> None:
        c = self.config
        self.text = TextEncoder(c.vocab_size, c.max_tokens, c.text_width, c.text_layers, c.heads)
        self.text_projection = Linear(c.text_width, self.embedding.width)
