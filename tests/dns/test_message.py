"""`mta.dns.message`: our questions are what a library would send, and only replies to them are heard."""

import dns.flags
import dns.message
from twisted.trial.unittest import SynchronousTestCase

from mta.dns.message import Question, belongs, is_truncated
from tests.dns.replies import reply_to

QUESTION = Question.of("example.test", "MX")


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
