"""The WebSocket of the studio: events as JSON, previews as bytes, each as soon as the browser takes it.

Idea: two tasks a browser.  One sends what the hub has put aside for it, the other reads what it wants to watch.
Leaves out what is sent, and how often: hub.py.
"""

import asyncio
import contextlib

from starlette.websockets import WebSocket, WebSocketDisconnect

from minidiff.files import parse_json
from minidiff.studio.hub import Watcher
from minidiff.studio.service import Service

MAX_ASKED = 1000  # characters of a message


class Watch:
    """The endpoint /api/watch."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def __call__(self, socket: WebSocket) -> None:
        """Serve one browser until it leaves, or sends what nobody expects."""
        await socket.accept()
        watcher, hub = Watcher(), self.service.hub
        hub.watchers.add(watcher)
        tasks = [asyncio.ensure_future(self._send(socket, watcher)), asyncio.ensure_future(self._read(socket, watcher))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hub.watchers.discard(watcher)
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError, OSError):
                    await task

    async def _send(self, socket: WebSocket, watcher: Watcher) -> None:
        while True:
            message = await watcher.next()
            if isinstance(message, str):
                await socket.send_text(message)
            else:
                await socket.send_bytes(message)

    async def _read(self, socket: WebSocket, watcher: Watcher) -> None:
        while True:
            message = await socket.receive()
            if message["type"] != "websocket.receive":
                return
            text = message.get("text")
            try:
                asked = parse_json(text, "it") if text and len(text) <= MAX_ASKED else None
            except ValueError:
                asked = None
            if not isinstance(asked, dict) or not isinstance(asked.get("watch"), str):
                await socket.close(1003, 'expected {"watch": "d1"} or {"watch": "all"}')
                return
            watcher.only = None if asked["watch"] == "all" else asked["watch"]
