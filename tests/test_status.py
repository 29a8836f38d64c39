"""Replies and the one error type."""

from twisted.trial.unittest import SynchronousTestCase

from mta.status import MailError, Reply, Scope, permanent, transient


class ReplyTests(SynchronousTestCase):
    """What follows from a code."""

    def test_classes(self) -> None:
        """2yz is done, 3yz goes on, 5yz is permanent, and what is none of these is transient."""
        self.assertTrue(Reply(250, "2.0.0", "ok").is_positive)
        self.assertTrue(Reply(354, "", "go").is_intermediate)
        self.assertTrue(Reply(550, "5.1.1", "no").is_permanent)
        for code in (421, 451, 0, 199, 600, 999):
            reply = Reply(code, "", "?")
            self.assertEqual((False, False, False), (reply.is_positive, reply.is_intermediate, reply.is_permanent), code)

    def test_text_on_one_line(self) -> None:
        """str() is for logs and reports: one line, no empty parts."""
        self.assertEqual("550 5.1.1 no such user here", str(Reply(550, "5.1.1", "no such user\nhere")))
        self.assertEqual("220 mx.test", str(Reply(220, "", "mx.test")))
        self.assertEqual(["no such user", "here"], Reply(550, "", "no such user\nhere").lines)


class MailErrorTests(SynchronousTestCase):
    """An error carries its answer."""

    def test_makers(self) -> None:
        """transient() and permanent() carry code, enhanced code, text, scope and reason."""
        error = transient("4.3.1", "disk full", code=452, scope=Scope.SITE, reason="ENOSPC")
        self.assertEqual((Reply(452, "4.3.1", "disk full"), Scope.SITE, "ENOSPC"), (error.reply, error.scope, error.reason))
        self.assertEqual(Reply(550, "5.7.1", "no"), permanent("5.7.1", "no").reply)
        self.assertTrue(transient("4.0.0", "x").reply.code == 451)

    def test_text(self) -> None:
        """The reason follows in brackets, for the log."""
        self.assertEqual("451 4.0.0 later (why)", str(transient("4.0.0", "later", reason="why")))
        self.assertEqual("451 4.0.0 later", str(MailError(Reply(451, "4.0.0", "later"))))
