# Made from shared_admin.py by `python -m ops.twins`: change that one.
"""Administration of shared groups, dead letters, delays and schedules in blocking programs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from penstock._core.options import Duration, seconds
from penstock._core.positions import Start
from penstock._core.scheduler import Ticket
from penstock._core.sharing.administration import ScheduledList, SharedAdmin
from penstock._core.sharing.letters import (
    DeadLetter,
    DeadLetterPage,
    LetterFilter,
    Place,
    RedriveReport,
)
from penstock.errors import BadRequest
from penstock.protocol.sharing import (
    AlterGroupReply,
    CancelScheduledReply,
    CreateGroupReply,
    CreateScheduleReply,
    DeleteScheduleReply,
    DescribeSharedReply,
    ExplainRecordReply,
    PauseScheduleReply,
    RecordState,
    ScheduleInfo,
)

if TYPE_CHECKING:
    from penstock._drivers.blocking import BlockingDriver

Moment = datetime | str
Text = bytes | str | None
Edit = Callable[[DeadLetter], bytes | str | None]
"""Gives a dead letter's new value, or None to leave it as it is."""

PAGE = 1000
LARGE_PAGE = 5000
"""Where nobody sees the pages: fewer waits for a broker's answer."""


class BlockingSharedAdmin:
    """What is administered beside topics and ordered groups.

    `topic` and `group` always name the group that failed and the topic that it failed on, never the
    dead-letter topic.
    """

    _driver: BlockingDriver
    _shared: SharedAdmin

    # ----- groups

    def create_group(
        self,
        topic: str,
        group: str,
        config: Mapping[str, object] | None = None,
        *,
        start: Start = "earliest",
        if_not_exists: bool = False,
        dry_run: bool = False,
    ) -> CreateGroupReply:
        """Create a shared group on a topic; its settings are listed in the guide.

        Raises:
            GroupExists: there is one, and `if_not_exists` was not given.
            TopicNotFound: there is no such topic.
            InvalidName, InvalidConfig, PreconditionFailed: the broker does not take it.
        """
        operation = self._shared.create_group(topic, group, config, start, if_not_exists, dry_run)
        return self._driver.run(operation)

    def alter_group(
        self, topic: str, group: str, config: Mapping[str, object], *, dry_run: bool = False
    ) -> AlterGroupReply:
        """Change settings of a shared group (None resets one); its members need no restart.

        Raises:
            GroupNotFound: there is no such group.
        """
        return self._driver.run(self._shared.alter_group(topic, group, config, dry_run))

    def describe_shared(self, topic: str, group: str) -> DescribeSharedReply:
        """A shared group with its members and figures in every partition.

        Partitions without a leader are waited for, a second at the most: `missing` names those that
        nobody told of, and only with none of these the figures are complete.

        Raises:
            GroupNotFound: there is no such group.
        """
        return self._driver.run(self._shared.describe_shared(topic, group))

    def explain(
        self,
        topic: str,
        partition: int,
        offset: int,
        group: str = "",
        *,
        patience: Duration | None = None,
    ) -> ExplainRecordReply:
        """What has become of a record, for one group or for each.

        Args:
            topic: the topic.
            partition: where the record is.
            offset: which it is there.
            group: only this group; by default each.
            patience: how long to wait while the partition has no leader, if not as long as for
                any request.

        Raises:
            TopicNotFound, PartitionNotFound: there is nothing of that name or number.
            LeaderUnknown: the partition has no leader.
        """
        limit = None if patience is None else seconds(patience, "patience")
        operation = self._shared.explain(topic, partition, offset, group, limit)
        return self._driver.run(operation)

    def stuck(
        self,
        topic: str,
        group: str,
        limit: int = 20,
        partitions: Collection[int] | None = None,
    ) -> list[tuple[int, RecordState]]:
        """The records that hold a shared group back, and why: (partition, state), longest first.

        Args:
            topic: the topic.
            group: the group.
            limit: at most so many.
            partitions: only these; by default all, and each of them must have a leader.

        Raises:
            GroupNotFound: there is no such group.
            LeaderUnknown: a partition has no leader.
        """
        return self._driver.run(self._shared.stuck(topic, group, limit, partitions))

    # ----- dead letters

    def dead_letters(
        self,
        topic: str,
        group: str,
        *,
        reason: str | None = None,
        error: str | None = None,
        key: Text = None,
        headers: Mapping[str, bytes | str] | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        failed: int = 0,
        where: Callable[[DeadLetter], bool] | None = None,
        partition: int | None = None,
        after: Mapping[int, int] | None = None,
        limit: int = PAGE,
    ) -> DeadLetterPage:
        """A page of a group's dead letters: those that fit all filters; iterate over it.

        Args:
            topic: the topic that the group works on.
            group: the group.
            reason: exactly this is their `cause` or `reason`.
            error: the error of one of their attempts contains this.
            key: they have this key.
            headers: they have all these headers.
            since: they died at or after this: a datetime, or "-1h".
            until: they died before this.
            failed: at least so many attempts failed or ran out of time.
            where: any other condition.
            partition: only those of this partition.
            after: where to go on, `after` of the page before.
            limit: of the letters on the page; a page may hold fewer, and none, before the last.

        Raises:
            GroupNotFound: the group has no dead-letter topic.
        """
        wanted = self._filter(reason, error, key, headers, since, until, failed, where)
        operation = self._shared.dead_letters.page(topic, group, wanted, partition, after, limit)
        return self._driver.run(operation)

    def redrive_letters(
        self,
        letters: Sequence[DeadLetter],
        *,
        values: Mapping[Place, bytes | str | None] | None = None,
        force: bool = False,
    ) -> RedriveReport:
        """Give dead letters back to their group, and to no other one.

        Args:
            letters: as `dead_letters` gave them.
            values: (partition, offset) in the dead-letter topic -> another value.
            force: also those that were redriven `redrives_max` times already.
        """
        return self._driver.run(self._shared.dead_letters.redrive(letters, values, force))

    def purge_letters(self, letters: Sequence[DeadLetter]) -> int:
        """Settle dead letters without delivering them again; returns how many there were."""
        return self._driver.run(self._shared.dead_letters.purge(letters))

    def redrive(
        self,
        topic: str,
        group: str,
        *,
        reason: str | None = None,
        error: str | None = None,
        key: Text = None,
        headers: Mapping[str, bytes | str] | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        failed: int = 0,
        where: Callable[[DeadLetter], bool] | None = None,
        dry_run: bool = False,
        rate: float | None = None,
        edit: Edit | None = None,
        force: bool = False,
    ) -> RedriveReport:
        """Give all dead letters that fit back to their group; filters as of `dead_letters`.

        What dies meanwhile is left alone. Interrupted, it can be begun again: what was given back
        is no dead letter any more.

        Args:
            topic: the topic that the group works on.
            group: the group.
            reason: exactly this is their `cause` or `reason`.
            error: the error of one of their attempts contains this.
            key: they have this key.
            headers: they have all these headers.
            since: they died at or after this: a datetime, or "-1h".
            until: they died before this.
            failed: at least so many attempts failed or ran out of time.
            where: any other condition.
            dry_run: count them, and change nothing.
            rate: at most so many a second.
            edit: is shown each and returns its new value, or None to leave it as it is.
            force: also those that were redriven `redrives_max` times already.

        Raises:
            GroupNotFound: the group has no dead-letter topic.
        """
        if rate is not None and not rate > 0:
            raise BadRequest("rate is above zero")
        wanted = self._filter(reason, error, key, headers, since, until, failed, where)
        if wanted.fits_all and edit is None and rate is None and not dry_run:
            every = self._shared.dead_letters.redrive_all(topic, group, force)
            return self._driver.run(every)
        report = RedriveReport()
        size = LARGE_PAGE if edit is None else PAGE
        size = size if rate is None else max(1, min(PAGE, int(rate)))
        for letters in self._pages(topic, group, wanted, size):
            report.matched += len(letters)
            if dry_run or not letters:
                continue
            values = {}
            for letter in letters if edit is not None else ():
                value = edit(letter) if edit is not None else None
                if value is not None:
                    values[letter.place] = value
            done = self._shared.dead_letters.redrive(letters, values, force)
            report.add(self._driver.run(done))
            if rate is not None:
                self._driver.wait(self._pause(len(letters) / rate))
        return report

    def purge_dead(
        self,
        topic: str,
        group: str,
        *,
        reason: str | None = None,
        error: str | None = None,
        key: Text = None,
        headers: Mapping[str, bytes | str] | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        failed: int = 0,
        where: Callable[[DeadLetter], bool] | None = None,
        dry_run: bool = False,
    ) -> int:
        """Settle all dead letters that fit, without delivering them again; returns how many.

        Filters as of `dead_letters`.

        Raises:
            GroupNotFound: the group has no dead-letter topic.
        """
        wanted = self._filter(reason, error, key, headers, since, until, failed, where)
        count = 0
        for letters in self._pages(topic, group, wanted, LARGE_PAGE):
            count += len(letters) if dry_run else self.purge_letters(letters)
        return count

    # ----- delayed records

    def list_scheduled(
        self, topic: str, partition: int | None = None, limit: int = 1000
    ) -> ScheduledList:
        """The records of a topic that wait for their time, soonest first, and their number."""
        return self._driver.run(self._shared.list_scheduled(topic, partition, limit))

    def cancel_scheduled(
        self, topic: str, partition: int, ids: Sequence[int]
    ) -> CancelScheduledReply:
        """Cancel records that wait for their time, by the ids of their receipts."""
        return self._driver.run(self._shared.cancel_scheduled(topic, partition, ids))

    # ----- recurring schedules

    def create_schedule(
        self,
        topic: str,
        name: str,
        cron: str,
        *,
        time_zone: str = "UTC",
        catch_up: str = "one",
        value: Text = None,
        key: Text = None,
        headers: Mapping[str, bytes | str] | None = None,
        partition: int | None = None,
        replace: bool = False,
    ) -> CreateScheduleReply:
        """Have a record published at the times of a cron expression, by the broker itself.

        Args:
            topic: where to.
            name: unique on the topic.
            cron: for example "0 9 * * mon-fri".
            time_zone: for example "Europe/Berlin".
            catch_up: after a stop: "skip" what was missed, fire "one", or fire "all".
            value: the payload of each record.
            key: its key.
            headers: its headers.
            partition: where it lies and fires; by default where its key belongs, or its name.
            replace: change the schedule of that name, if there is one.

        Raises:
            BadRequest: the expression or the time zone can't be read.
            PreconditionFailed: there is a schedule of that name.
        """
        operation = self._shared.create_schedule(
            topic,
            name,
            cron,
            time_zone=time_zone,
            catch_up=catch_up,
            value=value,
            key=key,
            headers=headers,
            partition=partition,
            replace=replace,
        )
        return self._driver.run(operation)

    def list_schedules(self, topic: str | None = None) -> list[ScheduleInfo]:
        """The recurring schedules of a topic, or of all topics."""
        return self._driver.run(self._shared.list_schedules(topic))

    def pause_schedule(self, topic: str, name: str, paused: bool = True) -> PauseScheduleReply:
        """Pause a schedule, or let it go on with `paused=False`.

        Raises:
            ScheduleNotFound: there is none of that name.
        """
        return self._driver.run(self._shared.pause_schedule(topic, name, paused))

    def delete_schedule(self, topic: str, name: str) -> DeleteScheduleReply:
        """Delete a schedule; what it has published stays.

        Raises:
            ScheduleNotFound: there is none of that name.
        """
        return self._driver.run(self._shared.delete_schedule(topic, name))

    # ----- inside

    def _pages(
        self, topic: str, group: str, wanted: LetterFilter, size: int
    ) -> Iterator[list[DeadLetter]]:
        """What is there at the beginning, page by page."""
        dead = self._shared.dead_letters
        ends = self._driver.run(dead.ends(topic, group))
        after: Mapping[int, int] | None = {}
        while after is not None:
            operation = dead.page(topic, group, wanted, None, after, size, ends)
            page = self._driver.run(operation)
            yield page.letters
            after = page.after

    def _pause(self, seconds: float) -> Ticket[None]:
        self._driver.call(self._driver.touch)
        return self._driver.call(self._driver.core.scheduler.sleep, seconds)

    def _filter(
        self,
        reason: str | None,
        error: str | None,
        key: Text,
        headers: Mapping[str, bytes | str] | None,
        since: Moment | None,
        until: Moment | None,
        failed: int,
        where: Callable[[DeadLetter], bool] | None,
    ) -> LetterFilter:
        self._driver.call(self._driver.touch)
        return LetterFilter(
            reason=reason,
            error=error,
            key=key,
            headers=headers,
            since=since,
            until=until,
            failed=failed,
            where=where,
            wall_us=self._driver.core.scheduler.wall_us,
        )
