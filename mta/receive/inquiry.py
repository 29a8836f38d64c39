"""What the DNS says of a client: its name, confirmed both ways, and the lists that it is on.

RFC 1035 3.5 (PTR), RFC 8601 2.7.3 (iprev: a name counts only when it leads back to the address), RFC 5782 (lists).  All is asked
when the client connects, at the same time, and waited for only where somebody wants to know: the greeting waits for
nothing unless a rule judges names there.  A lookup that fails or takes too long is an answer too: the name is "unknown"
with `client_name_failed`, a list scores nothing and is `silent`.  What a list says of its hit is asked for only when it is
wanted, for who is refused, and once for a client.  A list that is dead, lists everybody or refuses us is told once, and once
when it is well again; its hits are not believed meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from mta.config.receiving import Access, Dnsbl
from mta.dns.answer import Answer
from mta.interfaces import IEventLog, IMailResolver
from mta.receive.access import Address, client_address
from mta.receive.dnsbl import clean_name, clean_text, hits, listed_as, refuses_us
from mta.receive.rules import UNKNOWN

__all__ = ["Inquiries", "Inquiry"]

NAMES: Final = 5  # of a client that are looked at: who has a hundred wants us to ask a hundred questions
NAME_TIME: Final = 10.0  # seconds for the name, forth and back
TEXT_TIME: Final = 2.0  # seconds for what a list says: it decides nothing
CANCELLED: Final = "cancelled"

_HOST: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?")

_Question = Coroutine[Deferred[Any], Any, None]


class Inquiry:
    """About one client.  Reads as it stands; `until` is for who cannot go on without.

    client: whom it is about.  client_name: "" not known yet or not asked for, "unknown" where there is none.  lists: zone ->
    score of its hit.  silent: zone -> score that a hit would have, of those that did not answer.
    """

    __slots__ = ("_asked", "_inquiries", "_texts", "_waiting", "client", "client_name", "client_name_failed", "lists", "silent")

    def __init__(self, inquiries: Inquiries, client: Address) -> None:
        self.client = client
        self.client_name = ""
        self.client_name_failed = False
        self.lists: dict[str, int] = {}
        self.silent: dict[str, int] = {}
        self._texts: dict[str, str] = {}
        self._inquiries = inquiries
        self._asked: dict[str, Deferred[None]] = {}  # "" is the name, else a zone; gone when answered
        self._waiting: list[tuple[bool, bool, Deferred[None]]] = []

    def until(self, stage: str, lists: bool) -> Deferred[None] | None:
        """Fires when all that is needed at a stage is known, None: it is.  lists: may be False for who is not judged by them."""
        name = stage in self._inquiries.named_at
        lists = lists and stage in self._inquiries.scored_at
        if self._knows(name, lists):
            return None
        waiting: Deferred[None] = Deferred()
        self._waiting.append((name, lists, waiting))
        return waiting

    async def text(self, zone: str) -> str:
        """What a list says of the client, fit for a reply; "" where it says nothing in time."""
        if zone not in self._texts:
            self._texts[zone] = await self._inquiries.text(self.client, zone)
        return self._texts[zone]

    def leave(self) -> None:
        """The client has gone: nobody wants to know any more."""
        self._waiting.clear()
        for asked in list(self._asked.values()):
            asked.cancel()

    def ask(self, what: str, answer: _Question, seconds: float, no_answer: Callable[[str], None]) -> None:
        """Ask for the name ("") or a list's verdict.  no_answer: called with the reason when there is none in time."""
        asked: Deferred[Any] = Deferred.fromCoroutine(answer)
        if not asked.called:
            self._asked[what] = asked
            asked.addTimeout(seconds, self._inquiries.clock)
        asked.addErrback(_why).addCallback(self._answered, what, no_answer)

    def _answered(self, why: str | None, what: str, no_answer: Callable[[str], None]) -> None:
        self._asked.pop(what, None)
        if why is not None:
            no_answer(why)
        waiting, self._waiting = self._waiting, []
        for name, lists, deferred in waiting:
            if not self._knows(name, lists):
                self._waiting.append((name, lists, deferred))
            elif not deferred.called:  # cancelled: its time was over
                deferred.callback(None)

    def _knows(self, name: bool, lists: bool) -> bool:
        return not (name and "" in self._asked) and not (lists and any(self._asked))


def _why(failure: Failure) -> str:
    if isinstance(failure.value, CancelledError):
        return CANCELLED
    return "no answer in time" if isinstance(failure.value, TimeoutError) else failure.getErrorMessage()


class Inquiries:
    """Asks.  named_at, scored_at: the stages at which the name, the lists must be known."""

    def __init__(
        self,
        access: Access,
        named_at: frozenset[str],
        *,
        resolver: IMailResolver,
        clock: IReactorTime,
        log: IEventLog,
    ) -> None:
        self.named_at = named_at
        self.scored_at = frozenset({"rcpt"} if access.dnsbl else ())
        self.clock = clock
        self._resolver = resolver
        self._log = log
        self._names = bool(named_at) or access.reverse_dns
        self._lists = access.dnsbl
        self._faults: dict[str, str] = {}  # zone -> what was said of it last

    def begin(self, client: Address, trusted: bool) -> Inquiry:
        """Ask about a client.  trusted: it is not looked up in lists."""
        inquiry = Inquiry(self, client)
        if self._names:
            inquiry.ask("", self._name(inquiry, client), NAME_TIME, lambda why: self._no_name(inquiry))
        for dnsbl in () if trusted else self._lists:
            inquiry.ask(dnsbl.zone, self._list(inquiry, client, dnsbl), dnsbl.timeout, self._fault_of(inquiry, dnsbl))
        return inquiry

    # ---- the name

    async def _name(self, inquiry: Inquiry, client: Address) -> None:
        pointers = await self._resolver.query(client.reverse_pointer, "PTR")
        failed = pointers.failed
        for name in pointers.records[:NAMES]:
            if not _HOST.fullmatch(name):
                continue
            forward = await self._resolver.query(name, "AAAA" if client.version == 6 else "A")
            if any(client_address(record) == client for record in forward.records):
                inquiry.client_name = name
                return
            failed = failed or forward.failed
        inquiry.client_name, inquiry.client_name_failed = UNKNOWN, failed

    def _no_name(self, inquiry: Inquiry) -> None:
        inquiry.client_name, inquiry.client_name_failed = UNKNOWN, True

    # ---- the lists

    async def _list(self, inquiry: Inquiry, client: Address, dnsbl: Dnsbl) -> None:
        zone = dnsbl.zone
        answer = await self._resolver.query(listed_as(client, zone), "A")
        fault = _fault(answer)
        if not fault and hits(answer.records, dnsbl):
            answer = await self._resolver.query(clean_name(zone), "A")
            fault = "it lists everybody" if answer.records else _fault(answer)
            if not fault:
                inquiry.lists[zone] = dnsbl.score
        if answer.failed:
            inquiry.silent[zone] = dnsbl.score
        self._tell(zone, fault)

    def _fault_of(self, inquiry: Inquiry, dnsbl: Dnsbl) -> Callable[[str], None]:
        def silent(why: str) -> None:
            if why != CANCELLED:
                inquiry.silent[dnsbl.zone] = dnsbl.score
                self._tell(dnsbl.zone, why)

        return silent

    async def text(self, client: Address, zone: str) -> str:
        """The list's TXT record (RFC 5782 2.1), its first with a text."""
        try:
            asked = self._resolver.query(listed_as(client, zone), "TXT")
            if not asked.called:
                asked.addTimeout(TEXT_TIME, self.clock)
            answer = await asked
        except CancelledError:
            raise
        except Exception:  # too late, or a bug: the client is refused all the same, without a text
            return ""
        return next(filter(None, map(clean_text, answer.records)), "")

    def _tell(self, zone: str, fault: str) -> None:
        """Once when it begins, once when it ends."""
        was = self._faults.get(zone, "")
        if bool(was) != bool(fault):
            self._log.event("dnsbl", "", {"zone": zone, "status": "dead" if fault else "alive", "reason": fault or None})
        self._faults[zone] = fault


def _fault(answer: Answer) -> str:
    if answer.failed:
        return str(answer)
    return f"it refuses to serve us: {', '.join(answer.records)}" if refuses_us(answer.records) else ""
