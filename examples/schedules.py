"""Recurring schedules: the broker publishes a record at the times of a cron line, exactly once.

There is no process beside the broker that could be down or run twice. This program doesn't wait
for days: it starts a broker by a clock of its own and moves that, as tests do.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import penstock.sync
from penstock.testing import VirtualClock, broker

TOPIC = "reports"
BERLIN = ZoneInfo("Europe/Berlin")


def main() -> None:
    # On the next day the clocks of Berlin go forward an hour.
    clock = VirtualClock(datetime(2026, 3, 28, 6, 0, tzinfo=UTC))
    with broker(clock=clock), penstock.sync.connect(clock.address) as client:
        client.admin.create_topic(TOPIC)
        client.admin.create_schedule(
            TOPIC, "morning", "0 8 * * mon-fri", time_zone="Europe/Berlin", value=b"make the report"
        )
        [schedule] = client.admin.list_schedules(TOPIC)
        print(f"{schedule.name}: {schedule.cron} ({schedule.time_zone})")

        clock.advance("3d12h")
        with client.subscribe(TOPIC, start="earliest") as records:
            for record in records.fetch(wait=1.0):
                print(f"{record.timestamp.astimezone(BERLIN):%A %d %B %H:%M %Z}: {record.value!r}")

        client.admin.delete_schedule(TOPIC, "morning")
        clock.advance("7d")
        [figures] = client.admin.describe_topic(TOPIC).partitions
        print(f"{figures.high_watermark} records after it was deleted, as before")


if __name__ == "__main__":
    main()
