"""The engine: all drawings, one at a time, on the main thread, on which alone kernels may run.

Idea: the engine draws a step, looks whether somebody has called, and draws the next one.  Whatever changes a drawing is
a call, a function that the engine runs between two steps: so nothing needs a lock, and a drawing is cancelled, paused
or branched at its next step.  Other threads see what the engine has published (`views`), and wait for nothing else.
Drawings wait in a queue of bounded length.  A paused drawing waits outside it.
Leaves out what a drawing is (drawing.py), how it reaches a browser (hub.py) and where images are kept (gallery.py).
"""

import contextlib
import itertools
import logging
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from minidiff import backend
from minidiff.errors import MinidiffError, one_line
from minidiff.studio.drawing import ENDED, Drawing, Film, Node, State

R = TypeVar("R")
Event = dict[str, Any]

MAX_QUEUE = 256  # drawings that wait
MAX_CALLS = 1024  # calls that wait
MAX_DRAWINGS = 64  # that are kept, with their steps
MAX_BYTES = 1 << 30  # of memory for them, about
IDLE = 0.5  # seconds after which an idle engine looks whether it is to stop

log = logging.getLogger("minidiff.studio")


class Full(MinidiffError):
    """There is no room for another drawing; later there may be."""


class Conflict(MinidiffError):
    """The state of a drawing does not allow what was asked for."""


class Listener(Protocol):
    """Who is told of what happens to drawings; called on the engine's thread, and must return at once."""

    def changed(self, drawing: Drawing) -> None: ...

    def stepped(self, drawing: Drawing, film: Film) -> None: ...

    def finished(self, drawing: Drawing, node: Node) -> "Future[list[str]] | None": ...

    def compiling(self, line: str | None) -> None: ...


class Engine:
    """Draws.  `run` is for the main thread, `call` for all others; everything else is called through `call`."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.drawings: dict[str, Drawing] = {}
        self.waiting: deque[Drawing] = deque()
        self.stopping = threading.Event()
        self._calls: queue.Queue[tuple[Callable[[], Any], Future[Any]]] = queue.Queue(MAX_CALLS)
        self._own: deque[Callable[[], None]] = deque()
        self._numbers = itertools.count(1)
        self._ended: dict[str, Future[np.ndarray]] = {}
        self._compiling = False

    # -- on any thread ------------------------------------------------------------------------------------------------

    def call(self, function: Callable[[], R]) -> "Future[R]":
        """Let the engine run a function between two steps, and return its result to come.

        Raises Full if too many calls wait.
        """
        future: Future[R] = Future()
        try:
            self._calls.put_nowait((function, future))
        except queue.Full:
            raise Full("too many requests wait for an answer; try again in a moment") from None
        return future

    # -- on the main thread -------------------------------------------------------------------------------------------

    @np.errstate(all="ignore")  # a run itself raises an error where numbers overflow
    def run(self) -> None:
        """Draw until `stopping` is set, or until an interrupt.  Kernels that are compiled are announced."""
        backend.on_compile(self._on_compile)
        try:
            while not self.stopping.is_set():
                self.turn(wait=True)
        finally:
            backend.on_compile(lambda _: None)
            for drawing in self.drawings.values():
                drawing.end()
            for future in self._ended.values():
                future.cancel()

    def turn(self, wait: bool = False) -> None:
        """Run the calls that wait, and draw one step.  wait: for a call, if there is nothing to draw."""
        self._answer(wait)
        if self.waiting:
            self._advance(self.waiting[0])
        self._compiled()

    def _answer(self, wait: bool) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                while self._own:
                    self._own.popleft()()
                function, future = self._calls.get(block=wait and not self.waiting, timeout=IDLE)
                if future.set_running_or_notify_cancel():
                    try:
                        future.set_result(function())
                    except Exception as error:  # it belongs to whoever has called
                        future.set_exception(error)

    def _on_compile(self, line: str) -> None:
        if self.stopping.is_set():  # the interrupt itself may have come where a compiler could not pass it on
            raise KeyboardInterrupt
        self._compiling = True
        self.listener.compiling(line)

    def _compiled(self) -> None:
        if self._compiling:
            self._compiling = False
            self.listener.compiling(None)

    def _advance(self, drawing: Drawing) -> None:
        """Draw one step of a drawing; whatever goes wrong ends this drawing alone."""
        try:
            self._step(drawing)
        except Exception as error:
            drawing.error = self._said(error)
            self.leave(drawing, "failed")

    def _step(self, drawing: Drawing) -> None:
        if drawing.run is None:
            self.set(drawing, "running")
            self._begin(drawing)
        start = time.perf_counter()
        step = next(drawing.run)  # type: ignore[arg-type]
        if len(drawing.seconds) == 1 and drawing.seconds[0] > 2 * (time.perf_counter() - start):
            drawing.seconds.clear()  # the first step also compiled kernels, or read them
        drawing.seconds.append(time.perf_counter() - start)
        new = step.index >= drawing.active.done  # else it was drawn again, to be recorded
        film = drawing.take(step)
        last = step.index + 1 == step.steps
        if new and (drawing.keep or last):
            self.listener.stepped(drawing, film)
        elif not new:
            self.listener.changed(drawing)  # how far its recording is
        if drawing.rest is not None:
            if len(drawing.active.frames) >= drawing.active.done:
                self.leave(drawing, "paused")
        elif last:
            self._finish(drawing)
        elif drawing.budget is not None and new:
            drawing.budget -= 1
            if drawing.budget <= 0:
                self.leave(drawing, "paused")

    def _begin(self, drawing: Drawing) -> None:
        """Start the run of a drawing, and repeat, without the network, the steps that are known."""
        drawing.seconds.clear()
        for _ in range(drawing.begin()):
            next(drawing.run)  # type: ignore[arg-type]

    def _finish(self, drawing: Drawing) -> None:
        """Give the images to whoever waits for them; the drawing is done when they are saved."""
        drawing.end()
        self.waiting.popleft()
        self.save(drawing, drawing.active)

    def save(self, drawing: Drawing, node: Node) -> None:
        """Save the images of a node, if they are to be, beside the drawing."""
        saved = self.listener.finished(drawing, node) if drawing.save and not node.pictures else None
        if saved is None:
            self._done(drawing, node, None)
        else:
            node.saving = True
            saved.add_done_callback(lambda future: self._later(lambda: self._done(drawing, node, future)))

    def _later(self, function: Callable[[], None]) -> None:
        """As `call`, from other threads of the studio's own: never refused, and nobody waits for a result."""
        self._own.append(function)
        with contextlib.suppress(queue.Full):
            self._calls.put_nowait((lambda: None, Future()))  # to wake it up

    def _done(self, drawing: Drawing, node: Node, saved: "Future[list[str]] | None") -> None:
        node.saving, error = False, None
        try:
            node.pictures = node.pictures if saved is None else saved.result()
        except Exception as found:
            error = self._said(found)
        if drawing.active is node and drawing.state == "running" and drawing not in self.waiting:
            drawing.state, drawing.error = ("failed", error) if error else ("done", None)
        self._resolve(drawing)
        self.listener.changed(drawing)
        self._forget()

    def _said(self, error: Exception) -> str:
        if isinstance(error, MinidiffError | OSError | MemoryError):
            return one_line(error)
        number = secrets.token_hex(4)
        log.error("internal error %s", number, exc_info=error)
        return f"internal error {number}; the log of the studio has it"

    def leave(self, drawing: Drawing, state: Literal["paused", "failed", "cancelled"]) -> None:
        """Take a drawing out of the queue; one that was only recorded again gets its state of before."""
        drawing.end()
        rest, drawing.rest = drawing.rest, None
        with contextlib.suppress(ValueError):
            self.waiting.remove(drawing)
        drawing.budget = None
        self.set(drawing, state if rest is None or state == "failed" else rest)
        if drawing.state in ENDED:
            self._resolve(drawing)
        self._forget()

    def set(self, drawing: Drawing, state: Any) -> None:
        drawing.state = state
        self.listener.changed(drawing)

    def _resolve(self, drawing: Drawing) -> None:
        future = self._ended.pop(drawing.id, None)
        if future is None or not future.set_running_or_notify_cancel():
            return
        images = drawing.active.images
        if images is not None:  # also if they could not be saved: whoever waits for them gets them
            future.set_result(images)
        else:
            future.set_exception(MinidiffError(drawing.error or "the drawing was cancelled"))

    def add(self, drawing: Drawing) -> "Future[np.ndarray]":
        """Take a new drawing in, as "paused"; return its images (N, H, W, C) uint8 to come."""
        self.drawings[drawing.id] = drawing
        future: Future[np.ndarray] = Future()
        self._ended[drawing.id] = future
        self._forget()
        return future

    def enqueue(self, drawing: Drawing, budget: int | None = None, rest: State | None = None) -> None:
        """Put a drawing at the end of the queue.

        budget: how many new steps it may go, None for all.  rest: its state when all known steps are recorded, if they
        are only to be drawn again for that.  Raises Full where there is no room.
        """
        self.check_queue()
        drawing.budget, drawing.error, drawing.rest = budget, None, rest
        self.waiting.append(drawing)
        self.set(drawing, "queued")

    def check_queue(self) -> None:
        """Raise Full if no further drawing may wait."""
        if len(self.waiting) >= MAX_QUEUE:
            raise Full(f"{MAX_QUEUE} drawings wait already; try again when some of them are done")

    def check_room(self, bytes: int = 0) -> None:
        """Raise Full if there is no room for a further drawing, or for so many bytes of steps."""
        self.check_queue()
        self._forget()
        paused = sum(each.state == "paused" for each in self.drawings.values())
        if paused >= MAX_DRAWINGS:
            raise Full(f"{paused} drawings are paused; go on with some of them, or cancel them")
        takes = sum(each.bytes for each in self.drawings.values() if each.state not in ENDED) + bytes
        if takes > MAX_BYTES:
            raise Full(f"the steps of drawings would take {takes >> 20} MiB, and at most {MAX_BYTES >> 20} are kept; "
                       "cancel some drawings that are paused")  # fmt: skip

    def next_id(self) -> str:
        """Return the id of a new drawing."""
        return f"d{next(self._numbers)}"

    def _forget(self) -> None:
        """Drop the oldest drawings that have ended, where there are too many or they take too much memory."""
        ended = [each for each in self.drawings.values() if each.state in ENDED and each.id not in self._ended]
        for each in [each for each in ended if not each.keep]:
            del self.drawings[each.id]
        ended = [each for each in ended if each.keep]
        total = sum(each.bytes for each in self.drawings.values())
        while len(ended) > 1 and (len(self.drawings) > MAX_DRAWINGS or total > MAX_BYTES):
            oldest = ended.pop(0)
            total -= oldest.bytes
            del self.drawings[oldest.id]
