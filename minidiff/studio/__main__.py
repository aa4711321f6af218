"""The command that opens the studio: `python -m minidiff.studio`.

Idea: kernels may run on the main thread only, so the main thread draws (engine.py), and the web server runs beside it
in a thread of its own.  They share nothing but calls to the engine and what it publishes.
Leaves out what is served: app.py.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from types import FrameType

from minidiff import backend, command_line, compile_beside
from minidiff.errors import MinidiffError, exit_with_one_line
from minidiff.interop import files_of
from minidiff.studio.config import StudioConfig

PORTS = 65535


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default the process's."""
    config = command_line.read(StudioConfig, "studio", sys.argv[1:] if arguments is None else arguments)
    backend.use(config.backend, config.threads)
    compile_beside.start(compile_beside.DRAWING)
    lacking = [name for name in ("starlette", "uvicorn", "websockets") if find_spec(name) is None]
    if lacking:
        raise MinidiffError(f"the studio needs {' and '.join(lacking)}: pip install 'minidiff[studio]'")
    check_folders(config)
    with listening(config.host, config.port) as listener, interrupts() as interrupted:
        serve(config, listener, interrupted)


def check_folders(config: StudioConfig) -> None:
    """Raise MinidiffError, before anything is drawn, for a folder that cannot be written or is no model."""
    for path in config.diffusers:
        files_of(path)
    try:
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MinidiffError(f"cannot make the folder --out {config.out}: {error.strerror}") from error
    if not os.access(config.out, os.W_OK | os.X_OK):
        raise MinidiffError(f"cannot write into the folder --out {config.out}")


def serve(config: StudioConfig, listener: socket.socket, interrupted: threading.Event) -> None:
    """Serve the page on a listening socket, and draw, until an interrupt."""
    import uvicorn  # here, after the extra is known to be there

    from minidiff.studio.access import address_hosts, is_loopback, new_token
    from minidiff.studio.app import make_app
    from minidiff.studio.serve import server_config
    from minidiff.studio.service import Service

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    service, port = Service(config), listener.getsockname()[1]
    service.engine.stopping = interrupted
    token = None if is_loopback(config.host) else new_token()
    server = uvicorn.Server(server_config(make_app(service, address_hosts(config.host, port), token)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server", daemon=True)
    thread.start()
    service.models.load("m0")  # so that a wrong --checkpoint is answered here
    host = f"[{config.host}]" if ":" in config.host else config.host
    address = f"http://{host}:{port}/" + (f"?token={token}" if token else "")
    print(f"minidiff studio: {address}", flush=True)
    if config.open:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    service.engine.call(service.warm_up)
    try:
        service.engine.run()
    finally:
        server.should_exit = True
        service.close()
        thread.join(timeout=5)
    raise KeyboardInterrupt  # which only `interrupted` has told


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Open a listening socket.  Raises MinidiffError if the address is taken, or is none of this computer's."""
    if not 0 <= port <= PORTS:
        raise MinidiffError(f"--port must be from 0 to {PORTS}, got {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()  # before the address is printed, as the server begins a moment later
    except OSError as error:
        raise MinidiffError(f"cannot listen on {host} port {port}: {error.strerror}; try another --port") from error
    with listener:
        yield listener


@contextlib.contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Let Ctrl-C and SIGTERM end the studio: finished images are saved first.

    Sets the event, and raises KeyboardInterrupt.  While a kernel is compiled, the exception may come where the compiler
    cannot pass it on, and is lost; the engine looks at the event, too.
    """
    interrupted = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    before = [(number, signal.signal(number, interrupt)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield interrupted
    finally:
        for number, handler in before:
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
