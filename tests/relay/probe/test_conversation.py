"""A conversation led step by step: what each step gives, every way to an end, and that nothing stays behind."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor

from mta.relay.probe import conversation as module
from mta.relay.probe.conversation import Conversation, Lost
from mta.testing.peers import Act, Clear
from tests.relay.probe.case import ProbeCase, Unwrapping


class ConversationCase(ProbeCase):
    """`talk` connects; at the end the connection is left, whatever became of it."""

    async def talk(self, limit: float = 5.0) -> Conversation:
        conversation = await Conversation.connect(
            reactor, "127.0.0.1", self.port, hello="probe.example", limit=limit, tell=self.told.append
        )
        self.addCleanup(conversation.leave)
        return conversation

    async def secured(self, **how: Any) -> Conversation:
        """Inside TLS, EHLO said."""
        conversation = await self.talk(**how)
        await conversation.greeting()
        await conversation.hello()
        await conversation.starttls()
        await conversation.secure(self.connection())
        await conversation.hello()
        return conversation

    def connection(self) -> SSL.Connection:
        return SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)

    async def lost(self, step: Any) -> str:
        """The words of a step that ends the conversation."""
        try:
            await step
        except Lost as error:
            return str(error)
        return self.fail("it goes on")


class StepsTests(ConversationCase):
    """In order."""

    async def test_all(self) -> None:
        """Greeting, EHLO, STARTTLS, TLS, EHLO, RSET, MAIL alone, RSET, QUIT; and every line is told."""
        server = self.serve()
        conversation = await self.secured()
        for reply in (await conversation.reset(), await conversation.mail(), await conversation.reset()):
            self.assertEqual(reply.code, 250)
        await conversation.leave()
        self.assertEqual(
            server.verbs(1),
            ["EHLO", "STARTTLS", "tls EHLO", "tls RSET", "tls MAIL", "tls RSET", "tls QUIT"],
        )
        self.assertEqual(self.told[0], "< 220 scripted.example ESMTP")
        self.assertIn("> [TLS] RSET", self.told)
        self.assertIn("< [TLS] 250 2.0.0 ok", self.told)
        self.assertEqual(server.quits, 1)

    async def test_negative_answers(self) -> None:
        """A refusal is an answer, and the conversation goes on."""
        self.serve({"MAIL": ["530 5.7.0 no", "550 5.7.1 no"], "RSET": ["450 4.0.0 no"], "STARTTLS": ["454 4.7.0 no"]})
        conversation = await self.talk()
        await conversation.greeting()
        _, extensions = await conversation.hello()
        self.assertIn("STARTTLS", extensions)
        answers = [
            await conversation.starttls(),
            await conversation.mail(),
            await conversation.reset(),
            await conversation.mail(),
        ]
        self.assertEqual([answer.code for answer in answers], [454, 530, 450, 550])

    async def test_helo(self) -> None:
        """A server of old that knows HELO only."""
        self.serve({"EHLO": ["500 5.5.1 what?"], "HELO": ["250 hello"]})
        conversation = await self.talk()
        await conversation.greeting()
        reply, extensions = await conversation.hello()
        self.assertEqual((reply.code, dict(extensions)), (250, {}))

    async def test_idle(self) -> None:
        """Nobody says anything; a server that does, or goes, ends it."""
        server = self.serve()
        conversation = await self.talk()
        await conversation.greeting()
        await conversation.idle(0.05)
        server.say(b"421 4.4.2 idle\r\n")
        self.assertIn("ended it while idle: 421", await self.lost(conversation.idle(5.0)))
        second = await self.talk()
        await second.greeting()
        server.close_all()
        self.assertIn("while idle", await self.lost(second.idle(5.0)))


class EndTests(ConversationCase):
    """However it ends: the words say where, and `leave` leaves nothing."""

    async def test_no_connection(self) -> None:
        """A port where nobody listens."""
        self.serve()
        listening, self.port = self.port, 1
        self.assertIn("cannot connect", await self.lost(self.talk()))
        self.port = listening

    async def test_silence(self) -> None:
        """No greeting, no answer, no handshake: each has its limit, and its name."""
        self.serve({"greeting": [Act.STALL], "EHLO": [Act.STALL]})
        self.assertIn("no answer before the greeting in 0.1 s", await self.lost((await self.talk(0.1)).greeting()))
        conversation = await self.talk(0.1)
        await conversation.greeting()
        self.assertIn("no answer at EHLO in 0.1 s", await self.lost(conversation.hello()))

    async def test_silent_handshake(self) -> None:
        """220, and then nothing."""
        self.serve({"STARTTLS": "220 go", "client hello": Act.STALL}, certificate=None)
        conversation = await self.talk(0.1)
        await conversation.greeting()
        await conversation.hello()
        await conversation.starttls()
        self.assertIn("no answer in the TLS handshake", await self.lost(conversation.secure(self.connection())))

    async def test_text_instead_of_a_handshake(self) -> None:
        """A proxy that answers in SMTP to the client hello."""
        self.serve({"STARTTLS": "220 go"}, certificate=None)
        conversation = await self.talk()
        await conversation.greeting()
        await conversation.hello()
        await conversation.starttls()
        self.assertIn("no TLS record in the TLS handshake", await self.lost(conversation.secure(self.connection())))

    async def test_injected(self) -> None:
        """Bytes behind the 220 to STARTTLS are told from an answer; so are two answers to one question."""
        self.serve({"STARTTLS": b"220 go\r\n250 injected\r\n", "RSET": b"250 one\r\n250 two\r\n"})
        conversation = await self.talk()
        await conversation.greeting()
        await conversation.hello()
        self.assertIn("protocol error at STARTTLS", await self.lost(conversation.starttls()))
        conversation = await self.talk()
        await conversation.greeting()
        await conversation.hello()
        await conversation.reset()
        self.assertIn("protocol error", await self.lost(conversation.reset()))

    async def test_closed(self) -> None:
        """The server goes, in order or not, in clear and in TLS; every further step says so."""
        self.serve({"RSET": [Act.CLOSE, Act.ABORT], "tls RSET": [Act.CLOSE, Clear(b"554 too many\r\n"), Act.ABORT]})
        for words in ("connection closed", "lost"):
            conversation = await self.talk()
            await conversation.greeting()
            await conversation.hello()
            self.assertIn(words, await self.lost(conversation.reset()))
            self.assertIn(words, await self.lost(conversation.reset()))
            self.assertIn(words, await self.lost(conversation.mail()))
        for words in ("TLS closed by the server at RSET", "no TLS record at RSET", "lost"):
            conversation = await self.secured()
            self.assertIn(words, await self.lost(conversation.reset()))
            await self.lost(conversation.hello())

    async def test_a_server_that_does_not_let_go(self) -> None:
        """QUIT is not answered and the connection not closed: it is cut."""
        server = self.serve({"QUIT": Act.PAUSE})
        self.patch(module, "LAST_WORDS", 0.1)
        conversation = await self.talk()
        await conversation.greeting()
        await conversation.leave()
        await conversation.leave()  # a second time it does nothing
        self.assertEqual(server.quits, 1)


class TakenDownTests(ConversationCase):
    """close_notify, and what comes then."""

    async def test_goes_on(self) -> None:
        """The server answers, EHLO in clear, STARTTLS again, TLS again."""
        server = Unwrapping()
        self.listen(server)
        conversation = await self.secured()
        self.assertEqual(await conversation.take_tls_down(5.0), "answered with close_notify")
        _, extensions = await conversation.hello()
        self.assertIn("STARTTLS", extensions)
        await conversation.starttls()
        await conversation.secure(self.connection())
        await conversation.hello()
        self.assertEqual(server.lines, ["EHLO probe.example", "STARTTLS", "tls EHLO probe.example"] * 2)

    async def test_no_answer(self) -> None:
        """No close_notify in time, and one that comes late, in one piece with the answer in clear: neither is read."""
        for late in (False, True):
            self.listen(Unwrapping(answers=False, late=late))
            conversation = await self.secured()
            self.assertEqual(await conversation.take_tls_down(0.1), "no close_notify in 0.1 s")
            reply, extensions = await conversation.hello()
            self.assertEqual((reply.code, list(extensions)), (250, ["STARTTLS"]), late)

    async def test_closes(self) -> None:
        """A server that closes TCP, as Postfix and Sendmail do."""
        self.serve()
        conversation = await self.secured()
        await conversation.take_tls_down(5.0)
        self.assertIn("connection closed by the server at EHLO", await self.lost(conversation.hello()))
