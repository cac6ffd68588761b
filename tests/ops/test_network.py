"""Network of namespaces: what it cuts does not pass, and passes again when it is healed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from ops.faults.network import Network

pytestmark = pytest.mark.skipif(not Network.possible(), reason="namespaces can't be made here")

_ANSWER = """
import socket, sys
server = socket.create_server((sys.argv[1], 7400))
print("ready", flush=True)
while True:
    server.accept()[0].close()
"""
_CALL = "import socket, sys; socket.create_connection((sys.argv[1], 7400), timeout=0.5)"


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(2) as made:
        command = [*made.prefix(0), sys.executable, "-c", _ANSWER, made.address(0)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            yield made
            server.kill()


def _reaches(network: Network, prefix: list[str]) -> bool:
    command = [*prefix, sys.executable, "-c", _CALL, network.address(0)]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0


def test_a_way_that_is_cut_carries_nothing_until_it_is_healed(network: Network) -> None:
    assert _reaches(network, network.prefix(1))
    network.cut([(1, 0)])
    assert not _reaches(network, network.prefix(1))
    assert _reaches(network, [])
    network.heal()
    assert _reaches(network, network.prefix(1))


def test_a_slow_place_is_reached_all_the_same(network: Network) -> None:
    network.slow(0)
    assert _reaches(network, network.prefix(1))
    network.heal()


def test_a_place_has_a_network_of_its_own_and_no_mounts_of_its_own(network: Network) -> None:
    look = "import os; print(*(os.readlink(f'/proc/self/ns/{kind}') for kind in ('net', 'mnt')))"
    here, there = (
        subprocess.run(
            [*prefix, sys.executable, "-c", look], check=True, capture_output=True, text=True
        ).stdout.split()
        for prefix in ([], network.prefix(1))
    )
    assert here[0] != there[0]
    assert here[1] == there[1]
