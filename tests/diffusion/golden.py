"""golden.npz: what diffusers made of all cases, for where it is not installed.  `make_golden.py` writes it."""

import json
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from tests.diffusion.cases import CASES, Record

PATH = Path(__file__).with_name("golden.npz")
ARRAYS = [field.name for field in fields(Record)]


def settings() -> str:
    """All cases in words: a file with others is of no use."""
    return json.dumps([asdict(case) for case in CASES])


def write(records: dict[str, Record]) -> None:
    """Keep the records of all cases: their arrays one after another, and how long each is."""
    kept = [records[str(case)] for case in CASES]
    arrays = {name: np.concatenate([getattr(record, name) for record in kept]) for name in ARRAYS}
    lengths = np.array([[len(getattr(record, name)) for name in ARRAYS] for record in kept])
    np.savez_compressed(PATH, settings=settings(), lengths=lengths, **arrays)


def read() -> tuple[str, dict[str, Record]]:
    """Return the settings that the file was made with, and its records by their cases' names."""
    with np.load(PATH) as file:
        ends = np.cumsum(file["lengths"], 0)
        parts = [np.split(file[name], ends[:-1, column]) for column, name in enumerate(ARRAYS)]
        return str(file["settings"]), {str(case): Record(*arrays) for case, *arrays in zip(CASES, *parts)}
