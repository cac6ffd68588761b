"""Carries out `broker/OPERATIONS.md` as it is written, on real processes under load.

    python -m ops.faults.procedures

Each section's command lines are taken from the page; hosts become ports of this machine, and
directories lie in a folder that goes in the end. A program publishes all the while. Prints each
step with the longest pause of publishing in it. The exit code is 1 if a command fails, or a record
is lost or doubled.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ops.faults.broker import ROOT, BrokerProcess, wait_until
from ops.faults.cluster import free_ports
from penstock import sync

PAGE: Final = ROOT / "broker" / "OPERATIONS.md"
COMMAND_SECONDS: Final = 120.0
SETTLED_SECONDS: Final = 60.0
HOSTS: Final = ("n1", "n2", "n3", "n4")
TOPIC: Final = "orders"


def section(title: str) -> list[str]:
    """The command lines of a section, in code blocks and code spans, without comments."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    if found is None:
        raise SystemExit(f"the page has no section {title!r}")
    lines = re.findall(r"`(penstock [^`\n]+)`|^ {4,}(penstock .*)$", found[1], re.MULTILINE)
    return [(span or block).partition("#")[0].strip() for span, block in lines]


class Publisher(threading.Thread):
    """Publishes numbers, one at a time."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._end = threading.Event()
        self.acknowledged = 0
        self.longest = 0.0
        self.error = ""

    def run(self) -> None:
        """Until `stop`."""
        last = time.monotonic()
        try:
            with sync.connect(self._address) as client:
                while not self._end.wait(0.002):
                    client.publish(TOPIC, b"%d" % self.acknowledged, partition=0)
                    self.acknowledged += 1
                    now = time.monotonic()
                    self.longest, last = max(self.longest, now - last), now
        except Exception as error:
            self.error = repr(error)

    def stop(self) -> None:
        """End after the record that is under way."""
        self._end.set()
        self.join()


class Procedures:
    """The page, section by section."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = dict(zip(HOSTS, free_ports(len(HOSTS)), strict=True))
        self._brokers: dict[str, BrokerProcess] = {}
        self.address = ",".join(self._place(host) for host in HOSTS[:3])
        self._publisher: Publisher | None = None

    def _place(self, host: str) -> str:
        return f"127.0.0.1:{self._ports[host]}"

    def _told(self, line: str) -> list[str]:
        """The words of a command line of the page, as they are here."""
        for host in HOSTS:
            line = re.sub(rf"\b{host}(:7400)?\b", self._place(host), line)
        return shlex.split(line)

    # ----- what the page says

    def command(self, line: str, *, asks: bool = False) -> str:
        """Run a command line of the page; returns what it printed.

        What asks a person for a yes is told so at once.
        """
        words = self._told(line)[1:] + ["--yes"] * asks
        paths = os.pathsep.join([str(ROOT / "client"), str(ROOT / "broker")])
        done = subprocess.run(
            [sys.executable, "-m", "penstock.cli", *words],
            env={**os.environ, "PYTHONPATH": paths, "PENSTOCK_SERVER": self.address},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{line}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def serve(self, host: str, line: str) -> None:
        """Start a broker as a line of the page says, on a directory of its own."""
        words = self._told(line)[2:]
        options = words[words.index("--join") :]
        folder = self._folder / host
        label = ["--host-label", host]
        broker = BrokerProcess(folder, address=self._place(host), options=[*options, *label])
        self._brokers[host] = broker
        broker.spawn()
        if not wait_until(lambda: broker.listens, SETTLED_SECONDS):
            raise SystemExit(f"{line}: does not listen\n{broker.log()}")

    def healthy(self) -> None:
        """What the page says before each next step."""
        self.command("penstock cluster health --watch --exit-when-healthy")

    def listed(self, count: int) -> None:
        """Wait until the status lists so many brokers."""

        def all_there() -> bool:
            with sync.connect(self.address) as client:
                return len(client.admin.metadata().nodes) == count

        if not wait_until(all_there, SETTLED_SECONDS):
            raise SystemExit(f"there are not {count} brokers")

    def one(self, lines: list[str], *words: str) -> str:
        """The line that has these words."""
        found = [line for line in lines if all(word in line.split() for word in words)]
        if not found:
            raise SystemExit(f"the page has no command with {' '.join(words)}")
        return found[0]

    # ----- sections

    def form(self) -> None:
        """Three brokers."""
        lines = section("Form")
        for host in HOSTS[:3]:
            self.serve(host, self.one(lines, "serve").replace("--listen n1", f"--listen {host}"))
        self.command(self.one(lines, "init"))
        self.command(self.one(lines, "health"))
        self.command(self.one(lines, "create"))
        self._publisher = Publisher(self.address)
        self._publisher.start()

    def look(self) -> None:
        """All that shows something; what shows it for ever is left out."""
        for line in section("See how it is"):
            if line != "penstock top":
                self.command(line)

    def grow(self) -> None:
        """A fourth broker, until all is balanced."""
        (line,) = [line for line in section("Grow") if "serve" in line]
        self.serve("n4", line)
        self.listed(4)
        self.command("penstock cluster members")
        self.healthy()

    def move(self) -> None:
        """By hand, and the lead alone."""
        for line in section("Move by hand"):
            self.command(line)

    def restart(self) -> None:
        """One after the other."""
        for host in list(self._brokers):
            broker = self._brokers[host]
            if broker.stop():
                raise SystemExit(f"{host} did not stop in order\n{broker.log()[-2000:]}")
            broker.start()
            self.command(self.one(section("Restart one broker"), "health"))

    def upgrade(self) -> None:
        """The version is the same here; all else is as it is written."""
        self.restart()
        self.command("penstock cluster status")
        for line in ("upgrade --dry-run", "upgrade"):
            self.command(self.one(section("Upgrade"), *line.split()))

    def disk_lost(self) -> None:
        """An empty directory at the same address."""
        broker = self._brokers["n2"]
        broker.kill()
        shutil.rmtree(broker.data)
        broker.start()
        self.command(self.one(section("A disk is lost"), "health"))

    def machine_lost(self) -> None:
        """The node is removed by its number."""
        lines = section("A machine is lost for ever")
        with sync.connect(self.address) as client:
            ids = {node.address: node.id for node in client.admin.metadata().nodes}
        lost = ids[self._place("n3")]
        self._brokers.pop("n3").kill()
        self.command(lines[0])
        for line in lines[1:]:
            dry = "--dry-run" in line
            self.command(line.replace("remove 3", f"remove {lost}"), asks=not dry)
        self.healthy()
        shutil.rmtree(self._folder / "n3")
        serve = self.one(section("Form"), "serve")
        self.serve("n3", serve.replace("--listen n1", "--listen n3"))
        self.listed(4)
        self.healthy()

    def shrink(self) -> None:
        """The fourth broker goes."""
        lines = section("Shrink")
        self.command(self.one(lines, "drain", "--dry-run"))
        self.command(self.one(lines, "drain", "--wait"))
        self.command(self.one(lines, "undrain"))
        self.command(self.one(lines, "drain", "--wait"))
        self._brokers.pop("n4").stop()
        self.command(self.one(lines, "remove"), asks=True)
        self.healthy()

    def restore(self) -> None:
        """All brokers from snapshots of one time: stopped together, copied, started together."""
        self._end_publisher()
        for broker in self._brokers.values():
            broker.stop()
            shutil.copytree(broker.data, broker.folder / "snapshot")
            shutil.rmtree(broker.data)
            (broker.folder / "snapshot").rename(broker.data)
        for broker in self._brokers.values():
            broker.spawn()
        self.listed(3)
        self.healthy()

    # ----- all of it

    def run(self) -> None:
        """Every section in the order of the page.

        Raises:
            SystemExit: something is not as the page says.
        """
        steps: list[Callable[[], None]] = [
            self.form, self.look, self.grow, self.move, self.restart, self.upgrade,
            self.disk_lost, self.machine_lost, self.shrink, self.restore,
        ]  # fmt: skip
        for step in steps:
            start = time.monotonic()
            if self._publisher is not None:
                self._publisher.longest = 0.0
            step()
            pause = self._publisher.longest if self._publisher is not None else 0.0
            words = f"{step.__name__.replace('_', ' '):<16}{time.monotonic() - start:8.1f} s"
            print(f"{words}, longest pause {pause * 1000:6,.0f} ms", flush=True)
        self._verify()

    def _end_publisher(self) -> None:
        assert self._publisher is not None, "it was started when the cluster was formed"
        self._publisher.stop()
        if self._publisher.error:
            raise SystemExit(f"the publisher saw an error: {self._publisher.error}")

    def _verify(self) -> None:
        assert self._publisher is not None, "it was started when the cluster was formed"
        expected, seen = self._publisher.acknowledged, 0
        with sync.connect(self.address) as client:
            end = client.admin.list_offsets(TOPIC, "latest")[0]
            with client.subscribe(TOPIC, partitions=[0]) as records:
                while seen < expected:
                    for record in records.fetch(max_records=10_000, wait=10.0):
                        if int(record.value or b"") != seen:
                            raise SystemExit(f"at {record.offset} is {record.value!r}, not {seen}")
                        seen += 1
        if end != expected:
            raise SystemExit(f"{end} records are there, {expected} were acknowledged")
        print(f"{expected:,} acknowledged records: all there, once, in order")

    def close(self) -> None:
        """End all brokers."""
        for broker in self._brokers.values():
            broker.kill()


def main() -> None:
    """Run, and clean up."""
    with tempfile.TemporaryDirectory() as folder:
        procedures = Procedures(Path(folder))
        try:
            procedures.run()
        finally:
            procedures.close()


if __name__ == "__main__":
    main()
