"""What is said on one connection from a client: the answers to the events of the receiver-SMTP.

RFC 5321 3.1 (greeting), 3.2 (hello), 4.1.1, RFC 4954 (AUTH).  The machine decides what a command is worth,
`connection.py` moves the bytes, `hearing.py` asks who may judge, `transaction.py` takes the mail; here each command gets its
answer, one at a time, and refusals are logged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from mta.envelope import Refusal
from mta.receive.auth.accounts import Login
from mta.receive.auth.peer import Peer
from mta.receive.ending import Stage
from mta.receive.hearing import Hearing
from mta.receive.submitted import Submitted
from mta.receive.transaction import Transaction
from mta.smtp.credentials import Credentials, Question, Verifier
from mta.smtp.event import (
    Auth,
    AuthStep,
    BodyChunk,
    BodyEnd,
    BodyStart,
    ChunkEnd,
    Hello,
    MailFrom,
    Quit,
    RcptTo,
    Refused,
    Reset,
    StartTls,
    Verify,
    XClient,
)
from mta.smtp.wording import NOT_SYNCHRONISED, WILL_TRY
from mta.status import MailError, Reply

__all__ = ["Session"]

_LOGGED: Final = frozenset({"AUTH", "MAIL", "RCPT", "DATA", "BDAT", "STARTTLS"})  # refusals of the machine that are worth a line

LOGGED_IN: Final = Reply(235, "2.7.0", "Authentication successful")


class Session(Hearing):
    """A connection that speaks SMTP.  trace: what each message of this client is stored with (JSON)."""

    trace = ""

    # ---- what the connection calls

    def welcome(self) -> None:
        """The connection stands: greet, unless the policy says no."""
        self.look_up()
        self.ask("connect", self._greet)

    def _greet(self) -> None:
        self.machine.greet()
        if not self._turning:
            self.turn()

    # ---- what the transaction calls

    def refuse(self, stage: str, reply: Reply, **fields: object) -> None:
        """Answer no, and log it."""
        what = {"stage": stage, "client": self.address, "helo": self.helo, **self.machine.forwarded, **fields}
        what["reply"] = str(reply)
        self.common.log.event("rejected", "", what)
        self.common.tally.rejected(stage, reply)
        if stage == "connect":  # RFC 5321 3.1: 554 in place of the greeting, or 421
            self.shut(Reply(554 if reply.is_permanent else 421, reply.enhanced, reply.text))
        elif stage == "starttls":  # RFC 3207 4 has no other codes than these
            self.answer(Reply(554 if reply.is_permanent else 454, reply.enhanced, reply.text))
        elif stage == "auth":  # RFC 4954 6
            self.allowance.login_was(wrong=reply.is_permanent)
            self.answer(Reply(535 if reply.is_permanent else 454, reply.enhanced, reply.text))
        else:
            if stage == "rcpt":
                self.allowance.rejects(reply)
            elif stage == "end" and self.transaction is not None:
                self.transaction.abandon()  # nothing of the body stays behind
            self.answer(reply)

    def traced(self, hold: str) -> str:
        """`trace`, with the reason why a message is held."""
        return json.dumps({**json.loads(self.trace or "{}"), "hold": hold}) if hold else self.trace

    # ---- answers to the machine's events

    def _hello(self, event: Hello) -> None:
        name = event.name
        facts = {"name": name, "helo": name, "extended": event.extended}
        self.ask("helo", lambda: self._hello_taken(name), lambda: facts)

    def _hello_taken(self, name: str) -> None:
        self.trace = json.dumps({"client": self.address, "helo": name, "tls": self.achieved.version})
        self.answer(Reply(250, "", self.common.settings.hostname))

    def _auth(self, event: Auth) -> None:
        given = event.credentials
        facts = {"user": given.user, "mechanism": given.mechanism}
        self._try(given.user, lambda: self.ask("auth", lambda: self._log_in(given), lambda: facts))

    def _try(self, user: str, go: Callable[[], None]) -> None:
        """Look at a login, the later the more have failed, and not at all when those are too many."""
        if self.allowance.refuses_login(user):
            return
        delay = self.allowance.login_delay
        if delay:
            self.wait(deferLater(self.common.clock, delay), "auth", go)
        else:
            go()

    def _log_in(self, given: Credentials) -> None:
        accounts = self.common.accounts
        assert accounts is not None  # else nothing was offered
        self.pending = login = accounts.login(given, self._peer())
        login.addCallbacks(self._known, self._unknown, callbackArgs=(given,), errbackArgs=(given,)).addErrback(self.broken)

    def _auth_step(self, event: AuthStep) -> None:
        """AUTH wants to know something of the account before it goes on."""
        question = event.question
        self._try(question.user, lambda: self._step(question))

    def _step(self, question: Question) -> None:
        accounts = self.common.accounts
        assert accounts is not None  # else nothing was offered
        self.pending = answer = accounts.step(question, self._peer())
        answer.addCallbacks(self._supply, self._unknown, errbackArgs=(question,)).addErrback(self.broken)

    def _supply(self, answer: bytes | Verifier | Credentials) -> None:
        self.pending = None
        if self.stage is Stage.TALKING:
            self.machine.supply(answer)
            if not self._turning:
                self.turn()

    def _peer(self) -> Peer:
        return Peer(self.address, bool(self.achieved.version), self.security.certificate)

    def _known(self, login: Login, given: Credentials) -> None:
        self.pending = None
        if self.stage is not Stage.TALKING:
            login.leave()
            return
        self.login = login
        self.allowance.login_was(wrong=False)
        self._log_auth(given, account=login.name, result="ok")
        self.answer(LOGGED_IN)

    def _unknown(self, failure: Failure, given: Credentials | Question) -> None:
        self.pending = None
        if self.stage is not Stage.TALKING:
            return
        error = failure.value
        assert isinstance(error, MailError)
        self.allowance.login_was(wrong=error.reply.is_permanent)
        self._log_auth(given, result="refused" if error.reply.is_permanent else "failed", why=error.reason)
        self.answer(error.reply)

    def _log_auth(self, given: Credentials | Question, **result: str) -> None:
        """One line for each login that was tried."""
        who = {"client": self.address, "mechanism": given.mechanism, "user": given.user}
        self.common.log.event("auth", "", {**who, **result, "tls_version": self.achieved.version or None})
        self.common.tally.logged_in(given.mechanism, result["result"])

    def _mail(self, event: MailFrom) -> None:
        self.transaction = (Submitted if self.listener.listen.submission else Transaction)(self, event)
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

    def _verify(self, event: Verify) -> None:
        """VRFY: whom we know may ask who is here; to all others everybody is the same (RFC 5321 7.3)."""
        address = event.address.address
        way = self.common.router.route(address) if self.trusted or self.account else None
        if way is None:
            self.answer(WILL_TRY)
        elif isinstance(way, Refusal):
            self.refuse("vrfy", way.reply, to=address)
        elif way.agent == "smtp":
            self.answer(WILL_TRY)
        else:
            self.ask("vrfy", lambda: self.answer(Reply(250, "2.1.5", f"<{address}>")), lambda: {"recipient": address})

    def _body_end(self, event: BodyEnd | ChunkEnd) -> None:
        assert self.transaction is not None
        self.transaction.end(event)

    def _reset(self, event: Reset) -> None:
        if self.transaction is not None:
            self.transaction.abandon()
            self.transaction = None

    def _refused(self, event: Refused) -> None:
        stage, reply = event.command.lower(), event.reply
        if not self.allowance.noted(stage, reply):
            self.common.tally.rejected(stage, reply)
            if event.command in _LOGGED:
                what = {"stage": stage, "client": self.address, "helo": self.helo, "reply": str(reply)}
                self.common.log.event("rejected", "", what)
        if self.machine.ended:
            self.why = str(event.reply)

    def _quit(self, event: Quit) -> None:
        self.why = "quit"

    def _xclient(self, event: XClient) -> None:
        """Somebody else is the client from now on: as if it had just connected, but for what is counted."""
        said = event.attributes
        self.write(self.machine.data_to_send())  # what it has said belongs to the client of before
        self.forget()
        self.security.renounce()
        refusal = self.origin.assume(said)
        self.common.log.event("xclient", "", {"client": self.address, "proxy": self.origin.peer.address, **_fields(said)})
        if refusal is not None:
            self.refuse("connect", refusal)
            return
        name, accounts = said.get("login") or "", self.common.accounts
        if name and accounts is not None:
            self.pending = login = accounts.known(name, "XCLIENT")
            login.addCallbacks(self._assumed, self._not_assumed, callbackArgs=(said,)).addErrback(self.broken)
        else:
            self._assumed(Login(name, lambda: None) if name else None, said)

    def _not_assumed(self, failure: Failure) -> None:
        self.pending = None
        assert isinstance(failure.value, MailError)
        if self.stage is Stage.TALKING:
            self.refuse("connect", failure.value.reply, why=failure.value.reason)

    def _assumed(self, login: Login | None, said: Mapping[str, str | None]) -> None:
        self.pending = None
        if self.stage is not Stage.TALKING:
            if login is not None:
                login.leave()
            return
        self.login = login
        if self.machine.buffered:  # it did not wait for the greeting, and what it has said would be lost (RFC 2920 3.1)
            self.shut(NOT_SYNCHRONISED)
            return
        secure = bool(self.achieved.version)
        options = self.security.options() if secure else self.listener.in_clear(self.client, self.trusted)
        self.machine = self.fresh(options, implicit=secure, authenticated=self.login is not None)
        self.machine.hello_name = said.get("helo") or ""
        self.welcome()

    def _starttls(self, event: StartTls) -> None:
        self.ask("starttls", self.security.ask)


def _fields(said: Mapping[str, str | None]) -> dict[str, str | None]:
    """What XCLIENT has said beside the address, for the log."""
    return {f"client_{name}": value for name, value in said.items() if name != "addr"}


Session.acts = {
    Auth: Session._auth,
    AuthStep: Session._auth_step,
    BodyChunk: Session._body_chunk,
    BodyEnd: Session._body_end,
    BodyStart: Session._body_start,
    ChunkEnd: Session._body_end,
    Hello: Session._hello,
    MailFrom: Session._mail,
    Quit: Session._quit,
    RcptTo: Session._rcpt,
    Refused: Session._refused,
    Reset: Session._reset,
    StartTls: Session._starttls,
    Verify: Session._verify,
    XClient: Session._xclient,
}
