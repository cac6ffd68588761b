"""A clock that stands still until a test moves it, for a broker and its clients in this process.

Wall-clock time, which leases, delays, schedules, retention and record times follow, stands still
but for `advance`. Monotonic time, by which long polls, sessions and requests are timed, runs on by
itself, so that a fetch with a time limit ends without anybody's help, and leaps along.

`advance` goes from due time to due time and is at rest in between: the broker has carried out what
came due, every request of its clients is answered or waits for something to happen, and async
applications have gone on until they wait. Threads that got something from a blocking client have
some milliseconds to come back to it; what takes longer goes on at a later time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Set
from datetime import UTC, datetime, timedelta
from math import ceil, inf
from typing import Final, Protocol

from penstock._core.positions import datetime_of, microseconds_of
from penstock._drivers.clocks import Driver, Held
from penstock.errors import BadRequest, TimedOut
from penstock.protocol.durations import parse_duration
from penstock.testing.threads import carry_out

STALLED_US: Final = 1_000
"""A step after which to look again at what is due and was not carried out."""
NOTHING: Final[Set[int]] = frozenset()
ROUNDING_US: Final = 0.01
"""Times in seconds are no more exact than this, and whole microseconds are to stay whole."""
REST_SECONDS_MAX: Final = 10.0
"""Real seconds after which a broker and clients that never come to rest are an error."""


class Resting(Protocol):
    """A broker whose time a test moves."""

    def rest(self, *, thorough: bool) -> tuple[float, Mapping[str, Set[int]]]:
        """Carry out all that is due, also what is looked at only now and then if thorough.

        Returns:
            Seconds until something else is due (infinity: nothing is), and for each connection
            (the client's address) the correlation ids of the requests that wait for something to
            happen.
        """


class VirtualClock:
    """Time that only moves when `advance` is called; give it to `penstock.testing.broker`."""

    def __init__(self, start: datetime | None = None) -> None:
        """Begin at an aware datetime, by the millisecond; None: now.

        Raises:
            BadRequest: the datetime has no time zone.
        """
        self.address = ""
        """Where the broker listens that lives by this clock."""
        # Clients round delays up to milliseconds: so they are exact.
        self._start_us = microseconds_of(start or datetime.now(UTC)) // 1000 * 1000
        self._passed_us = 0
        self._broker: Resting | None = None
        self._broker_due = 0
        """Microseconds until something is due in the broker, as of its last rest."""
        self._waiting: Mapping[str, Set[int]] = {}
        """What waited in the broker at that time."""
        self._alarms = _Alarms(self.monotonic)
        self._moving = threading.Lock()

    # ----- for tests

    @property
    def now(self) -> datetime:
        """The time that the broker's wall clock shows."""
        return datetime_of(self.wall_us())

    def advance(
        self, duration: str | float | timedelta = 0.0, *, until: datetime | None = None
    ) -> Awaitable[None]:
        """Let time pass, and everything happen that comes due meanwhile.

        In async code it is to be awaited; in blocking code it is done when the call returns.

        Args:
            duration: seconds, a timedelta, or text such as "1h30m".
            until: a time to go on to, instead of a duration.

        Raises:
            BadRequest: it would go back, or the text is no duration.
            TimedOut: the broker and its clients did not come to rest.
        """
        passes = _microseconds(duration) if until is None else self._until(until)
        if passes < 0:
            raise BadRequest("time does not go back")
        return carry_out(lambda: self._advance(passes))

    # ----- for the broker and the clients

    def wall_us(self) -> int:
        """Microseconds since 1970; stands still."""
        return self._start_us + self._passed_us

    def monotonic(self) -> float:
        """Seconds from some fixed point; goes on by itself."""
        return time.monotonic() + self._passed_us / 1_000_000

    def attach(self, driver: Driver) -> None:
        """A client was opened."""
        self._alarms.add(driver)

    def detach(self, driver: Driver) -> None:
        """A client was closed."""
        self._alarms.remove(driver)

    def alarm(self, driver: Driver, when: float) -> None:
        """Have a client woken at a monotonic time."""
        self._alarms.put(driver, when)

    def serve(self, broker: Resting | None, address: str = "") -> None:
        """Move the time of this broker from now on; None: of none any more."""
        self._broker, self.address = broker, address
        if broker is None:
            self._alarms.stop()

    # ----- moving

    def _until(self, moment: datetime) -> int:
        return microseconds_of(moment) - self.wall_us()

    def _advance(self, passes: int) -> None:
        with self._moving:
            self._rest()
            while passes:
                alarm = self._alarms.next_deadline() - self.monotonic()
                due = min(self._broker_due, _microseconds_up(alarm))
                step = min(passes, due if due > 0 else STALLED_US)
                passes -= step
                self._broker_due -= step
                self._passed_us += step
                if self._broker_due <= 0 or not self._settled(self._alarms.rest(only_late=True)):
                    self._rest()
            self._rest(thorough=True)
            self._rest(thorough=True)  # what was found may have made room for more

    def _rest(self, *, thorough: bool = False) -> None:
        """Wait until nothing is under way."""
        assert self._broker is not None, "the clock has no broker: give it to testing.broker()"
        give_up = time.monotonic() + REST_SECONDS_MAX
        while True:
            held = self._alarms.rest()
            seconds, self._waiting = self._broker.rest(thorough=thorough)
            if self._settled(held):
                self._broker_due = _microseconds_up(seconds)
                return
            if time.monotonic() > give_up:
                busy = {place for place, calls in held if not self._settled([(place, calls)])}
                raise TimedOut(f"these clients did not come to rest: {', '.join(sorted(busy))}")

    def _settled(self, held: list[tuple[str, set[int]]]) -> bool:
        """Whether clients wait for nothing but what waits in the broker for something to happen."""
        return all(calls <= self._waiting.get(place, NOTHING) for place, calls in held)


class _Alarms:
    """The clients of a clock, and a thread that wakes each one when its deadline passes."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._deadlines: dict[Driver, float] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._sleeps_until = inf
        """By the machine's clock, which goes on while the other one leaps."""
        self._stopped = False

    def add(self, driver: Driver) -> None:
        with self._changed:
            self._deadlines.setdefault(driver, inf)
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="penstock-clock")
                self._thread.daemon = True
                self._thread.start()

    def remove(self, driver: Driver) -> None:
        with self._changed:
            self._deadlines.pop(driver, None)

    def put(self, driver: Driver, when: float) -> None:
        with self._changed:
            if driver in self._deadlines:
                self._deadlines[driver] = when
                if time.monotonic() + when - self._monotonic() < self._sleeps_until:
                    self._changed.notify()

    def next_deadline(self) -> float:
        with self._changed:
            return min(self._deadlines.values(), default=inf)

    def rest(self, *, only_late: bool = False) -> list[tuple[str, set[int]]]:
        """Let clients take a turn; what is under way, connection by connection."""
        with self._changed:
            until = self._monotonic() if only_late else inf
            drivers = [driver for driver, when in self._deadlines.items() if when <= until]
        return [item for driver in drivers for item in self._rest(driver).items()]

    def _rest(self, driver: Driver) -> Held:
        found = driver.rest()
        if found is None:  # it can't take turns now, and takes its next one as soon as it can
            self.put(driver, inf)
            driver.wake()
        return found or {}

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _keep(self) -> None:
        while True:
            with self._changed:
                if self._stopped:
                    return
                now = self._monotonic()
                late = [driver for driver, when in self._deadlines.items() if when <= now]
                for driver in late:
                    self._deadlines[driver] = inf
                if not late:
                    pause = min(self._deadlines.values(), default=inf) - now
                    self._sleeps_until = time.monotonic() + pause
                    self._changed.wait(pause if pause < threading.TIMEOUT_MAX else None)
                    self._sleeps_until = -inf
            for driver in late:  # without the lock: a driver that turns sets its next alarm
                driver.wake()


def _microseconds(duration: str | float | timedelta) -> int:
    if isinstance(duration, str):
        return parse_duration(duration) * 1000
    if isinstance(duration, timedelta):
        return duration // timedelta(microseconds=1)
    return round(duration * 1_000_000)


def _microseconds_up(seconds: float) -> int:
    """Microseconds, rounded up; one week for "never": nobody minds a rest in between."""
    return ceil(min(max(seconds, 0.0), 604_800.0) * 1_000_000 - ROUNDING_US)
