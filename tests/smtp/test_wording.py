"""What the receiver says by itself is fit to be said."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.smtp import command, data, transaction, wording
from mta.smtp.reply import ReplyParser, serialise
from mta.status import Reply

REPLIES = [
    value for module in (wording, command, data, transaction) for value in vars(module).values() if isinstance(value, Reply)
]


class WordingTests(SynchronousTestCase):
    def test_codes_agree(self):
        """RFC 2034 3: code and enhanced code are of one class, and there is one."""
        self.assertGreater(len(REPLIES), 30)
        for reply in REPLIES:
            self.assertEqual(str(reply.code)[0], reply.enhanced.split(".")[0], reply)

    def test_readable(self):
        """Each is one short line that our own client reads as it was meant."""
        for reply in REPLIES:
            parser = ReplyParser()
            parser.receive(line := serialise(reply, True))
            self.assertEqual(reply, parser.take())
            self.assertLess(len(line), 100)
