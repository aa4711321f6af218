"""`python -m minidiff.studio` as a process: how it starts, what it refuses, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import tiny_model
from PIL import Image

from tests.studio.running import running

ROOT = Path(__file__).parents[2]
LONG = {"prompt": ["a dog"], "steps": 1000, "count": 1}


def run(*words, folder, code=""):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    start = ["-c", f"{code}\nfrom minidiff.studio.__main__ import main\nmain()"] if code else ["-m", "minidiff.studio"]
    command = [sys.executable, *start, *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def one_line(result, said):
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert said in result.stderr


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return tiny_model.write(tmp_path_factory.mktemp("words"), words=tiny_model.WORDS)


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        one_line(run("--port", other.getsockname()[1], folder=tmp_path), "try another --port")
    one_line(run("--port", 70000, folder=tmp_path), "from 0 to 65535, got 70000")
    one_line(run("--host", "no-such-host.invalid", folder=tmp_path), "cannot listen on no-such-host.invalid")


def test_a_model_that_is_not_there_is_one_line(tmp_path):
    one_line(
        run("--port", 0, "--backend", "numpy", "--checkpoint", "nothing.safetensors", folder=tmp_path),
        "nothing.safetensors",
    )


def test_an_autoencoder_is_one_line(tmp_path):
    autoencoder = tiny_model.write_autoencoder(tmp_path / "ae")
    result = run("--port", 0, "--backend", "numpy", "--checkpoint", autoencoder, folder=tmp_path)
    one_line(result, "is an autoencoder, which draws nothing by itself")


def test_without_the_extra_it_is_one_line_and_help_is_there(tmp_path):
    """The packages are as if they were not installed."""
    code = "import sys\nfor name in ('starlette', 'uvicorn', 'websockets'): sys.modules[name] = None"
    one_line(run("--port", "0", folder=tmp_path, code=code), "pip install 'minidiff[studio]'")
    shown = run("--help", folder=tmp_path, code=code)
    assert shown.returncode == 0
    assert "--host" in shown.stdout


def test_other_commands_import_nothing_of_it():
    code = "import sys, minidiff.sample, minidiff.train, minidiff.__main__\n"
    code += "assert not {'starlette', 'uvicorn', 'websockets', 'minidiff.studio'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_in_the_middle_of_a_drawing_and_keeps_what_is_finished(words, tmp_path, number):
    with running("--checkpoint", words, folder=tmp_path) as studio:
        with httpx.Client(base_url=studio.url, timeout=60) as client:
            client.post("/api/drawings", json={"settings": {**LONG, "steps": 2, "count": 3}})
            client.post("/api/drawings", json={"settings": LONG})
            while client.get("/api/drawings/d1").json()["state"] != "done":
                time.sleep(0.02)
            while client.get("/api/drawings/d2").json()["state"] != "running":
                time.sleep(0.02)
        studio.process.send_signal(number)
        assert studio.process.wait(20) == 130
    pictures = sorted(studio.out.glob("*.png"))
    assert len(pictures) == 3
    for path in pictures:
        Image.open(path).load()
    assert [path.name for path in studio.out.iterdir() if path.suffix == ".tmp"] == []
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


def test_another_address_needs_the_token_that_is_printed(words, tmp_path):
    with running("--checkpoint", words, "--host", "0.0.0.0", folder=tmp_path) as studio:
        address = studio.url.replace("0.0.0.0", "127.0.0.1")
        with httpx.Client(base_url=address) as client:
            refused = client.get("/api/state")
            assert (refused.status_code, list(refused.json())) == (401, ["error"])
            assert client.get("/?token=wrong-wrong-wrong-wrong").status_code == 401
            assert "token" not in client.cookies
            shown = studio.line.split("?token=")[1].strip()
            assert client.get(f"/?token={shown}", follow_redirects=False).status_code == 303
            assert client.get("/api/state").status_code == 200
        headers = {"authorization": f"Bearer {shown}"}
        assert httpx.get(f"{address}/api/state", headers=headers).status_code == 200
        assert (
            httpx.get(f"{address}/api/state", headers={**headers, "origin": "http://evil.example"}).status_code == 403
        )
