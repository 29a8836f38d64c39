"""What one connection may still have: the hooks by which a session asks the limits (mta.receive.limits), and the tarpit.

A method `refuses_...` has answered and logged when it says True; nothing more is to be done.  Each refusal is logged with
`limit=KEY`, a client's first a minute (docs/operators.md).  What is counted here belongs to the connection and to the client
behind it: STARTTLS, EHLO, RSET and XCLIENT begin nothing anew (docs/tls.md, C1.6).

The tarpit delays what a client with too many errors has *sent*: it is given to the machine later, whole and in order, so the
machine's laws hold as ever (nothing is read past STARTTLS).  Bodies are never delayed.  No timer runs for an honest client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall

from mta.receive.access import is_in
from mta.receive.limits import table
from mta.receive.limits.table import SAID_BY_MACHINE, Limit, What, Who, login_key
from mta.receive.limits.tarpit import slowness
from mta.status import Reply

if TYPE_CHECKING:
    from mta.receive.auth.accounts import Login
    from mta.receive.connection import Connection

__all__ = ["Allowance"]


class Allowance:
    """See the module.  rejected: recipients that were refused for good."""

    __slots__ = ("_attempt", "_charged", "_connection", "_inbox", "_later", "_login", "_who", "rejected")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._who = Who(b"")
        self._login: Login | None = None  # of `_who`
        self._charged = self._who  # for the message that is being stored: the client may be gone, and its login with it
        self._attempt: Who | None = None  # a login that is being looked at; counted as failed until it is known
        self._inbox: list[bytes] = []
        self._later: IDelayedCall | None = None
        self.rejected = 0

    # ---- connections and TLS

    def arrives(self) -> Limit | None:
        """The client is known: count the connection in, or say why not."""
        connection = self._connection
        common, limits = connection.common, connection.common.settings.limits
        over = self._take(What.CONNECTION)
        if over is None:
            listed = connection.trusted
            if limits.reserve_for and connection.client is not None:
                listed = connection.whence.known and is_in(connection.client, limits.reserve_for)
            over = common.connections.enter(connection.key, exempt=connection.trusted, listed=listed)
        return over

    def reconnects(self) -> Limit | None:
        """XCLIENT has named another client: that one has as good as connected."""
        return self._take(What.CONNECTION)

    def refuses_tls(self) -> bool:
        """One more handshake.  Nothing can be said in clear where TLS comes first."""
        over = self._take(What.HANDSHAKE)
        if over is None:
            return False
        if self._connection.implicit:
            self.note("starttls", over)
            self._connection.close(f"no TLS: {over.reply}")
        else:
            self._refuse("starttls", over)
        return True

    # ---- mail

    def refuses_mail(self) -> bool:
        """MAIL."""
        connection = self._connection
        most = connection.common.settings.limits.bytes_per_connection
        if most and connection.counters.bytes >= most and not connection.trusted:
            return self._refuse("mail", table.BYTES)
        over = self._over(What.MESSAGE)
        return over is not None and self._refuse("mail", over)

    def refuses_recipient(self, before: int) -> bool:
        """RCPT, behind so many that were accepted.  Asked before it is looked at: who is over the limit learns nothing."""
        connection = self._connection
        most = connection.common.settings.limits.rejected_per_connection
        if most and self.rejected >= most and not connection.trusted:
            return self._refuse("rcpt", table.REJECTED)
        over = self._over(What.REJECTED) or self._over(What.RECIPIENT, before + 1)
        return over is not None and self._refuse("rcpt", over)

    def rejects(self, reply: Reply) -> None:
        """A recipient was refused.  4yz asks it to come again (greylisting, a full queue): that is no fault of the client."""
        if reply.is_permanent:
            self.rejected += 1
            self._count(What.REJECTED)

    def refuses_message(self, recipients: int) -> bool:
        """It is whole and would be stored now."""
        over = self._take(What.MESSAGE)
        if over is None:
            over = self._take(What.RECIPIENT, recipients)
            if over is None:
                self._charged = self.who
                return False
            self._count(What.MESSAGE, -1)
        return self._refuse("end", over)

    def not_stored(self, recipients: int) -> None:
        """It was not stored after all."""
        counts, now = self._connection.common.counts, self._now
        counts.count(What.MESSAGE, self._charged, now, -1)
        counts.count(What.RECIPIENT, self._charged, now, -recipients)

    # ---- logins

    def refuses_login(self, user: str) -> bool:
        """Credentials are to be looked at.  They count as wrong until it is known: many at once are no way around the limit.

        Another step of the same exchange, or another exchange, takes the place of one that came to nothing.
        """
        self.login_was(wrong=False)
        attempt = Who(self._connection.key, self._connection.trusted, login_key(user))
        over = self._connection.common.counts.take(What.AUTH_FAILURE, attempt, self._now)
        if over is not None:
            return self._refuse("auth", over)
        self._attempt = attempt
        return False

    @property
    def login_delay(self) -> float:
        """Seconds to wait before they are looked at: for the failures of this client, and of this login from everywhere.

        A stranger can make a user wait for so long, and no longer; he cannot lock him out.
        """
        if self._attempt is None:
            return 0.0
        return self._slowness(self._connection.common.counts.owed(What.AUTH_FAILURE, self._attempt, self._now) - 1)

    def login_was(self, wrong: bool) -> None:
        """What came of it.  Not wrong: it was right, or the trouble was ours."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None and not wrong:
            self._connection.common.counts.count(What.AUTH_FAILURE, attempt, self._now, -1)

    # ---- the tarpit

    @property
    def errors(self) -> int:
        """Of this connection, of every kind that the tarpit knows."""
        counters = self._connection.counters
        return counters.errors + counters.auth_failures + self.rejected

    @property
    def delays(self) -> bool:
        """Something that was sent waits; read no more."""
        return self._later is not None

    def delays_input(self, data: bytes) -> bool:
        """Keep it for a while?  Never while the machine has a question or reads a body: it must see what came too early."""
        if self._later is not None:
            self._inbox.append(data)
            return True
        errors, connection = self.errors, self._connection
        delay = self._slowness(errors) if errors else 0.0
        if not delay or connection.machine.asks or (connection.transaction is not None and connection.transaction.reading):
            return False
        self._inbox.append(data)
        self._later = connection.common.clock.callLater(delay, self._feed)
        self.note("tarpit", table.TARPIT)
        connection.flow()
        return True

    def hurry(self) -> None:
        """The client has ended its side: nobody is left to be delayed."""
        if self._later is not None:
            self._later.cancel()
            self._feed()

    def leave(self) -> None:
        """The connection is gone."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
            self._inbox.clear()

    def _feed(self) -> None:
        self._later = None
        data = b"".join(self._inbox)
        self._inbox.clear()
        connection = self._connection
        if not connection.is_gone:
            connection.machine.receive_data(data)
            connection.turn()

    def _slowness(self, errors: int) -> float:
        limits = self._connection.common.settings.limits
        if errors <= limits.tarpit_errors or self._connection.trusted:
            return 0.0
        return slowness(errors, limits.tarpit_errors, limits.tarpit)

    # ---- what the others are made of

    @property
    def _now(self) -> float:
        return self._connection.common.clock.seconds()

    @property
    def who(self) -> Who:
        """Whose counts these are now: XCLIENT may name another client, a login comes and goes."""
        connection, who, login = self._connection, self._who, self._connection.login
        if login is not self._login or connection.key is not who.client or connection.trusted is not who.exempt:
            self._login = login
            self._who = Who(connection.key, connection.trusted, login_key(connection.account))
        return self._who

    def _over(self, what: What, number: int = 1) -> Limit | None:
        counts = self._connection.common.counts
        return counts.over(what, self.who, self._now, number) if counts.rates[what] else None

    def _take(self, what: What, number: int = 1) -> Limit | None:
        counts = self._connection.common.counts
        return counts.take(what, self.who, self._now, number) if counts.rates[what] else None

    def _count(self, what: What, number: int = 1) -> None:
        counts = self._connection.common.counts
        if counts.rates[what]:
            counts.count(what, self.who, self._now, number)

    def _refuse(self, stage: str, over: Limit) -> bool:
        """Say no; the client keeps what it has."""
        assert over.reply is not None
        self.note(stage, over)
        connection = self._connection
        if over.reply.code == 421:
            connection.why = connection.why or str(over.reply)
        connection.answer(over.reply)
        return True

    def noted(self, stage: str, reply: Reply) -> bool:
        """The machine has refused by a limit of its own; False when it was for something else."""
        over = SAID_BY_MACHINE.get(reply)
        if over is not None:
            self.note(stage, over)
        return over is not None

    def note(self, stage: str, over: Limit) -> None:
        """One line, unless this client had one of this limit in the last minute, or many others had."""
        connection = self._connection
        connection.common.tally.limited(stage, over)
        unsaid = connection.common.notices.tell(over.key, connection.key, self._now)
        if unsaid is None:
            return
        what = {
            "stage": stage,
            "client": connection.address,
            "helo": connection.helo or None,
            "account": connection.account or None,
            "limit": over.key,
            "reply": str(over.reply) if over.reply is not None else None,
            "unlogged": unsaid or None,
        }
        connection.common.log.event("rejected" if over.reply is not None else "slowed", "", what)
