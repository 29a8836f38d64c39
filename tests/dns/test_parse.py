"""`mta.dns.parse`: what servers say is understood, and no bytes whatever make it raise."""

import dns.edns
import dns.flags
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.dns.answer import Mx, Tlsa
from mta.dns.message import MAX_NEGATIVE_TTL, MAX_TTL, MAX_UNPROVEN_TTL, Question, Reply, belongs
from mta.dns.parse import parse
from tests.dns.replies import reply_to, soa

QUESTION = Question.of("example.test", "MX")


class ParseTests(SynchronousTestCase):
    """What they say."""

    def records(self, rdtype, *texts):
        question = Question.of("example.test", rdtype)
        return parse(reply_to(question, ("example.test.", 300, "IN", rdtype, *texts)), question).records

    def test_records_of_each_type(self):
        """Names are lower case without final dot, texts are bytes, the null MX is a dot."""
        self.assertCountEqual(self.records("MX", "10 MX.Example.test.", "0 ."), (Mx(10, "mx.example.test"), Mx(0, ".")))
        self.assertCountEqual(self.records("A", "192.0.2.1", "192.0.2.2"), ("192.0.2.1", "192.0.2.2"))
        self.assertEqual(self.records("AAAA", "2001:DB8::1"), ("2001:db8::1",))
        self.assertEqual(self.records("TXT", r'"v=spf1 " "-all\255"'), (b"v=spf1 -all\xff",))
        self.assertEqual(self.records("TLSA", "3 1 1 " + "ab" * 32), (Tlsa(3, 1, 1, b"\xab" * 32),))
        self.assertEqual(self.records("PTR", "Host.Example.test."), ("host.example.test",))
        self.assertEqual(self.records("CNAME", "Host.Example.test."), ("host.example.test",))

    def test_authentic(self):
        """The AD bit is reported, not judged."""
        wire = ("example.test.", 300, "IN", "MX", "10 mx.test.")
        self.assertTrue(parse(reply_to(QUESTION, wire, flags=dns.flags.AD), QUESTION).authentic)
        self.assertFalse(parse(reply_to(QUESTION, wire), QUESTION).authentic)

    def test_cname_chain(self):
        """The answer is at its end, the TTL is the smallest, the canonical name is known."""
        wire = reply_to(
            QUESTION,
            ("example.test.", 300, "IN", "CNAME", "b.test."),
            ("b.test.", 50, "IN", "CNAME", "C.test."),
            ("c.test.", 200, "IN", "MX", "10 mx.test."),
        )
        self.assertEqual(parse(wire, QUESTION), Reply("NOERROR", (Mx(10, "mx.test"),), "c.test", 50))

    def test_cname_not_followed(self):
        """A server that stops at the alias leaves the rest to us."""
        reply = parse(reply_to(QUESTION, ("example.test.", 300, "IN", "CNAME", "b.test.")), QUESTION)
        self.assertTrue(reply.unfinished)
        self.assertEqual(reply.canonical, "b.test")

    def test_cname_to_a_name_without_records(self):
        """With its SOA that is an answer: there is no such record."""
        wire = reply_to(QUESTION, ("example.test.", 300, "IN", "CNAME", "b.test."), authority=[soa()])
        self.assertEqual(parse(wire, QUESTION), Reply("NOERROR", (), "b.test", 60))

    def test_cname_loop(self):
        """A loop is garbage, not a hang."""
        loop = (("example.test.", 300, "IN", "CNAME", "b.test."), ("b.test.", 300, "IN", "CNAME", "example.test."))
        self.assertEqual(parse(reply_to(QUESTION, *loop), QUESTION).rcode, "GARBLED")

    def test_records_of_others_do_not_count(self):
        """Only what stands at the name, or where its chain leads, answers."""
        wire = reply_to(QUESTION, ("evil.test.", 300, "IN", "MX", "10 mx.evil.test."), authority=[soa()])
        self.assertEqual(parse(wire, QUESTION).records, ())

    def test_negative_ttl(self):
        """The smaller of the SOA's TTL and its minimum (RFC 2308 5), never more than our limit."""
        for minimum, ttl, expected in ((60, 3600, 60), (3600, 30, 30), (86400, 86400, MAX_NEGATIVE_TTL), (0, 300, 0)):
            wire = reply_to(QUESTION, rcode="NXDOMAIN", authority=[soa(minimum, ttl)])
            self.assertEqual(parse(wire, QUESTION), Reply("NXDOMAIN", (), "example.test", expected))

    def test_negative_without_soa(self):
        """Nothing says how long: briefly, whatever the shape of the reply."""
        self.assertEqual(parse(reply_to(QUESTION, rcode="NXDOMAIN"), QUESTION).ttl, MAX_UNPROVEN_TTL)
        wire = reply_to(QUESTION, authority=[("test.", 900, "IN", "NS", "ns.test.")])
        self.assertEqual(parse(wire, QUESTION), Reply("NOERROR", (), "example.test", MAX_UNPROVEN_TTL))

    def test_positive_ttl_has_a_limit(self):
        """A year in the zone is a day here."""
        self.assertEqual(parse(reply_to(QUESTION, ("example.test.", 31536000, "IN", "MX", "1 a.test.")), QUESTION).ttl, MAX_TTL)

    def test_servfail_says_nothing(self):
        """No records, no time, and the reason where the server gives one (RFC 8914)."""
        wire = reply_to(QUESTION, rcode="SERVFAIL", options=[dns.edns.EDEOption(6, "signature expired")])
        self.assertEqual(parse(wire, QUESTION), Reply("SERVFAIL", reason="EDE 6 (DNSSEC Bogus): signature expired"))

    def test_every_refusal(self):
        """Whatever the rcode, nothing of the rest is believed."""
        for rcode in ("FORMERR", "SERVFAIL", "NOTIMP", "REFUSED", "YXDOMAIN", "NOTAUTH", "BADVERS"):
            reply = parse(reply_to(QUESTION, ("example.test.", 300, "IN", "MX", "1 a.test."), rcode=rcode), QUESTION)
            self.assertEqual((reply.rcode, reply.records), (rcode, ()))

    def test_records_behind_nxdomain(self):
        """A contradiction is garbage."""
        wire = reply_to(QUESTION, ("example.test.", 300, "IN", "MX", "1 a.test."), rcode="NXDOMAIN")
        self.assertEqual(parse(wire, QUESTION).rcode, "GARBLED")


class MutationTests(SynchronousTestCase):
    """Bytes from strangers."""

    GOOD = (
        reply_to(QUESTION, ("example.test.", 300, "IN", "MX", "10 mx.example.test.", "20 mx2.example.test.")),
        reply_to(QUESTION, ("example.test.", 9, "IN", "CNAME", "b.test."), ("b.test.", 9, "IN", "MX", "1 a.b.test.")),
        reply_to(QUESTION, rcode="NXDOMAIN", authority=[soa()]),
    )

    def test_every_cut(self):
        """A reply cut anywhere is garbage: never an answer with the records so far."""
        for wire in self.GOOD:
            for end in range(12 + len(QUESTION.section), len(wire)):
                self.assertEqual(parse(wire[:end], QUESTION).rcode, "GARBLED")

    def test_trailing_bytes(self):
        """Nor is one with something behind it an answer."""
        for wire in self.GOOD:
            self.assertEqual(parse(wire + b"\x00", QUESTION).rcode, "GARBLED")

    @settings(deadline=None, max_examples=200)
    @given(st.sampled_from(GOOD), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=8))
    def test_changed_bytes_never_raise(self, wire, changes):
        """Whatever is changed, a reply comes out, and records only with NOERROR."""
        wire = bytearray(wire)
        for place, value in changes:
            wire[place % len(wire)] = value
        belongs(bytes(wire), 7, QUESTION)
        reply = parse(bytes(wire), QUESTION)
        self.assertIsInstance(reply, Reply)
        self.assertTrue(reply.rcode == "NOERROR" or not reply.records)

    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=80))
    def test_noise_never_raises(self, tail):
        """Our header and question, then anything."""
        wire = b"\x00\x07\x81\x80\x00\x01\x00\x02\x00\x01\x00\x01" + QUESTION.section + tail
        self.assertTrue(belongs(wire, 7, QUESTION))
        self.assertIsInstance(parse(wire, QUESTION), Reply)
        belongs(tail, 7, QUESTION)
