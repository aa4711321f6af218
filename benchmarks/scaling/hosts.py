"""Several hosts on one machine, as network namespaces, with a network between them that is as slow as one asks for.

Idea: each host is a namespace with a network card of its own; the cards meet in a bridge.  On each card, `tc` sends
packets at the rate, and lets them wait for the latency.  Where the kernel cannot let them wait (without netem), the
processes themselves take note of what has arrived only after the latency: see `member.Late`.
Needs Linux, root, and Debian's iproute2.
"""

import contextlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scaling.group import mpiexec

MOST = 4
NAME = "minidiff"  # of the bridge, and the beginning of the hosts' names
# MPICH's UCX would find out that the hosts are one machine, and use its memory.
BY_NETWORK = {"UCX_TLS": "tcp,self", "UCX_NET_DEVICES": "eth0", "FI_PROVIDER": "tcp"}
# The launcher believes that it calls ssh: options, an address, a command.
AS_SSH = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
host=${1##*.}; shift
exec ip netns exec %s$host sh -c "$*"
"""


@dataclass(frozen=True)
class Network:
    """rate: bits a second.  latency: seconds from one host to another."""

    rate: float
    latency: float

    @property
    def name(self) -> str:
        return f"{self.rate / 1e9:g} Gbit/s, {self.latency * 1e6:g} µs"


FAST, SLOW = Network(10e9, 25e-6), Network(1e9, 200e-6)


class Hosts:
    """Hosts 1, 2, …, with the addresses 10.77.0.1, 10.77.0.2, …

    late: seconds of latency that are left to the processes.
    """

    def __init__(self, number: int, as_ssh: Path, late: float) -> None:
        self.number, self._as_ssh, self.late = number, as_ssh, late

    def launcher(self, processes: int) -> list[str]:
        """Return the words that start a program on so many processes, one a host."""
        addresses = ",".join(f"10.77.0.{k}" for k in range(1, self.number + 1))
        start = ["ip", "netns", "exec", f"{NAME}1", mpiexec(), "-n", str(processes), "-ppn", "1", "-hosts", addresses]
        for name, value in BY_NETWORK.items():
            start += ["-genv", name, value]
        return [*start, "-iface", "eth0", "-launcher", "ssh", "-launcher-exec", str(self._as_ssh)]

    def cut(self, host: int) -> None:
        """Cut the link of a host."""
        run("ip", "link", "set", f"{NAME}v{host}", "down")


def available() -> bool:
    """Whether this process can make hosts."""
    return os.geteuid() == 0 and shutil.which("ip") is not None and shutil.which("tc") is not None


def run(*words: str) -> None:
    """Run a command; raise CalledProcessError if it fails."""
    subprocess.run(words, check=True, capture_output=True)


@contextlib.contextmanager
def hosts(number: int, network: Network) -> Iterator[Hosts]:
    """Make up to four hosts with a network between them, and remove them after the `with` block."""
    remove()
    with tempfile.TemporaryDirectory() as folder:
        as_ssh = Path(folder) / "as_ssh"
        as_ssh.write_text(AS_SSH % NAME)
        as_ssh.chmod(as_ssh.stat().st_mode | stat.S_IEXEC)
        try:
            run("ip", "link", "add", NAME, "type", "bridge")
            run("ip", "link", "set", NAME, "up")
            for k in range(1, number + 1):
                host, outside = f"{NAME}{k}", f"{NAME}v{k}"
                run("ip", "netns", "add", host)
                run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", host)
                run("ip", "link", "set", outside, "master", NAME, "up")
                inside = ("ip", "-n", host)
                run(*inside, "addr", "add", f"10.77.0.{k}/24", "dev", "eth0")
                run(*inside, "link", "set", "eth0", "up")
                run(*inside, "link", "set", "lo", "up")
                late = slow_down(host, network)
            yield Hosts(number, as_ssh, late)
        finally:
            remove()


def slow_down(host: str, network: Network) -> float:
    """Slow the card of a host down; return the seconds of latency that could not be set."""
    card = ("tc", "-n", host, "qdisc", "add", "dev", "eth0", "root")
    rate = f"{network.rate:.0f}bit"
    try:
        run(*card, "netem", "delay", f"{network.latency * 1e6:.0f}us", "rate", rate, "limit", "100000")
    except subprocess.CalledProcessError:
        run(*card, "tbf", "rate", rate, "burst", "1mb", "latency", "100ms")
        return network.latency
    return 0.0


def remove() -> None:
    """Remove what `hosts` has made."""
    for k in range(1, MOST + 1):
        subprocess.run(["ip", "link", "del", f"{NAME}v{k}"], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", f"{NAME}{k}"], check=False, capture_output=True)
    subprocess.run(["ip", "link", "del", NAME], check=False, capture_output=True)
