"""Looks at one address of a mail server: a delivery without mail, and on request what hand-over it takes.

docs/operators.md, "mta tls-probe".  The steps and their consequences are those of a delivery (docs/tls.md): what is owed
there is a `Demand`, the handshake is judged by `ClientTls` and `judge`.  Nothing is sent beyond EHLO, STARTTLS and QUIT;
`handover` adds RSET and MAIL FROM:<>, which is taken back.  No method raises for what a server does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from mta.config.settings import Settings
from mta.relay.outcome import verified
from mta.relay.probe.conversation import Conversation, Lost, Tell
from mta.relay.probe.finding import Finding, Handover, Result
from mta.relay.probe.survey import Survey
from mta.status import MailError, Reply
from mta.tls.client import ClientTls
from mta.tls.policy import Achieved, Demand, Level, Required, judge

__all__ = ["Prober", "outcome"]

IDLE: Final = 3.0  # seconds between two deliveries: the pools of the field keep connections for less than that or longer
LIMIT: Final = 30.0  # seconds for each answer: somebody waits in front of the screen


class _Refused(Exception):
    """The server said no; str() has the words.  result: what follows from it."""

    def __init__(self, what: str, reply: Reply) -> None:
        super().__init__(f"{what} was answered {reply}")
        self.result = Result.MISSED if reply.is_permanent else Result.UNKNOWN


class Prober:
    """Probes addresses.  reactor: IReactorTCP and IReactorTime.  tell: gets the conversations, each line with its address."""

    def __init__(self, reactor: Any, settings: Settings, tls: ClientTls, tell: Tell = lambda line: None) -> None:
        self._reactor = reactor
        self._settings = settings
        self._tls = tls
        self._tell = tell
        self._sources = {":" in address: address for address in settings.relay.source_address}

    async def probe(self, survey: Survey, *, again: float | None = None, handover: bool = False) -> list[Finding]:
        """Every address, side by side.  again: seconds until a second look.  handover: ask about that as well."""
        looks = [self._probe(survey, number, again, handover) for number in range(len(survey.demands))]
        return await gatherResults([Deferred.fromCoroutine(look) for look in looks], consumeErrors=True)

    async def _probe(self, survey: Survey, number: int, again: float | None, handover: bool) -> Finding:
        demand = survey.demands[number]
        finding = await self.look(demand)
        if _was_tried(finding):
            self.levels(finding, [(level, demands[number]) for level, demands in survey.levels.items()])
        if again is not None and demand.refusal is None:
            await self.look_again(finding, demand, again)
        if handover and finding.inside is not None:
            finding.handover = await self.handover(demand)
        return finding

    async def look(self, demand: Demand) -> Finding:
        """Go as far as a delivery goes before MAIL."""
        finding = Finding(demand.target, demand.required)
        if demand.refusal is not None:
            finding.ends(Result.UNKNOWN, f"nothing is sent there: {demand.refusal.reply.text}")
            return finding
        try:
            creator = self._tls.creator(demand.required)
        except MailError as error:
            finding.ends(Result.MISSED, error.reply.text)
            return finding
        conversation = None
        try:
            conversation = await self._connect(demand)
            await self._greet(conversation, finding)
            if await self._may_secure(conversation, finding):
                await conversation.secure(creator.clientConnectionForTLS(None))  # type: ignore[arg-type]
                await self._judge(conversation, finding)
        except Lost as error:
            finding.ends(Result.MISSED if finding.starttls is not None else Result.UNKNOWN, str(error))
        except _Refused as error:
            finding.ends(error.result, str(error))
        finally:
            if conversation is not None:
                await conversation.leave()
        return finding

    async def look_again(self, finding: Finding, demand: Demand, delay: float) -> None:
        """After so many seconds: is it the same server?"""
        await deferLater(self._reactor, delay)
        second = await self.look(demand)
        before, now = finding.achieved, second.achieved
        if second.trouble or not now.version:
            finding.again = second.trouble or "in clear text"
        else:
            same = "the same certificate" if before.chain[:1] == now.chain[:1] else "another certificate"
            finding.again = f"{now.version} {now.cipher}, {same}"

    async def _connect(self, demand: Demand) -> Conversation:
        target = demand.target
        return await Conversation.connect(
            self._reactor,
            target.address,
            target.port,
            hello=self._settings.hostname,
            source=self._sources.get(":" in target.address, ""),
            limit=LIMIT,
            tell=lambda line: self._tell(f"{target.name}[{target.address}] {line}"),
        )

    async def _greet(self, conversation: Conversation, finding: Finding) -> None:
        finding.greeting = await conversation.greeting()
        _expect("the connection", finding.greeting)
        reply, finding.clear = await conversation.hello()
        _expect("EHLO", reply)

    async def _may_secure(self, conversation: Conversation, finding: Finding) -> bool:
        """STARTTLS, as a delivery would say it: False where it would go on in clear, which is the result then."""
        required = finding.required
        if required.level is Level.NONE:
            finding.ends(Result.REACHED)
            return False
        if "STARTTLS" not in (finding.clear or {}) and required.may_go_clear:
            finding.ends(Result.REACHED, "STARTTLS is not offered: mail would go in clear text")
            return False
        finding.starttls = await conversation.starttls()
        if finding.starttls.code == 220:
            return True
        if not required.may_go_clear:
            raise _Refused("STARTTLS", finding.starttls)
        finding.ends(Result.REACHED, "STARTTLS is refused: mail would go in clear text")
        return False

    async def _judge(self, conversation: Conversation, finding: Finding) -> None:
        finding.achieved = self._tls.achieved(conversation.handle, finding.required)
        if reason := judge(finding.required, finding.achieved):
            finding.ends(Result.MISSED, reason)
            return
        reply, finding.inside = await conversation.hello()
        _expect("EHLO inside TLS", reply)
        if finding.required.requiretls and "REQUIRETLS" not in finding.inside:
            finding.ends(Result.MISSED, "REQUIRETLS is not offered inside TLS")
        else:
            finding.ends(Result.REACHED)

    # ---- levels

    def levels(self, finding: Finding, demands: Sequence[tuple[Level, Demand]]) -> None:
        """What the same server would be to mail of other levels, by what was seen of it."""
        said = [(level.value, self._outcome(level, demand, finding)) for level, demand in demands]
        finding.levels = said

    def _outcome(self, level: Level, demand: Demand, finding: Finding) -> str:
        if demand.refusal is not None:
            return f"nothing is sent: {demand.refusal.reply.text}"
        achieved = self._tls.again(demand.required, finding.achieved)
        said = outcome(demand.required, achieved)
        other = demand.required.sni != finding.required.sni and achieved.version
        return f"{said}; SNI would be {demand.required.sni or 'none'}" if other and level.verifies else said

    # ---- hand-over

    async def handover(self, demand: Demand) -> Handover:
        """May TLS stay up between two deliveries; may it be taken down?  One connection for each question."""
        steps: list[tuple[str, str]] = []
        keep = await self._attempt(demand, steps, self._keeps)
        clear = await self._attempt(demand, steps, self._clears)
        return Handover(steps, keep, clear)

    async def _attempt(self, demand: Demand, steps: list[tuple[str, str]], question: Any) -> bool:
        conversation = None
        try:
            conversation = await self._connect(demand)
            await self._until_tls(conversation, demand.required)
            await question(conversation, demand.required, steps)
        except (Lost, _Refused, MailError) as error:
            steps.append(("failed", error.reply.text if isinstance(error, MailError) else str(error)))
            return False
        finally:
            if conversation is not None:
                await conversation.leave()
        return True

    async def _until_tls(self, conversation: Conversation, required: Required) -> None:
        _expect("the connection", await conversation.greeting())
        _expect("EHLO", (await conversation.hello())[0])
        await self._start_tls(conversation, required)

    async def _start_tls(self, conversation: Conversation, required: Required) -> None:
        creator = self._tls.creator(required)
        reply = await conversation.starttls()
        if reply.code != 220:
            raise _Refused("STARTTLS", reply)
        await conversation.secure(creator.clientConnectionForTLS(None))  # type: ignore[arg-type]
        _expect("EHLO inside TLS", (await conversation.hello())[0])

    async def _keeps(self, conversation: Conversation, required: Required, steps: list[tuple[str, str]]) -> None:
        """RSET, RSET after a while, and two transactions begun and taken back: what a kept connection goes through."""
        await _step(steps, "RSET", conversation.reset())
        await conversation.idle(IDLE)
        await _step(steps, f"RSET after {IDLE:g} s", conversation.reset())
        for name in ("first", "second"):
            await _step(steps, f"MAIL, {name}", conversation.mail())
            await _step(steps, f"RSET, {name}", conversation.reset())

    async def _clears(self, conversation: Conversation, required: Required, steps: list[tuple[str, str]]) -> None:
        """close_notify, EHLO and RSET in clear, STARTTLS again."""
        steps.append(("close_notify", await conversation.take_tls_down(self._settings.handover.shutdown_wait)))
        reply, extensions = await conversation.hello()
        _expect("EHLO in clear", reply)
        steps.append(("EHLO in clear", "STARTTLS is offered" if "STARTTLS" in extensions else "STARTTLS is not offered"))
        if "STARTTLS" not in extensions:
            raise Lost("mail behind it would go in clear text")
        await _step(steps, "RSET in clear", conversation.reset())
        await self._start_tls(conversation, required)
        steps.append(("STARTTLS again", "TLS stands"))


def _was_tried(finding: Finding) -> bool:
    """Do we know whether there is TLS?"""
    if finding.achieved.version:
        return True
    failed = finding.starttls is not None and finding.starttls.code == 220
    return finding.clear is not None and finding.required.level is not Level.NONE and not failed


def outcome(required: Required, achieved: Achieved) -> str:
    """What a level comes to with a connection of this kind, in words."""
    level = required.level
    if reason := judge(required, achieved):
        return f"not reached: {reason}"
    if not achieved.version or level is Level.NONE:
        return "in clear text" if required.may_go_clear else "not reached: TLS is required, the connection is in clear text"
    return f"reached, as {level.value} ({achieved.version}, {verified(required, achieved)})"


def _expect(what: str, reply: Reply) -> None:
    if not reply.is_positive:
        raise _Refused(what, reply)


async def _step(steps: list[tuple[str, str]], name: str, answer: Any) -> None:
    reply = await answer
    steps.append((name, str(reply)))
    if not reply.is_positive:
        raise _Refused(name, reply)
