"""A connection on its way to its first transaction: greeting, EHLO, STARTTLS, the handshake, EHLO again, AUTH.

RFC 5321 3.1, RFC 3207, RFC 4954, RFC 9422 (LIMITS).  Behind the 220 to STARTTLS stands a *fresh* machine: nothing that was
said in clear is known to it.  What a refusal of STARTTLS means is read from `destination.CONSEQUENCES`; whether the
certificate will do is `policy.judge`'s word.  Our own side of TLS stands before STARTTLS is said.  A password is shown inside
TLS to a server that was verified only, unless the operator says otherwise.  At the end the owner hears `ready` or `failed`.
"""

from __future__ import annotations

from typing import Final

import attrs
from OpenSSL import SSL
from twisted.internet.interfaces import IHandshakeListener
from zope.interface import classImplements

from mta.relay.connection import Conduct, Connection, Owner, Phase
from mta.relay.destination import CONSEQUENCES, Consequence, Fault, Step, Trouble
from mta.relay.limits import limit
from mta.smtp import event
from mta.smtp.client import Sender
from mta.smtp.credentials import Terms
from mta.smtp.sasl import choose
from mta.smtp.scram import PLUS
from mta.status import Reply
from mta.tls.binding import tls_exporter
from mta.tls.policy import Required, judge
from mta.tls.tlsrpt import result_type, testing_fault

__all__ = ["Negotiation"]

TLS_TEXT: Final = "Cannot start TLS: "
# What TLSRPT counts as a session that did not come to be (RFC 8460 4.3); after the handshake (T8, T9) there was one.
_REPORTED: Final = (Trouble.T2, Trouble.T3, Trouble.T4, Trouble.T5, Trouble.T6, Trouble.T7, Trouble.T10)
# What may become of a server that cannot go on with an old session, though it says so.
_OF_SESSION: Final = (Trouble.T6, Trouble.T7, Trouble.T8)
_REFUSALS: Final = {4: Trouble.T2, 5: Trouble.T3}


class Negotiation(Connection):
    """A connection made by the rules of `step`.

    required: what it is owed now: that of the step, then of whoever picked it up.  Construction raises MailError when our
    own side of TLS cannot be set up.
    """

    def __init__(self, conduct: Conduct, step: Step, owner: Owner) -> None:
        super().__init__(conduct, owner)
        self.step = step
        self.required: Required = step.candidate.required
        self.tls_why = "" if step.tls else "broken" if step.fallback else "level"  # why there is no TLS
        self.ready_at = 0.0
        self.mail_max = 0  # transactions that the server takes in one connection, 0: it sets no limit
        self._is_cut = False
        self.misled = False  # TLS has failed, and for all we know for the old session that we went on with
        self._tls = conduct.tls.creator(self.required, step.candidate.key) if step.tls else None

    # ---- greeting and EHLO

    def _greeted(self, happened: event.Greeted) -> None:
        if not happened.reply.is_positive:
            self._give_up(Fault(Trouble.GREETING, told("The greeting was", happened.reply)))
            return
        self._phase = Phase.HELLO
        self.machine.hello()

    def _hello_answered(self, happened: event.HelloAnswered) -> None:
        in_tls = self._phase is Phase.TLS_HELLO
        if not happened.reply.is_positive:
            trouble = Trouble.T8 if in_tls else Trouble.HELLO
            self._give_up(Fault(trouble, told("EHLO was answered", happened.reply, "4.7.5" if in_tls else "")))
            return
        self.mail_max = limit(happened.extensions, "MAILMAX")
        if in_tls and self._tls is not None:
            self._tls.keep(self._handle, self.achieved)
        if in_tls or not self.step.tls:
            self._log_in()
        elif "STARTTLS" in happened.extensions or self._follows(Trouble.T1) is Consequence.ASK:
            self.machine.starttls()
            if self.machine.awaiting:  # else bytes lie behind the reply to EHLO, and Broken is on its way
                self._phase = Phase.STARTTLS
        else:
            self._stay_in_clear(Trouble.T1, "not-offered")

    def _stay_in_clear(self, trouble: Trouble, why: str) -> None:
        self._report_failure(trouble, why)
        self.tls_why = why
        self._log_in()

    def _become_ready(self) -> None:
        self._phase = Phase.READY
        self.ready_at = self._clock.seconds()
        if self._owner is not None:
            self._owner.ready(self)  # type: ignore[arg-type]

    def _follows(self, trouble: Trouble) -> Consequence:
        return CONSEQUENCES[trouble, self.required.may_go_clear]

    # ---- TLS

    def _starttls_answered(self, happened: event.StartTlsAnswered) -> None:
        """Only 220 means "go on"; a proxy that answers 250 to everything is still in clear."""
        code = happened.reply.code
        if code == 220:
            self._handshake()
            return
        trouble = Trouble.T5 if code in (221, 421) else _REFUSALS.get(code // 100, Trouble.T4)
        if self._follows(trouble) is Consequence.CLEAR:
            self._stay_in_clear(trouble, f"refused-{code}")
        else:
            self._give_up(Fault(trouble, told(f"{TLS_TEXT}STARTTLS was answered", happened.reply, "4.7.5")))

    def _handshake(self) -> None:
        self._phase = Phase.HANDSHAKE
        self.machine = Sender(self._conduct.hello, in_tls=True)
        self._deadline.set(self._conduct.starttls_timeout)
        self._conduct.tally.handshakes += 1
        self._start_tls()

    def _start_tls(self) -> None:
        self.write = self.transport.write
        self.transport.startTLS(self._tls)

    @property
    def _handle(self) -> SSL.Connection:
        """TLS as OpenSSL sees it."""
        handle: SSL.Connection = self.transport.getHandle()
        return handle

    def handshakeCompleted(self) -> None:
        """TLS stands: is it good enough?  If not, QUIT is said inside it."""
        if self._phase is not Phase.HANDSHAKE:
            return
        assert self._tls is not None, "it was started with it"
        self.achieved = self._tls.achieved(self._handle)
        self._conduct.tally.completed(self.achieved.resumed)
        if reason := judge(self.required, self.achieved):
            self._give_up(Fault(Trouble.T7, Reply(451, "4.7.5", f"{TLS_TEXT}{reason}")))
            return
        self._report_success()
        self._phase = Phase.TLS_HELLO
        self.machine.hello()
        self._turn()

    # ---- TLSRPT: each new handshake counts once, a kept session no more

    def _report_success(self) -> None:
        reports = self._conduct.reports
        if reports is None:
            return
        if fault := testing_fault(self.required, self.achieved):
            reports.failed(self.required, result_type(Trouble.T7.value, fault), fault)
        else:
            reports.succeeded(self.required)

    def _report_failure(self, trouble: Trouble, detail: str) -> None:
        if self._conduct.reports is not None:
            self._conduct.reports.failed(self.required, result_type(trouble.value, detail), detail)

    def _tell(self, fault: Fault) -> None:
        if self._tls is not None and self._tls.offers and fault.trouble in _OF_SESSION and not self._is_cut:
            self._tls.refuse()
            self.misled = True
        elif fault.trouble in _REPORTED and self._owner is not None and not (self._is_cut or self.kept):
            self._report_failure(fault.trouble, fault.reply.text)
        super()._tell(fault)

    def cut(self) -> None:
        """The service stops and can wait no longer: that is no failure of the peer's TLS."""
        self._is_cut = True
        super().cut()

    # ---- AUTH

    def _log_in(self) -> None:
        """Say who we are, where the route has credentials; then the connection is ready."""
        credentials = self.step.candidate.credentials
        if credentials is None:
            self._become_ready()
            return
        confidential = credentials.clear or self.required.level.verifies  # then whoever reads it is who he should be
        offered = self.machine.extensions.get("AUTH", "")
        binding = tls_exporter(self._handle) if self.achieved.version else b""
        mechanism = choose(offered, credentials.mechanisms, confidential, bool(binding))
        if mechanism:
            self._phase = Phase.AUTH
            terms = Terms(self._conduct.random(18), binding, PLUS in offered.upper().split())
            self.machine.authenticate(mechanism, credentials.login, terms)
            return
        why = "" if confidential else f", and a password is not shown {self._where()}"
        text = f"No mechanism of AUTH can be used: {offered or 'none'} offered, {' '.join(credentials.mechanisms)} allowed{why}"
        self._give_up(Fault(Trouble.AUTH, Reply(451, "4.7.8", text)))

    def _where(self) -> str:
        return f"at level {self.required.level.value}" if self.achieved.version else "in clear text"

    def _auth_answered(self, happened: event.AuthAnswered) -> None:
        """A refusal is never the message's fault: it waits until somebody has mended the credentials (RFC 4954 6)."""
        reply, credentials = happened.reply, self.step.candidate.credentials
        if reply.is_positive and credentials is not None:
            self.achieved = attrs.evolve(self.achieved, authenticated=credentials.identity)
            self._become_ready()
            return
        text = f"AUTH {happened.mechanism} was answered"
        self._give_up(Fault(Trouble.AUTH, told(text, reply, "4.7.8" if reply.is_permanent else "")))

    # ---- what the peer ends

    def _ended(self, happened: event.Ended) -> None:
        """421: the server closes."""
        if self._phase is Phase.STARTTLS:
            fault = Fault(Trouble.T5, told(f"{TLS_TEXT}STARTTLS was answered", happened.reply, "4.7.5"))
        else:
            fault = Fault(Trouble.CLOSING, happened.reply)
        self._give_up(fault, cut=True)

    def _broken(self, happened: event.Broken) -> None:
        """Nothing that the peer says is read any more."""
        trouble = Trouble.BROKEN
        if self._phase is Phase.STARTTLS:
            # Garbage instead of a reply leaves the reply due; bytes behind it do not, and those were injected.
            trouble = Trouble.T5 if self.machine.awaiting else Trouble.T10
        elif self._phase is Phase.TLS_HELLO:
            trouble = Trouble.T8
        reply = Reply(451, "4.7.5" if trouble.is_tls else "4.5.0", f"Protocol error {self._phase.value}: {happened.reason}")
        self._give_up(Fault(trouble, reply, self.after_dot), cut=True)


def told(what: str, reply: Reply, enhanced: str = "") -> Reply:
    """A refusal of the connection, told as the transient failure that it is for the mail: other hosts may take it."""
    own = reply.enhanced if reply.enhanced.startswith("4") else "4.3.0"
    return Reply(451, enhanced or own, f"{what}: {reply}")


classImplements(Negotiation, IHandshakeListener)
