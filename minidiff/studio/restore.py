"""The settings of a PNG that minidiff drew, for a page that is to show them again.

Idea: a PNG names its model and its pictures by path and by SHA-256.  The paths are not looked at, as anybody may have
written them; a file that the studio has is recognised by its SHA-256.
Leaves out reading the PNG: sampling/like.py.
"""

from pathlib import Path
from typing import Any

from minidiff.sampling import branches, like
from minidiff.sampling.inputs import IMAGES
from minidiff.sampling.request import SampleRequest
from minidiff.studio.models import Models
from minidiff.studio.pictures import PictureStore
from minidiff.studio.settings import settings_of


def restore(path: Path, models: Models, pictures: PictureStore) -> dict[str, Any]:
    """Return {"settings", "branches", "missing", "notes"}: ids in the place of paths; missing names what is not here.

    Raises MinidiffError if the file is no PNG of minidiff's.
    """
    notes: list[str] = []
    request, digests = like.read(path, find=False, warn=notes.append)
    stages = branches.stages(request)
    model = models.with_digest(digests["checkpoint"])
    missing = set() if model else {"model"}

    def settings(stage: SampleRequest, names: dict[str, str]) -> dict[str, Any]:
        """names: from a picture's use to what the digests call it."""
        values = settings_of(stage, model or "m0", lambda _: None)
        for use in IMAGES:
            if getattr(stage, use) is not None:
                values[use] = pictures.find(digests.get(names.get(use, use), ""))
                missing.update(() if values[use] else (use,))
        return values

    later, names = [], dict[str, str]()
    for number, (step, stage) in enumerate(stages[1:], 1):
        names |= {use: f"{use} of branch {number}" for use in IMAGES if f"{use} of branch {number}" in digests}
        values = settings(stage, names)
        later.append({"step": step, "settings": {name: values[name] for name in branches.CHANGEABLE}})
    return {
        "settings": settings(stages[0][1], {}),
        "branches": later,
        "missing": sorted(missing),
        "notes": [line.replace(str(path), "the picture") for line in notes],
    }
