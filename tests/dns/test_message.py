"""`mta.dns.message`: our questions are what a library would send, and no bytes whatever make `parse` raise."""

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.dns.answer import Mx, Tlsa
from mta.dns.message import MAX_NEGATIVE_TTL, MAX_TTL, Question, Reply, belongs, is_truncated, parse

QUESTION = Question.of("example.test", "MX")


def reply_to(question, *answer, rcode="NOERROR", ident=7, authority=(), flags=0, options=()):
    """A server's reply on the wire; records as (name, ttl, "IN", type, text ...)."""
    message = dns.message.make_response(dns.message.from_wire(question.to_wire(ident)), recursion_available=True)
    message.answer = [dns.rrset.from_text(*each) for each in answer]
    message.authority = [dns.rrset.from_text(*each) for each in authority]
    message.flags |= flags
    message.set_rcode(dns.rcode.from_text(rcode))
    if options:
        message.use_edns(0, options=list(options))
    return message.to_wire(max_size=65535)


def soa(minimum=60, ttl=3600):
    return ("test.", ttl, "IN", "SOA", f"ns.test. admin.test. 1 3600 600 86400 {minimum}")


class QuestionTests(SynchronousTestCase):
    """What we send."""

    def test_as_the_library_reads_it(self):
        """RD and AD set, EDNS0 with 1232 octets and without DO, one question."""
        message = dns.message.from_wire(Question.of("_25._tcp.mx.example.test", "TLSA").to_wire(0xBEEF))
        self.assertEqual(message.id, 0xBEEF)
        self.assertEqual(message.flags, dns.flags.RD | dns.flags.AD)
        self.assertEqual((message.edns, message.payload, message.ednsflags), (0, 1232, 0))
        self.assertEqual([rrset.to_text() for rrset in message.question], ["_25._tcp.mx.example.test. IN TLSA"])

    def test_every_type(self):
        """All types of the interface are known by the right number."""
        for rdtype in ("A", "AAAA", "CNAME", "MX", "PTR", "TLSA", "TXT"):
            message = dns.message.from_wire(Question.of("example.test", rdtype).to_wire(1))
            self.assertEqual(message.question[0].to_text(), f"example.test. IN {rdtype}")

    def test_the_root(self):
        """The empty name is the root."""
        self.assertEqual(dns.message.from_wire(Question.of("", "MX").to_wire(1)).question[0].to_text(), ". IN MX")

    def test_impossible_names(self):
        """Labels of 0 or over 63 octets, names over 255, and what is no A-label."""
        long = ".".join(["a" * 63] * 4)
        for name in ("a..test", ".test", "a" * 64 + ".test", long, "b\u00fccher.test", "a\\032b.test"):
            with self.assertRaises(ValueError, msg=name):
                Question.of(name, "A")

    def test_longest_name(self):
        """255 octets on the wire are allowed."""
        name = ".".join(["a" * 63] * 3 + ["a" * 61])
        self.assertEqual(len(Question.of(name, "A").section), 255 + 4)


class BelongsTests(SynchronousTestCase):
    """RFC 5452: the id, the direction and the question must be ours."""

    def test_ours(self):
        """Also when the server changed the case of the name."""
        wire = reply_to(QUESTION)
        self.assertTrue(belongs(wire, 7, QUESTION))
        self.assertTrue(belongs(wire.replace(b"example", b"ExAmPlE"), 7, QUESTION))

    def test_wrong_id(self):
        """Somebody guesses."""
        self.assertFalse(belongs(reply_to(QUESTION), 8, QUESTION))

    def test_wrong_question(self):
        """The right id for another name, type or class."""
        for name, rdtype in (("evil.test", "MX"), ("example.test", "A"), ("xexample.test", "MX")):
            self.assertFalse(belongs(reply_to(Question.of(name, rdtype)), 7, QUESTION), name)
        wire = bytearray(reply_to(QUESTION))
        wire[12 + len(QUESTION.section) - 1] = 3  # class CH
        self.assertFalse(belongs(bytes(wire), 7, QUESTION))

    def test_a_question_is_no_reply(self):
        """Our own packet come back."""
        self.assertFalse(belongs(QUESTION.to_wire(7), 7, QUESTION))

    def test_refusal_without_question(self):
        """Servers say FORMERR with a bare header; a bare NOERROR proves nothing."""
        head = b"\x00\x07\x81"
        self.assertTrue(belongs(head + b"\x01" + bytes(8), 7, QUESTION))
        self.assertFalse(belongs(head + b"\x00" + bytes(8), 7, QUESTION))
        self.assertFalse(belongs(head + b"\x03" + bytes(8), 7, QUESTION))

    def test_every_cut(self):
        """A reply cut anywhere before the end of the question does not belong."""
        wire = reply_to(QUESTION)
        for end in range(12 + len(QUESTION.section)):
            self.assertFalse(belongs(wire[:end], 7, QUESTION))

    def test_truncated(self):
        """TC is seen."""
        self.assertTrue(is_truncated(reply_to(QUESTION, flags=dns.flags.TC)))
        self.assertFalse(is_truncated(reply_to(QUESTION)))


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
        """Nothing says how long: briefly."""
        self.assertLessEqual(parse(reply_to(QUESTION, rcode="NXDOMAIN"), QUESTION).ttl, MAX_NEGATIVE_TTL)

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
