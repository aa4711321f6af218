"""The options of `python -m minidiff.studio`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from minidiff.command_line import BackendName


@dataclass(frozen=True)
class StudioConfig:
    """Open a web page on which you type a prompt, watch the picture emerge step by step, stop it, go back to any step,
    change something, and go on from there."""

    checkpoint: Path | None = None
    """The model at first: a checkpoint file, or a training's folder for its newest checkpoint. Default: the weights
    that come with minidiff. Every run under runs/ can be chosen on the page."""
    adapter: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """An adapter for that model, which follows drawings or references: a checkpoint, or a training's folder."""
    diffusers: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A diffusers model to choose on the page: a folder with a UNet2DModel that the diffusers library has saved."""
    out: Path = Path("runs/studio")
    """Folder for the pictures. Those that lie there are shown in the gallery, and nothing is overwritten."""
    host: str = "127.0.0.1"
    """Address to listen on. Any other than this computer's own (127.0.0.1, ::1, localhost) needs a token, which is part
    of the printed address: whoever has it can draw and look at the pictures."""
    port: int = 7860
    """Port to listen on; 0 takes a free one."""
    open: bool = False
    """Open the page in the browser."""
    threads: int | None = None
    """CPU threads that compute. Default: all that this process may use."""
    backend: BackendName = "auto"
