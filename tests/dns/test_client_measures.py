"""What the resolver tells of itself."""

from __future__ import annotations

from zope.interface.verify import verifyObject

from mta.interfaces import IMeasured
from tests.dns.loopback import ZONES, LoopbackTestCase


class MeasuresTests(LoopbackTestCase):
    """`Resolver.measures`."""

    def told(self, resolver):
        return tuple(number for _, _, number in resolver.measures())

    async def test_counted(self):
        """Questions, those of them that memory answered, what was sent, what has failed, what is kept."""
        resolver = self.resolver(self.server(ZONES))
        verifyObject(IMeasured, resolver)
        self.assertEqual((0, 0, 0, 0, 0), self.told(resolver))
        await resolver.query("example.test", "A")
        self.assertEqual((1, 0, 1, 0, 1), self.told(resolver))
        await resolver.query("EXAMPLE.test.", "A")
        self.assertEqual((2, 1, 1, 0, 1), self.told(resolver))
        await resolver.query("a..test", "A")
        questions, hits, sent, failed, _ = self.told(resolver)
        self.assertEqual((3, 1, 1, 0), (questions, hits, sent, failed), "what no zone can hold was not asked")

    async def test_failures(self):
        """A server that is broken: each question that came to nothing, and one that is asked again in vain."""
        resolver = self.resolver(self.server(rcode="SERVFAIL"))
        answer = await resolver.query("example.test", "MX")
        self.assertTrue(answer.failed)
        questions, _, sent, failed, _ = self.told(resolver)
        self.assertEqual((1, 1, 1), (questions, sent, failed))
