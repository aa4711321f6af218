"""From the engine's thread to the browsers: the newest state of everything, to each one as fast as it reads.

Idea: of a drawing only its newest preview and its newest state matter.  So there is no queue that could grow: each
watcher has a dictionary of what it has not been sent yet, in which a newer message replaces the older one of the same
kind.  The last message of every kind therefore always arrives, and a slow browser slows nobody.
The engine and the web server share the processor and Python's lock.  So previews are sent in rounds, and after a round
the server rests many times as long as the round took, but two seconds at most: with one watcher that is not felt, with
a thousand each gets fewer previews, and the engine nearly keeps its speed.
Leaves out the WebSocket: watch.py.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

PREVIEWS = 30.0  # rounds a second at most
SHARE = 0.04  # of a processor's time, for the rounds
LONGEST = 2.0  # seconds between two rounds, whatever they take

Message = str | bytes


class Watcher:
    """A browser that watches.  only: the drawing whose previews it wants, None for all."""

    def __init__(self) -> None:
        self.pending: dict[tuple[str, str], Message] = {}
        self.only: str | None = None
        self.wake = asyncio.Event()

    def put(self, key: tuple[str, str], message: Message) -> None:
        """Let a message take the place of an older one with the same key."""
        self.pending.pop(key, None)  # the newest is the last
        self.pending[key] = message
        self.wake.set()

    async def next(self) -> Message:
        """Wait for a message, and return the oldest."""
        while not self.pending:
            self.wake.clear()
            await self.wake.wait()
        return self.pending.pop(next(iter(self.pending)))


class Hub:
    """What has changed, and who is to be told.  Its methods `event` and `preview` may be called on any thread."""

    def __init__(self) -> None:
        self.watchers: set[Watcher] = set()
        self._changed: dict[tuple[str, str], dict[str, Any] | Callable[[], bytes]] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()

    def event(self, key: tuple[str, str], event: dict[str, Any]) -> None:
        """Publish an event, JSON, in the place of an older one with the same key."""
        self._publish(key, event)

    def preview(self, drawing: str, encode: Callable[[], bytes]) -> None:
        """Publish the newest preview of a drawing.  encode: makes it, on the server's thread, if anybody watches."""
        self._publish(("preview", drawing), encode)

    def _publish(self, key: tuple[str, str], content: dict[str, Any] | Callable[[], bytes]) -> None:
        with self._lock:
            first = not self._changed
            self._changed.pop(key, None)
            self._changed[key] = content
        if first and self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    async def rounds(self) -> None:
        """Send what has changed to all watchers, round by round; for as long as the server runs."""
        self._loop = asyncio.get_running_loop()
        used, since = time.thread_time(), time.monotonic()
        while True:
            await self._wake.wait()
            rest = (time.thread_time() - used) / SHARE - (time.monotonic() - since)
            if rest > 0:
                await asyncio.sleep(min(rest, LONGEST))
            used, since = time.thread_time(), time.monotonic()
            self._wake.clear()
            with self._lock:
                changed, self._changed = self._changed, {}
            self._round(changed)  # the watchers' own tasks send it
            await asyncio.sleep(1 / PREVIEWS)

    def _round(self, changed: dict[tuple[str, str], dict[str, Any] | Callable[[], bytes]]) -> None:
        for key, content in changed.items():
            wanting = [each for each in self.watchers if key[0] != "preview" or each.only in (None, key[1])]
            if wanting:
                message = content() if callable(content) else json.dumps(content, separators=(",", ":"))
                for watcher in wanting:
                    watcher.put(key, message)
