"""What programs ask AUTOMATIC1111's web UI about before they draw: its samplers, schedules, models, and so on.

Idea: such a program fills its menus from these lists.  Of what the studio has not, the list is empty, so nothing can be
chosen that would be refused.
Leaves out drawing: automatic1111.py.
"""

import resource
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from minidiff.studio.a1111_fields import CONTROLNET, KINDS, MODULES
from minidiff.studio.clients import titles
from minidiff.studio.models import digest
from minidiff.studio.parameters import AUTOMATIC, HASH_DIGITS, SAMPLERS, SCHEDULES
from minidiff.studio.service import Service

Handler = Callable[[Request], Awaitable[Response]]

NOTHING = (
    "upscalers",
    "latent-upscale-modes",
    "sd-vae",
    "hypernetworks",
    "face-restorers",
    "realesrgan-models",
    "prompt-styles",
    "loras",
    "script-info",
    "extensions",
    "artists",
    "artist-categories",
)


class Lists:
    """The lists of a studio.  model: returns the id of the model that is chosen."""

    def __init__(self, service: Service, model: Callable[[], str]) -> None:
        self.service = service
        self.model = model

    def handlers(self) -> Iterator[tuple[str, str, Handler]]:
        """Yield paths, methods, and what answers them."""
        answers: dict[str, Callable[[], Any]] = {
            "/sdapi/v1/samplers": samplers,
            "/sdapi/v1/schedulers": schedulers,
            "/sdapi/v1/sd-models": self.models,
            "/sdapi/v1/cmd-flags": lambda: {"api": True, "ckpt": None, "lowvram": False, "medvram": False},
            "/sdapi/v1/scripts": self.scripts,
            "/sdapi/v1/embeddings": lambda: {"loaded": {}, "skipped": {}},
            "/sdapi/v1/memory": memory,
            **{f"/sdapi/v1/{name}": list for name in NOTHING},
            "/controlnet/version": lambda: {"version": 2},
            "/controlnet/model_list": lambda: {"model_list": [kind for kind in self.adapters() if kind in KINDS]},
            "/controlnet/module_list": lambda: {"module_list": [*MODULES]},
        }
        for path, answer in answers.items():
            yield path, "GET", _said(answer)
        for name in ("refresh-checkpoints", "refresh-vae"):  # models are looked for whenever they are listed
            yield f"/sdapi/v1/{name}", "POST", _said(lambda: None)

    def models(self) -> list[dict[str, Any]]:
        """Return all models; the hash of one that is not loaded is not known yet."""
        found = []
        for title, entry in titles(self.service.models).items():
            pipeline = entry.pipeline
            hashed = digest(pipeline.path) if pipeline else None
            found.append({
                "title": title,
                "model_name": title,
                "hash": hashed and hashed[:HASH_DIGITS],
                "sha256": hashed,
                "filename": pipeline.path.name if pipeline else title,
                "config": None,
            })  # fmt: skip
        return found

    def adapters(self) -> list[str]:
        """Return what the chosen model can follow."""
        return [*self.service.models.entry(self.model()).about.get("adapters", ())]

    def scripts(self) -> dict[str, list[str]]:
        """Return the scripts; by the second one webuiapi recognises that there is ControlNet."""
        names = [CONTROLNET, f"{CONTROLNET} m2m"] if self.adapters() else []
        return {"txt2img": names, "img2img": names}


def samplers() -> list[dict[str, Any]]:
    """Return our samplers by their names; ours are aliases."""
    return [{"name": theirs, "aliases": [ours], "options": {}} for ours, theirs in SAMPLERS.items()]


def schedulers() -> list[dict[str, Any]]:
    """Return the spacings by their names; ours are aliases."""
    names = {AUTOMATIC: AUTOMATIC.lower(), **{theirs: ours for ours, theirs in SCHEDULES.items()}}
    return [
        {
            "name": theirs.lower().replace(" ", "_"),
            "label": theirs,
            "aliases": [ours],
            "default_rho": -1,
            "need_inner_model": False,
        }
        for theirs, ours in names.items()
    ]


def memory() -> dict[str, Any]:
    """Return how many bytes this process has used at most."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"ram": {"free": None, "used": used, "total": None}, "cuda": {"error": "not measured"}}


def _said(answer: Callable[[], Any]) -> Handler:
    async def handler(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(answer))

    return handler
