"""`penstock dev`: a throw-away broker, and what to paste to use it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile

import click

from penstock.cli import plugins
from penstock.cli.commands import Verb
from penstock.cli.params import NUMBER
from penstock.cli.settings import Settings

PORT = 7400
SNIPPET = """\
import penstock.sync

with penstock.sync.connect("{address}") as client:
    client.publish("{topic}", b"hello")
    with client.subscribe("{topic}") as records:
        print(next(iter(records)).value)"""


@click.command(
    "dev",
    cls=Verb,
    outputs=(),
    local=True,
    examples="penstock dev\npenstock dev --port 0 --topic orders --topic payments",
)
@click.option(
    "--port",
    type=NUMBER,
    metavar="N",
    default=None,
    help=f"Where to listen [default {PORT}, or a free port if that is taken].",
)
@click.option("--disk", is_flag=True, help="Keep records in a temporary directory, not in memory.")
@click.option("--topic", "topics", multiple=True, default=("hello",), help="Create this topic.")
@click.pass_obj
def dev(settings: Settings, port: int | None, disk: bool, topics: tuple[str, ...]) -> None:
    """Start a throw-away broker and show how to use it.

    Everything is gone when it ends: press Ctrl-C.
    """
    start = plugins.load("embed")
    # From here on SIGTERM ends it as Ctrl-C does, so that the directory is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    data = tempfile.mkdtemp(prefix="penstock-dev-") if disk else None
    try:
        with start(data=data, port=_port(port)) as broker:
            settings.server = broker.address
            _create(settings, topics)
            _welcome(settings, broker.address, topics[0], data)
            _wait_for_signal()
    except KeyboardInterrupt:
        settings.say("\nstopped; everything is gone")
    finally:
        if data is not None:
            shutil.rmtree(data, ignore_errors=True)


def _port(port: int | None) -> int:
    if port is not None:
        return port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            return 0
    return PORT


def _create(settings: Settings, topics: tuple[str, ...]) -> None:
    with settings.connect() as client:
        for name in topics:
            client.admin.create_topic(name, if_not_exists=True)


def _welcome(settings: Settings, address: str, topic: str, data: str | None) -> None:
    place = f"in {data}" if data else "in memory"
    settings.say(f"Penstock listens on {address}, records {place}. Try it in Python:\n")
    click.echo(SNIPPET.format(address=address, topic=topic))
    option = "" if address.endswith(f":{PORT}") else f" -s {address}"
    settings.say("\nor in another terminal:\n")
    settings.say(f"  penstock{option} topic list")
    settings.say(f"  penstock{option} tail {topic} -f")
    settings.say("\nCtrl-C ends it and removes everything.")


def _wait_for_signal() -> None:
    """Block until a signal raises KeyboardInterrupt; one that came a moment ago counts too."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    while True:
        os.read(reader, 1)
