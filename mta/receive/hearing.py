"""Who is asked what on one connection, and what becomes of the answer: rules, lists, an embedder's policy.

docs/embedding.md, "A policy of your own".  One question at a time: the machine waits with the command, `judges.py` has those
who are asked, `inquiry.py` what the DNS says of the client.  Without judges nothing is called and no Deferred is made.  A
judge that fails is answered 451 (554 or 421 in place of the greeting, 454 to STARTTLS and AUTH), and so is one that never
answers, when the command's time is over: it never opens the door.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.envelope import Action, Ruling
from mta.receive.access import Address
from mta.receive.connection import Connection
from mta.receive.ending import Stage
from mta.receive.inquiry import Inquiry
from mta.receive.rules import UNKNOWN
from mta.receive.transaction import LOCAL_ERROR
from mta.status import MailError, Reply
from mta.tls.verify import dns_names

__all__ = ["Hearing"]

NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
OF_MAIL: Final = frozenset({"mail", "rcpt", "data", "end"})  # where there is a message to hold or to throw away

_bugs = Logger(__name__)


class Hearing(Connection):
    """A connection whose client is judged.  inquiry: what the DNS says of it, where that is asked."""

    inquiry: Inquiry | None = None
    _asked: Mapping[str, object] = NOTHING  # what the judges are told beside the usual
    _certificate: tuple[bytes, tuple[str, ...]] = (b"", ())

    def look_up(self) -> None:
        """Begin to find out what the DNS says of the client."""
        if self.inquiry is not None:
            self.inquiry.leave()
        asking, client = self.common.inquiries, self._known_client()
        self.inquiry = asking.begin(client, self.trusted) if asking is not None and client is not None else None

    def _known_client(self) -> Address | None:
        """What is known of a proxy says nothing about its clients."""
        return self.client if self.whence.known else None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody wants to know any more."""
        if self.inquiry is not None:
            self.inquiry.leave()  # first: the other may end in what an embedder wrote
        super().connectionLost(reason)

    def ask(self, stage: str, go: Callable[[], None], more: Callable[[], Mapping[str, object]] | None = None) -> None:
        """Let the judges of the stage judge, then go on: `go`, or their refusal, or 451 when they fail.

        Without any, and without rules that need the DNS, it goes on at once.  more: what they are told beside the usual; it
        is called only when somebody wants to know.
        """
        self.overdue = False
        if stage not in self.common.judges.stages:
            go()
            return
        self._asked = more() if more is not None else NOTHING
        if self.inquiry is not None and self.inquiry.client != self.client:
            self.look_up()  # TLS has made it forget what XCLIENT had said
        waiting = None if self.inquiry is None else self.inquiry.until(stage, lists=not self.account)
        if waiting is None:
            self._ask(stage, go)
        else:
            self.wait(waiting, stage, lambda: self._ask(stage, go))

    def _ask(self, stage: str, go: Callable[[], None]) -> None:
        try:
            verdict = self.common.judges.judge(stage, self._facts())
        except Exception:
            verdict = _its_error(Failure(), stage)  # type: ignore[no-untyped-call]
        if isinstance(verdict, Deferred):
            self.wait(verdict, stage, go)
        else:
            self._judged(verdict, stage, go)

    def _facts(self) -> dict[str, object]:
        """What judges may know (docs/embedding.md)."""
        inquiry = self.inquiry
        return {
            "client": self.address,
            "address": self._known_client(),
            "client_name": self.client_name or ("" if self.whence.known else UNKNOWN),
            "client_name_failed": self._name_failed(),
            "dnsbl": inquiry.lists if inquiry is not None else NOTHING,
            "dnsbl_silent": inquiry.silent if inquiry is not None else NOTHING,
            "dnsbl_text": inquiry.text if inquiry is not None else None,
            "listen": self.listener.listen.endpoint,
            "listen_name": self.listener.listen.name,
            "trusted": self.trusted,
            "account": self.account,
            "helo": self.helo,
            "tls_version": self.achieved.version,
            "tls_names": self._tls_names(),
            **self._asked,
        }

    @property
    def client_name(self) -> str:
        """As XCLIENT or else the DNS calls the client; "" not known."""
        return self.origin.name or (self.inquiry.client_name if self.inquiry is not None else "")

    def _name_failed(self) -> bool:
        """Its name may be known another time."""
        if self.origin.name is not None:
            return self.origin.name_failed
        return self.inquiry is not None and self.inquiry.client_name_failed

    def _tls_names(self) -> tuple[str, ...]:
        """The names in a client certificate that verifies; it is read once."""
        leaf = self.security.certificate
        if not leaf:
            return ()
        if self._certificate[0] != leaf:
            self._certificate = leaf, dns_names(leaf)
        return self._certificate[1]

    def wait(self, verdict: Deferred[Any], stage: str, go: Callable[[], None]) -> None:
        """Go on when the Deferred has fired with None; it is cancelled when the client goes or the time is over."""
        self.pending, self.overdue = verdict, False
        verdict.addErrback(_its_error, stage).addCallback(self._judged, stage, go).addErrback(self.broken)

    def _judged(self, verdict: object, stage: str, go: Callable[[], None]) -> None:
        self.pending = None
        if self.stage is not Stage.TALKING:
            return
        if self.overdue and not isinstance(verdict, MailError):  # whoever bears being cancelled has not answered in time either
            self._say_no(stage, LOCAL_ERROR, "no answer in time")
        elif verdict is None:
            go()
        elif isinstance(verdict, MailError) and verdict.reply.code >= 400:
            self._say_no(stage, verdict.reply, verdict.reason or None)
        elif self._acted(verdict, stage):
            go()
        else:
            self._say_no(stage, LOCAL_ERROR, f"the policy answered {verdict!r}")

    def _say_no(self, stage: str, reply: Reply, why: str | None) -> None:
        """With the sender and the recipient that were asked about."""
        self.refuse(stage, reply, **{"from": self._asked.get("sender"), "to": self._asked.get("recipient"), "why": why})

    def _acted(self, verdict: object, stage: str) -> bool:
        """Do what was answered; False when that is nothing that can be done here."""
        ruling = verdict if isinstance(verdict, Ruling) else Ruling(verdict, "policy") if isinstance(verdict, Action) else None
        if ruling is None:
            return False
        if ruling.action is Action.ACCEPT:
            return True
        if self.transaction is None or stage not in OF_MAIL:
            return False
        self.transaction.rule(ruling)
        return True


def _its_error(failure: Failure, stage: str) -> MailError:
    """A failed policy never opens the door."""
    if isinstance(failure.value, MailError):
        return failure.value
    if not isinstance(failure.value, CancelledError):
        _bugs.failure("the policy failed at {stage}", failure, stage=stage)
    return MailError(LOCAL_ERROR, f"policy failed: {failure.getErrorMessage()}")
