"""A session whose TLS can be taken down and started again: the verdict CLEAR, as Exim has done since 2002 (docs/tls.md).

After a delivery close_notify is sent and awaited for `shutdown_wait`; in clear text the peer must then answer EHLO, offer
STARTTLS and answer RSET.  Only so it idles, and the next delivery says STARTTLS, shakes hands and says EHLO as on a new
connection.  A peer that does not play along costs nothing: the connection ends, the delivery after it takes a fresh one,
and the host is known for a day as one that gets QUIT.  Nothing but level "may" without credentials comes here
(`handover.allowed`), so nothing is said in clear that might not be.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from OpenSSL import SSL
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from mta.relay.connection import IN_CLEAR, Conduct, Owner, Phase
from mta.relay.destination import Consequence, Fault, Step, Trouble
from mta.relay.session import Session
from mta.smtp import event
from mta.smtp.client import Sender, Transaction
from mta.status import Reply
from mta.tls.unwrap import TlsBroken, UnwrappableTls

__all__ = ["Takedown"]

_TESTS: Final = (Phase.TAKEDOWN, Phase.RETEST)


class Takedown(Session):
    """See the module.  wait: seconds for the peer's close_notify; test: EHLO and RSET before it idles in clear text."""

    takes_down = True

    def __init__(self, conduct: Conduct, step: Step, owner: Owner, *, wait: float, test: bool = True) -> None:
        super().__init__(conduct, step, owner)
        self._wait = wait
        self._test = test
        self._layer: UnwrappableTls | None = None
        self._unanswered: UnwrappableTls | None = None  # our close_notify was not answered in time
        self._passed = False  # the test in clear text
        self._was_taken_down = False

    # ---- the layer

    def _start_tls(self) -> None:
        """Without Twisted's own TLS, which cannot be taken down again."""
        assert self._tls is not None
        self.write = self._write_within
        try:
            self._layer = UnwrappableTls(self._tls.connection())
        except TlsBroken as error:  # nothing that we may speak is left
            self._give_up(self._loss(f"lost ({error})"), cut=True)
        self._flush()

    @property
    def _handle(self) -> SSL.Connection:
        assert self._layer is not None
        return self._layer.connection

    def _write_within(self, data: bytes) -> None:
        """Inside TLS; what cannot be sent any more is found by whoever waits for the answer."""
        if self._layer is not None:
            with suppress(TlsBroken):
                self._layer.send(data)
            self._flush()

    def _flush(self) -> None:
        if self._layer is not None and (data := self._layer.data_to_send()):
            self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        """Bytes of the network: through TLS while it stands."""
        layer = self._layer
        if layer is None:
            if data := self._without_late_records(data):
                super().dataReceived(data)
            if self._passed:  # only now: what came behind the last answer spoils it
                self._passed = False
                self._to_pool()
            return
        try:
            plain = layer.receive(data)
        except TlsBroken as error:
            self._flush()  # our alert
            self._give_up(self._loss(f"lost ({error})"), cut=True)
            return
        self._flush()
        if layer.established and self._phase is Phase.HANDSHAKE:
            self.handshakeCompleted()
        if plain and self._phase is not Phase.TAKEDOWN:  # what it still had to say when we closed is of no use
            super().dataReceived(plain)
        if layer.closed and self._layer is layer:
            self._closed_by_peer(layer)

    def _closed_by_peer(self, layer: UnwrappableTls) -> None:
        if self._phase is Phase.TAKEDOWN:
            self._go_clear(layer.rest)
        else:
            self._give_up(self._loss("lost (TLS closed by the peer)"), cut=True)

    def _without_late_records(self, data: bytes) -> bytes:
        """A close_notify that comes after we had stopped waiting for it is no part of the conversation in clear text."""
        old = self._unanswered
        if old is None:
            return data
        with suppress(TlsBroken):  # then it is taken for what it is not, a reply, and that is the end of it
            data = old.receive_late(data)
        if data or old.closed:
            self._unanswered = None
        return data

    # ---- down

    def take_down(self) -> None:
        """Begin; the pool gets the connection when the peer has shown that it goes on."""
        assert self._layer is not None
        self._owner = None
        self._phase = Phase.TAKEDOWN
        self._deadline.set(self._wait)
        with suppress(TlsBroken):
            self._layer.shut()
        self._flush()

    def _go_clear(self, rest: bytes) -> None:
        """Bytes behind the close_notify are nothing that we have asked for."""
        if rest:
            self._refused("spoke-first")
            return
        self._layer = None
        self._was_taken_down = True
        self.write = self.transport.write
        self.achieved = IN_CLEAR
        self.machine = Sender(self._conduct.hello, extensions={})
        self._phase = Phase.RETEST
        if self._test:
            self.machine.hello()
            self._turn()
            self._deadline.set(self._conduct.timeouts.rset)  # for EHLO too: it is no more than a test
        else:
            self._to_pool()

    def _hello_answered(self, happened: event.HelloAnswered) -> None:
        if self._phase is not Phase.RETEST:
            super()._hello_answered(happened)
        elif not happened.reply.is_positive or "STARTTLS" not in happened.extensions:
            self._refused("no-starttls")  # never a word of mail in clear text to who had TLS a moment ago
        else:
            self.machine.reset()

    def _reset_answered(self, happened: event.ResetAnswered) -> None:
        if self._phase is not Phase.RETEST:
            super()._reset_answered(happened)
        elif happened.reply.is_positive:
            self._passed = True
        else:
            self._refused("rset")

    def _to_pool(self) -> None:
        if self.leaving:
            return
        self._deadline.clear()
        if not self.machine.is_idle or self._conduct.pool.release(self):
            self.quit()

    def _refused(self, why: str) -> None:
        """The peer does not go on; learned, so that it is not tried again today."""
        self._conduct.pool.learn(self.key, why)
        if self._layer is not None:
            self.drop()
        else:
            self.quit()

    # ---- and up again

    @property
    def restarts(self) -> bool:
        """It idles in clear text: STARTTLS comes before the next transaction."""
        return self._layer is None and self._was_taken_down

    def restart(self, owner: Owner) -> None:
        """STARTTLS for the next delivery; `ready` or `failed` follows."""
        self._owner = owner
        self.restarted, self.verdict = True, None
        self._tls = self._conduct.tls.creator(self.required, self.step.candidate.key)
        self._phase = Phase.STARTTLS
        self.machine.starttls()
        self._turn()

    def _follows(self, trouble: Trouble) -> Consequence:
        """Who had TLS a moment ago is not spoken to in clear text now, whatever he answers to STARTTLS."""
        return Consequence.NEXT if self.kept else super()._follows(trouble)

    def unfit(self, transaction: Transaction) -> Reply | None:
        """In clear text nobody knows what the peer will offer inside TLS."""
        return None if self.restarts else super().unfit(transaction)

    # ---- ends

    @property
    def unused(self) -> bool:
        """Nothing is lost either when it is cut between two deliveries."""
        return super().unused or self._phase in _TESTS

    def _too_late(self) -> None:
        if self._phase is Phase.TAKEDOWN:
            self._unanswered = self._layer  # Exim never answers (measured); it goes on all the same
            self._go_clear(b"")
        else:
            super()._too_late()

    def _give_up(self, fault: Fault, cut: bool = False) -> None:
        if self._phase in _TESTS and not self._is_cut:
            self._conduct.pool.learn(self.key, fault.trouble.value)
        super()._give_up(fault, cut)

    def _close(self) -> None:
        if self._layer is not None and not self._layer.closed:
            with suppress(TlsBroken):
                self._layer.shut()
            self._flush()
        super()._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Postfix and Sendmail close at close_notify (measured): that is their answer."""
        if self._phase in _TESTS:
            self._conduct.pool.learn(self.key, "closed")
        super().connectionLost(reason)


Takedown.actions = {
    **Session.actions,
    event.HelloAnswered: Takedown._hello_answered,
    event.ResetAnswered: Takedown._reset_answered,
}
