"""Where `mta queue` gets its facts: from the running service, or from the files of one that is down.

`Service` speaks through the control socket, page by page.  `File` reads a queue's file and its spool, and never writes:
read-only, and leaving no trace (`schema.open_outside`); `Files` are those of all workers.  All give the same facts.  Failures
are click's, with the exit status.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import apsw
import rich_click as click
from twisted.internet.defer import succeed

from mta.cli.ask import NoAnswer, NobodyThere, ask
from mta.control.merge import merged_page, merged_summary
from mta.control.queue_facts import Facts, message_facts, row_facts, selector_of, summary_facts
from mta.control.socket import NAME
from mta.queue.body import Spool
from mta.queue.ids import parse_id
from mta.queue.sqlite import schema, search
from mta.queue.sqlite import statements as sql
from mta.queue.sqlite.alteration import all_dests
from mta.queue.sqlite.files import nodes_in, queue_file, spool_folder
from mta.queue.sqlite.reads import chunk_at, load
from mta.status import MailError

__all__ = ["EX_TEMPFAIL", "Down", "File", "Files", "Refused", "Service", "Source", "source_at"]

EX_TEMPFAIL: Final = 75  # sysexits.h: come again
PIECE: Final = 65536  # bytes
ALL: Final = sys.maxsize
PATIENCE: Final = 60.0  # seconds: a search through a long queue takes some


class Down(click.ClickException):
    """The service does not run, or does not answer."""

    exit_code = EX_TEMPFAIL


class Refused(click.ClickException):
    """The service, or the file, says no."""


class Source(Protocol):
    """What the commands that only look need."""

    def page(self, selector: Facts, after: int, limit: int) -> tuple[list[Facts], int]:
        """At most `limit` recipients, and `after` of the next page, 0: that was all."""

    def summary(self, limit: int) -> Facts:
        """See `summary_facts`."""

    def message(self, id: str) -> Facts:
        """See `message_facts`.  Refused when it is not there."""


class Service:
    """The running service."""

    def __init__(self, data_dir: Path) -> None:
        self._socket = data_dir / NAME
        self._warned: set[str] = set()

    def ask(self, command: str, seconds: float = PATIENCE, **request: object) -> Facts:
        """The answer.  Down when there is none within so many seconds, Refused when it is no."""
        try:
            answer = ask(self._socket, {"command": command, **request}, seconds)
        except NoAnswer as error:
            raise Down(str(error)) from error
        if not answer.get("ok"):
            raise Refused(str(answer.get("error", "refused, and no reason given")))
        self._warn(answer.get("warning"))
        return answer

    def _warn(self, warning: str | None) -> None:
        """That it is not the whole answer; once."""
        if warning and warning not in self._warned:
            self._warned.add(warning)
            click.echo(f"not all of the queue: {warning}", err=True)

    def page(self, selector: Facts, after: int, limit: int) -> tuple[list[Facts], int]:
        """See Source."""
        answer = self.ask("queue.list", selector=selector, after=after, limit=limit)
        return answer["rows"], answer["after"]

    def summary(self, limit: int) -> Facts:
        """See Source."""
        return self.ask("queue.summary", limit=limit)

    def message(self, id: str) -> Facts:
        """See Source."""
        message: Facts = self.ask("queue.show", id=id)["message"]
        return message


class File:
    """The files of one queue, beside the service or without it."""

    def __init__(self, data_dir: Path, node: int = 0) -> None:
        self.path = queue_file(data_dir, node)
        self.spool = Spool(spool_folder(data_dir, node), succeed)

    @contextmanager
    def open(self) -> Iterator[apsw.Connection]:
        """A connection that cannot write.  Refused, also for what the block meets in the file."""
        try:
            if not self.path.exists():
                raise Refused(f"{self.path}: there is no queue")
            db = self._connect()
        except (apsw.Error, OSError) as error:
            raise Refused(f"{self.path}: {error}") from error
        try:
            yield db
        except (apsw.Error, MailError) as error:
            raise Refused(f"{self.path}: {error}") from error
        finally:
            db.close()

    def _connect(self) -> apsw.Connection:
        db = schema.open_outside(self.path)
        found = db.pragma("application_id"), db.pragma("user_version")
        if found[0] != schema.APPLICATION_ID or found[1] != schema.VERSION:
            db.close()
            raise Refused(f"{self.path}: not a queue of this version of mta (version {found[1]}; the service brings old ones up)")
        return db

    def page(self, selector: Facts, after: int, limit: int) -> tuple[list[Facts], int]:
        """See Source."""
        wanted, found = selector_of(selector), list[Facts]()
        with self.open() as db:
            while True:
                rows, after = search.page(db, wanted, after, limit - len(found))
                found += [row_facts(row) for row in rows]
                if not after or len(found) >= limit:
                    return found, after

    def summary(self, limit: int) -> Facts:
        """See Source."""
        summary = search.Summary(int(time.time() * 1000))
        with self.open() as db:
            while summary.bite(db):
                pass
            return summary_facts(summary.largest(limit), all_dests(db))

    def has(self, id: str) -> bool:
        """The message is in it."""
        with self.open() as db:
            return db.execute(sql.EXISTS, (parse_id(id),)).get is not None

    def message(self, id: str) -> Facts:
        """See Source."""
        with self.open() as db:
            if db.execute(sql.EXISTS, (parse_id(id),)).get is None:
                raise Refused(f"the message {id} is not in the queue")
            stored = load(db, parse_id(id))
        body = stored.body if stored.body is not None else next(self.body(id), b"")
        return message_facts(stored.message, body)

    def body(self, id: str) -> Iterator[bytes]:
        """The body in pieces, as it arrived.  Refused when it is not there (any more)."""
        number = parse_id(id)
        with self.open() as db:
            row = db.execute(sql.BODY_PLACE, (number,)).fetchone()
            if row is None:
                raise Refused(f"the message {id} is not in the queue")
            chunk, left = row
            while chunk >= 0 and left > 0:
                yield (piece := chunk_at(db, number, chunk))
                chunk, left = chunk + 1, left - len(piece)
        if chunk < 0:
            yield from self._large(number)

    def whole(self, id: str) -> Iterator[bytes]:
        """The message as it is stored, header first, in pieces."""
        with self.open() as db:
            prefix = db.execute("SELECT prefix FROM message WHERE id=?", (parse_id(id),)).get
        if prefix is None:
            raise Refused(f"the message {id} is not in the queue")
        yield prefix
        yield from self.body(id)

    def _large(self, number: int) -> Iterator[bytes]:
        try:
            with self.spool.path(number).open("rb") as file:
                while piece := file.read(PIECE):
                    yield piece
        except OSError as error:
            raise Refused(f"{error.filename}: {error.strerror}") from error


class Files:
    """The files of all workers, or of the one server that there is."""

    def __init__(self, data_dir: Path) -> None:
        try:
            nodes = nodes_in(data_dir)
        except OSError as error:
            raise Refused(f"{error.filename}: {error.strerror}") from error
        self.each = [File(data_dir, node) for node in nodes or (0,)]

    def page(self, selector: Facts, after: int, limit: int) -> tuple[list[Facts], int]:
        """See Source."""
        return merged_page([file.page(selector, after, limit) for file in self.each], limit)

    def summary(self, limit: int) -> Facts:
        """See Source."""
        return merged_summary([file.summary(ALL) for file in self.each], limit)

    def message(self, id: str) -> Facts:
        """See Source."""
        return self.holding(id).message(id)

    def whole(self, id: str) -> Iterator[bytes]:
        """See File."""
        return self.holding(id).whole(id)

    def holding(self, id: str) -> File:
        """The one with that message; any when there is none, which says so."""
        return next((file for file in self.each if file.has(id)), self.each[0])


def source_at(data_dir: Path) -> Source:
    """The service, or the files when none is running; which, is said on standard error."""
    service = Service(data_dir)
    try:
        service.ask("queue.now")
    except Down as error:
        if not isinstance(error.__cause__, NobodyThere):
            raise
        files = Files(data_dir)
        click.echo(f"the service is down; read from {', '.join(str(file.path) for file in files.each)}", err=True)
        return files
    return service
