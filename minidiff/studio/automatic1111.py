"""The interface of AUTOMATIC1111's web UI, as far as programs that draw with it need it: /sdapi/v1.

Idea: plug-ins of image editors, bots and libraries speak to that program, so they can speak to the studio.  Their words
are translated, and nothing else is here.  An error has their form, with our sentence as "detail".  As there, a request
for images is answered when they are drawn; meanwhile progress, interrupt and skip are about the oldest such request.
Leaves out what the fields mean (a1111_fields.py), and lists of what a server has (a1111_lists.py).
"""

import base64
import functools
import io
import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from minidiff.errors import MinidiffError, printable
from minidiff.images.files import make_grid, to_png
from minidiff.images.read import FORMATS, quiet, why_unreadable
from minidiff.studio.a1111_fields import PICTURES, read, settings_of, units
from minidiff.studio.a1111_lists import Lists
from minidiff.studio.access import Answer
from minidiff.studio.api import answer_of, engine, json_of
from minidiff.studio.clients import Described, Job, describe, draw, model_of, picture_bytes, stop, titles
from minidiff.studio.parameters import AUTOMATIC, PARAMETERS_KEY, SAMPLERS, SCHEDULES, parse
from minidiff.studio.pictures import inverted
from minidiff.studio.service import Service

Handler = Callable[[Request], Awaitable[Response]]


class Automatic1111:
    """The routes below /sdapi/v1, and what their options say: the model, and whether all samples are saved."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.jobs: list[Job] = []  # that are drawn or wait, oldest first
        self.model = "m0"
        self.samples_save = False  # also without save_images
        self.interrupted = self.skipped = False
        self.since = ""  # when the newest job came

    def routes(self) -> list[Route]:
        """Return all routes."""
        posts: dict[str, Handler] = {
            "txt2img": functools.partial(self.draw, image=False),
            "img2img": functools.partial(self.draw, image=True),
            "interrupt": functools.partial(self.stop, skip=False),
            "skip": functools.partial(self.stop, skip=True),
            "options": self.set_options,
            "png-info": self.png_info,
        }
        gets: dict[str, Handler] = {"progress": self.progress, "options": self.options}
        return [
            *(Route(f"/sdapi/v1/{name}", _answered(handler), methods=["POST"]) for name, handler in posts.items()),
            *(Route(f"/sdapi/v1/{name}", _answered(handler), methods=["GET"]) for name, handler in gets.items()),
            *(Route(path, _answered(handler), methods=[method])
              for path, method, handler in Lists(self.service, lambda: self.model).handlers()),
        ]  # fmt: skip

    # -- drawing ------------------------------------------------------------------------------------------------------

    async def draw(self, request: Request, image: bool) -> Response:
        """Answer txt2img and img2img."""
        body = await json_of(request)
        values = read(body)
        settings = settings_of(values, image)
        pictures = await run_in_threadpool(self._pictures, values, image)
        model = await self._model(values)
        settings = [{**each, **pictures, "model": model} for each in settings]
        self.interrupted = self.skipped = False
        self.since = f"{datetime.now():%Y%m%d%H%M%S}"
        save = values["save_images"] or self.samples_save
        results = await describe(self.service, await draw(self.service, request, settings, self.jobs, save))
        about, truth = _about(results, self.since), _truth(results)
        echo = values if values["include_init_images"] else {**values, **dict.fromkeys(PICTURES)}
        return JSONResponse({
            "images": [png for each in results for png in each.pngs] if values["send_images"] else [],
            "parameters": {**echo, **truth},
            "info": json.dumps(about),
        })  # fmt: skip

    async def _model(self, values: dict[str, Any]) -> str:
        name = values["override_settings"].get("sd_model_checkpoint")
        if name is None:
            return self.model
        entry = await run_in_threadpool(model_of, self.service.models, name)
        if not values["override_settings_restore_afterwards"]:
            self.model = entry.id
        return entry.id

    def _pictures(self, values: dict[str, Any], image: bool) -> dict[str, Any]:
        """Store the pictures of a request; return the settings that name them."""
        store, found = self.service.pictures, dict[str, Any]()
        if image:
            sent = values["init_images"] or []
            if len(sent) != 1:
                raise MinidiffError(f"init_images: expected one picture, got {len(sent)}")
            found["init"] = store.add(picture_bytes(sent[0], "init_images")).id
            if values["mask"]:
                id = store.add(picture_bytes(values["mask"], "mask")).id
                if values["inpainting_mask_invert"]:
                    id = store.add(inverted(store.path(id))).id
                found["mask"] = id
        elif values["mask"]:
            raise MinidiffError("mask: it belongs to a picture, so it is for img2img")
        for settings, text in units(values):
            use = "reference" if "reference" in settings else "control"
            picture = found.get("init") if text is None else store.add(picture_bytes(text, "ControlNet: image")).id
            if picture is None:
                raise MinidiffError("ControlNet: expected an image in base64, got none")
            found |= {**settings, use: picture}
        return found

    # -- while it draws -----------------------------------------------------------------------------------------------

    async def progress(self, request: Request) -> Response:
        """Answer how far the oldest job is, with the newest step of what is drawn."""
        job = self.jobs[0] if self.jobs else None
        drawing = job.current if job else None
        film = drawing.newest if drawing else None
        step = film.index + 1 if film else 0
        steps = (drawing.active.of or drawing.active.plan.settings.steps or 0) if drawing else 0
        count = len(job.drawings) if job else 0
        done = job.done if job else 0
        rate = drawing.rate if drawing else 0.0
        left = (count - done) * steps - step
        state = {
            "skipped": self.skipped,
            "interrupted": self.interrupted,
            "stopping_generation": False,
            "job": f"Batch {min(done + 1, count)} out of {count}" if job else "",
            "job_count": count,
            "job_timestamp": self.since,
            "job_no": done,
            "sampling_step": step,
            "sampling_steps": steps,
        }
        image = None
        guess = film.picture("x0_hat") if film else None
        if guess is not None and request.query_params.get("skip_current_image", "false").lower() not in ("true", "1"):
            image = base64.b64encode(to_png(make_grid(guess, zoom=1, gap=0))).decode()
        return JSONResponse({
            "progress": (done + (step / steps if steps else 0)) / count if count else 0.0,
            "eta_relative": left / rate if rate else 0.0,
            "state": state,
            "current_image": image,
            "textinfo": self.service.line if job else None,  # what is being compiled
        })  # fmt: skip

    async def stop(self, request: Request, skip: bool) -> Response:
        """Interrupt the oldest job, or skip the drawing that it is at; its images are sent as they are."""
        if self.jobs:
            job = self.jobs[0]
            self.interrupted, self.skipped = self.interrupted or not skip, self.skipped or skip

            def act() -> None:
                current = job.current
                drawings = ([current] if current else []) if skip else [*job.drawings]
                job.stopped |= {each.id for each in drawings}
                stop(self.service.engine, drawings)

            await engine(self.service, act)
        return JSONResponse(None if skip else {})

    # -- options, and what a PNG says ---------------------------------------------------------------------------------

    async def options(self, request: Request) -> Response:
        """Answer the options that matter here, with those that programs ask for."""
        known = await run_in_threadpool(titles, self.service.models)
        title = next(name for name, entry in known.items() if entry.id == self.model)
        return JSONResponse({
            "sd_model_checkpoint": title,
            "sd_vae": "None",
            "samples_save": self.samples_save,
            "samples_format": "png",
            "grid_save": False,
            "return_grid": False,
            "enable_pnginfo": True,
            "CLIP_stop_at_last_layers": 1,
            "eta_ddim": 0.0,
            "eta_ancestral": 1.0,
            "img2img_background_color": "#ffffff",
            "live_previews_enable": True,
            "show_progress_every_n_steps": 1,
        })  # fmt: skip

    async def set_options(self, request: Request) -> Response:
        """Choose a model, or whether all samples are saved; other options are ignored."""
        body = await json_of(request)
        save = body.get("samples_save", self.samples_save)
        if not isinstance(save, bool):
            raise MinidiffError(f"samples_save: expected true or false, got {printable(repr(save), 60)}")
        if (name := body.get("sd_model_checkpoint")) is not None:
            entry = await run_in_threadpool(model_of, self.service.models, name)
            await engine(self.service, lambda: self.service.models.load(entry.id))
            self.model = entry.id
        self.samples_save = save
        return JSONResponse(None)

    async def png_info(self, request: Request) -> Response:
        """Answer the texts in a PNG, and the settings in the one that these programs know."""
        data = picture_bytes((await json_of(request)).get("image"), "image")
        texts = await run_in_threadpool(_texts, data)
        info = texts.pop(PARAMETERS_KEY, "")
        return JSONResponse({"info": info, "items": texts, "parameters": parse(info) if info else {}})


def _texts(data: bytes) -> dict[str, str]:
    try:
        with quiet(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return {str(name): text for name, text in image.info.items() if isinstance(text, str)}
    except Exception as error:  # a decoder may raise anything at all on a damaged file
        raise MinidiffError(f"image: {why_unreadable(error)}") from error


def _truth(results: list[Described]) -> dict[str, Any]:
    """Return the settings that the images were drawn with, by their names; {} if none was drawn."""
    if not results:
        return {}
    request = results[0].result.drawing.active.request
    height, width = results[0].result.images.shape[1:3]
    return {
        "width": width,
        "height": height,
        "steps": request.steps,
        "cfg_scale": request.guidance_scale,
        "seed": request.seed,
        "sampler_name": SAMPLERS[request.sampler],
        "scheduler": AUTOMATIC if request.spacing is None else SCHEDULES[request.spacing],
    }


def _about(results: list[Described], since: str) -> dict[str, Any]:
    """Return what is told of all images together.  An image's seed, size of batch and place in it repeat it."""
    texts = [text for each in results for text in each.texts]
    seeds = [each.result.drawing.active.request.seed for each in results for _ in each.texts]
    request = results[0].result.drawing.active.request if results else None
    prompt = " ".join((request.prompt or request.label)[:1]) if request else ""
    negative = (request.negative or "") if request else ""
    return {
        "prompt": prompt,
        "all_prompts": [prompt] * len(texts),
        "negative_prompt": negative,
        "all_negative_prompts": [negative] * len(texts),
        "all_seeds": seeds,
        "subseed": -1,
        "all_subseeds": [-1] * len(texts),
        "subseed_strength": 0,
        **_truth(results),
        "batch_size": request.count if request else 0,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": results[0].model if results else None,
        "sd_model_hash": results[0].digest[:10] if results else None,
        "denoising_strength": request.strength if request else None,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": texts,
        "styles": [],
        "job_timestamp": since,
        "clip_skip": 1,
    }


def _answered(handler: Handler) -> Handler:
    """Let a handler's errors be answered in their form."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except Answer as error:
            answer = error
        except MinidiffError as error:
            answer = answer_of(error)
        about = {"error": "HTTPException", "detail": answer.error, "body": "", "errors": answer.error}
        return JSONResponse(about, answer.status, answer.headers)

    return answered
