"""What is said on one connection from a client: the answers to the events of the receiver-SMTP.

RFC 5321 3.1 (greeting), 3.2 (hello), 4.1.1, RFC 4954 (AUTH).  The machine decides what a command is worth,
`connection.py` moves the bytes, `transaction.py` takes the mail; here the policy of an embedder is asked, and who may
log in, one question at a time, and refusals are logged.  Without a policy nothing is called and no Deferred is made.  A
policy that fails is answered 451 (554 or 421 in place of the greeting, 454 to STARTTLS): it never opens the door.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.receive.auth import Login, mechanism_of
from mta.receive.connection import Connection, Stage
from mta.receive.transaction import LOCAL_ERROR, Transaction
from mta.smtp.event import Auth, BodyChunk, BodyEnd, BodyStart, Hello, MailFrom, Quit, RcptTo, Refused, Reset, StartTls
from mta.smtp.sasl import Credentials
from mta.status import MailError, Reply

__all__ = ["Session"]

_LOGGED: Final = frozenset({"AUTH", "MAIL", "RCPT", "DATA", "STARTTLS"})  # refusals of the machine that are worth a line

LOGGED_IN: Final = Reply(235, "2.7.0", "Authentication successful")

_bugs = Logger()


class Session(Connection):
    """A connection that speaks SMTP.  trace: what each message of this client is stored with (JSON)."""

    trace = ""

    # ---- what the connection calls

    def welcome(self) -> None:
        """The connection stands: greet, unless the policy says no."""
        if self.common.policy is None:
            self._greet()
        else:
            self.ask("connect", self._greet)

    def _greet(self) -> None:
        self.machine.greet()
        self.turn()

    # ---- what the transaction calls

    def refuse(self, stage: str, reply: Reply, **fields: object) -> None:
        """Answer no, and log it."""
        what = {"stage": stage, "client": self.address, "helo": self.helo, **fields, "reply": str(reply)}
        self.common.log.event("rejected", "", what)
        if stage == "connect":  # RFC 5321 3.1: 554 in place of the greeting, or 421
            self.shut(Reply(554 if reply.is_permanent else 421, reply.enhanced, reply.text))
        elif stage == "starttls":  # RFC 3207 4 has no other codes than these
            self.answer(Reply(554 if reply.is_permanent else 454, reply.enhanced, reply.text))
        else:
            self.answer(reply)

    def ask(self, stage: str, go: Callable[[], None], **more: object) -> None:
        """Let the policy judge, then go on: `go`, or its refusal, or 451 when it fails."""
        assert self.common.policy is not None
        known = {
            "client": self.address,
            "trusted": self.trusted,
            "account": self.account,
            "helo": self.helo,
            "tls_version": self.achieved.version,
            **more,
        }
        self.wait(maybeDeferred(self.common.policy.judge, stage, known), stage, go)

    def wait(self, verdict: Deferred[Any], stage: str, go: Callable[[], None]) -> None:
        """Go on when the Deferred has fired with None; it is cancelled when the client goes or the time is over."""
        self.pending = verdict
        verdict.addErrback(_its_error, stage).addCallback(self._judged, stage, go).addErrback(self.broken)

    def _judged(self, verdict: object, stage: str, go: Callable[[], None]) -> None:
        self.pending = None
        if self.stage is not Stage.TALKING:
            return
        if verdict is None:
            go()
        elif isinstance(verdict, MailError) and verdict.reply.code >= 400:
            self.refuse(stage, verdict.reply, why=verdict.reason or None)
        else:
            self.refuse(stage, LOCAL_ERROR, why=f"the policy answered {verdict!r}")

    # ---- answers to the machine's events

    def _hello(self, event: Hello) -> None:
        if self.common.policy is None:
            self._hello_taken(event.name)
        else:
            self.ask("helo", lambda: self._hello_taken(event.name), name=event.name, extended=event.extended)

    def _hello_taken(self, name: str) -> None:
        self.trace = json.dumps({"client": self.address, "helo": name, "tls": self.achieved.version})
        self.answer(Reply(250, "", self.common.settings.hostname))

    def _auth(self, event: Auth) -> None:
        accounts, given = self.common.accounts, event.credentials
        assert accounts is not None  # else nothing was offered
        self.pending = login = accounts.login(given)
        login.addCallbacks(self._known, self._unknown, callbackArgs=(given,), errbackArgs=(given,)).addErrback(self.broken)

    def _known(self, login: Login, given: Credentials) -> None:
        self.pending = None
        if self.stage is not Stage.TALKING:
            login.leave()
            return
        self.login = login
        self._log_auth(given, account=login.name, result="ok")
        self.answer(LOGGED_IN)

    def _unknown(self, failure: Failure, given: Credentials) -> None:
        self.pending = None
        if self.stage is not Stage.TALKING:
            return
        error = failure.value
        assert isinstance(error, MailError)
        self._log_auth(given, result="refused" if error.reply.is_permanent else "failed", why=error.reason)
        self.answer(error.reply)

    def _log_auth(self, given: Credentials, **result: str) -> None:
        """One line for each login that was tried."""
        who = {"client": self.address, "mechanism": mechanism_of(given), "user": given.user}
        self.common.log.event("auth", "", {**who, **result, "tls_version": self.achieved.version or None})

    def _mail(self, event: MailFrom) -> None:
        self.transaction = Transaction(self, event)
        self.transaction.mail()

    def _rcpt(self, event: RcptTo) -> None:
        assert self.transaction is not None
        self.transaction.rcpt(event)

    def _body_start(self, event: BodyStart) -> None:
        assert self.transaction is not None
        self.transaction.data()

    def _body_chunk(self, event: BodyChunk) -> None:
        assert self.transaction is not None
        self.transaction.chunk(event.data)

    def _body_end(self, event: BodyEnd) -> None:
        assert self.transaction is not None
        self.transaction.end(event)

    def _reset(self, event: Reset) -> None:
        if self.transaction is not None:
            self.transaction.abandon()
            self.transaction = None

    def _refused(self, event: Refused) -> None:
        if event.command in _LOGGED:
            what = {"stage": event.command.lower(), "client": self.address, "helo": self.helo, "reply": str(event.reply)}
            self.common.log.event("rejected", "", what)
        if self.machine.ended:
            self.why = str(event.reply)

    def _quit(self, event: Quit) -> None:
        self.why = "quit"

    def _starttls(self, event: StartTls) -> None:
        if self.common.policy is None:
            self.security.ask()
        else:
            self.ask("starttls", self.security.ask)

    acts = {
        Auth: _auth,
        BodyChunk: _body_chunk,
        BodyEnd: _body_end,
        BodyStart: _body_start,
        Hello: _hello,
        MailFrom: _mail,
        Quit: _quit,
        RcptTo: _rcpt,
        Refused: _refused,
        Reset: _reset,
        StartTls: _starttls,
    }


def _its_error(failure: Failure, stage: str) -> MailError:
    """A failed policy never opens the door."""
    if isinstance(failure.value, MailError):
        return failure.value
    if not isinstance(failure.value, CancelledError):
        _bugs.failure("the policy failed at {stage}", failure, stage=stage)
    return MailError(LOCAL_ERROR, f"policy failed: {failure.getErrorMessage()}")
