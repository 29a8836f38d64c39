"""The octets of one job as mailboxes get them, piece by piece, for a thread.

Mail passes as it came, with one exception: the lines of a Maildir end with LF, and what came with BODY=BINARYMIME (RFC 3030 3)
has octets that are no lines.  So it is looked at first, once for all recipients, and its binary parts are encoded on the way in
(smtp/convert/).  What cannot be encoded goes back with 554 5.6.1, as if a server did not take it.
A body that is not at hand is pulled from its reader, which lives on the reactor thread: memory stays flat.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Any, Final

from twisted.internet.threads import blockingCallFromThread

from mta.envelope import Flag, Job
from mta.interfaces import IBodyReader
from mta.smtp.convert.conversion import Conversion
from mta.smtp.convert.entity import Odd
from mta.smtp.convert.survey import Findings, Plan, Survey
from mta.status import Scope, permanent, transient

__all__ = ["Content"]

_BINARYMIME: Final = int(Flag.BINARYMIME)


class Content:
    """Of one job.  reactor: where the readers of bodies live.  converted: what was, for the log, known when it has been read."""

    def __init__(self, reactor: Any, job: Job) -> None:
        self._reactor = reactor
        self._job = job
        self._plan: Plan | None = None
        self._looked = not job.message.flags & _BINARYMIME

    @property
    def converted(self) -> str:
        """See the class."""
        return "" if self._plan is None else "binary"

    def pieces(self) -> Generator[bytes, None, None]:
        """All of it, from the beginning; to be closed.  MailError where it cannot be had in lines, or is not what it was."""
        if not self._looked:
            self._plan, self._looked = _plan(self._findings()), True
        with closing(self._octets()) as octets:
            if self._plan is None:
                yield from octets
                return
            conversion = Conversion(self._plan)
            try:
                for piece in octets:
                    yield conversion.convert(piece)
                yield conversion.finish()
            except Odd as error:
                raise transient("4.3.0", "the body cannot be read", scope=Scope.MESSAGE, reason=str(error)) from error

    def _findings(self) -> Findings:
        survey = Survey()
        with closing(self._octets()) as octets:
            for piece in octets:
                survey.look(piece)
        return survey.findings()

    def _octets(self) -> Generator[bytes, None, None]:
        """As they came, prefix first."""
        job = self._job
        yield job.message.prefix
        if job.body is not None:
            yield job.body
            return
        reader = blockingCallFromThread(self._reactor, job.open_body)
        try:
            while piece := self._read(reader):
                yield piece
        finally:
            blockingCallFromThread(self._reactor, reader.close)

    def _read(self, reader: IBodyReader) -> bytes:
        piece: bytes = blockingCallFromThread(self._reactor, reader.read)  # type: ignore[arg-type]  # overload of T and Deferred[T]
        return piece


def _plan(findings: Findings) -> Plan | None:
    """How its parts are encoded, None where nothing is to be done; what is in lines already can always stay."""
    plan = findings.mailbox_plan()
    if isinstance(plan, Plan):
        return plan if any(plan.encodings) else None
    if findings.bare:
        text = f"The mailbox does not take binary bodies; this one cannot be converted: {plan}"
        raise permanent("5.6.1", text, code=554, scope=Scope.MESSAGE)
    return None
