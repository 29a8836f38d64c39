"""`mta.dns.plain`: where it says anything, dnspython says the same; the rest it leaves alone."""

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.dns.answer import Mx
from mta.dns.message import MAX_TTL, Question, Reply, belongs
from mta.dns.parse import careful
from mta.dns.plain import read
from tests.dns.replies import reply_to, soa

QUESTION = Question.of("example.test", "MX")
TTLS = st.sampled_from([0, 1, 60, 300, 86_400, 90_000, 0x7FFFFFFF])
LABELS = st.text(st.sampled_from("abzAZ09-_"), min_size=1, max_size=8) | st.sampled_from(
    ["x" * 63, "a!b", "a.b".replace(".", "\\.")]
)
NAMES = st.lists(LABELS, max_size=3).map(lambda labels: ".".join([*labels, ""]) or ".")
HOSTS = st.sampled_from(["mx.example.test.", "MX.Example.Test.", "mx2.example.test.", "mail.other.test.", "."]) | NAMES
OF_TYPE = {
    "A": st.ip_addresses(v=4).map(str),
    "AAAA": st.ip_addresses(v=6).map(str) | st.sampled_from(["::", "::1", "::ffff:192.0.2.1", "::192.0.2.1", "1:0:0:2::3"]),
    "MX": st.tuples(st.integers(0, 65535), HOSTS).map(lambda pair: f"{pair[0]} {pair[1]}"),
    "PTR": HOSTS,
    "CNAME": HOSTS,
    "TXT": st.lists(st.binary(max_size=255), min_size=1, max_size=3).map(
        lambda strings: " ".join('"' + "".join(f"\\{octet:03}" for octet in string) + '"' for string in strings)
    ),
    "TLSA": st.binary(min_size=32, max_size=32).map(lambda digest: f"3 1 1 {digest.hex()}"),
}

ADDITIONAL = [
    ("mx.example.test.", 300, "IN", "A", "192.0.2.1", "192.0.2.2"),
    ("mx.example.test.", 300, "IN", "AAAA", "2001:db8::1"),
    ("mx.example.test.", 300, "IN", "TXT", "more"),
]


@st.composite
def replies(draw):
    """What `reply_to` wants for a reply such as servers give, of any shape that dnspython can write."""
    rdtype = draw(st.sampled_from(sorted(OF_TYPE)))
    question = Question.of("example.test", rdtype)
    owner, answer = "example.test.", []
    for target in draw(st.lists(HOSTS, max_size=3)) if draw(st.booleans()) else ():
        answer.append((owner, draw(TTLS), "IN", "CNAME", target))
        owner = target
    texts = draw(st.lists(OF_TYPE[rdtype], max_size=3))
    if texts:
        owner = draw(st.sampled_from([owner] * 6 + ["evil.test."]))
        answer.append((owner, draw(TTLS), "IN", rdtype, *texts))
    proof = [soa(draw(TTLS), draw(TTLS)), ("test.", 60, "IN", "NS", "ns.test."), ("a.test.", *soa()[1:])]
    more = {
        "rcode": "NOERROR" if texts else draw(st.sampled_from(["NOERROR", "NXDOMAIN", "SERVFAIL"])),
        "authority": draw(st.lists(st.sampled_from(proof), max_size=2)) if not texts or draw(st.booleans()) else (),
        "additional": draw(st.lists(st.sampled_from(ADDITIONAL), max_size=3)) if draw(st.booleans()) else (),
        "flags": draw(st.sampled_from([0, dns.flags.AD, dns.flags.AA, dns.flags.TC])),
        "options": draw(st.sampled_from([(), (), [dns.edns.EDEOption(6, "why")]])),
    }
    return question, answer, more


class AgreementTests(SynchronousTestCase):
    """Two readers, one meaning."""

    def agree(self, wire, question):
        """None, or the same."""
        reply = read(wire, question)
        if reply is not None:
            self.assertEqual(reply, careful(wire, question))
        return reply

    @settings(deadline=None, max_examples=200)
    @given(replies())
    def test_what_servers_say(self, drawn):
        """All shapes, all types."""
        question, answer, more = drawn
        wire = reply_to(question, *answer, **more)
        assume(belongs(wire, 7, question))
        self.agree(wire, question)

    @settings(deadline=None, max_examples=200)
    @given(replies(), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4))
    def test_changed_octets(self, drawn, changes):
        """What was damaged, or made up, on the way."""
        question, answer, more = drawn
        wire = reply_to(question, *answer, **more)
        wire = bytearray(wire)
        for place, value in changes:
            wire[place % len(wire)] = value
        if belongs(bytes(wire), 7, question):
            self.agree(bytes(wire), question)

    @settings(deadline=None, max_examples=200)
    @given(replies(), st.integers(1, 60), st.binary(max_size=3))
    def test_cut_and_continued(self, drawn, cut, tail):
        """What ends too soon or too late is never read."""
        question, answer, more = drawn
        wire = reply_to(question, *answer, **more)
        for changed in (wire[:-cut], wire + b"\x00" + tail):
            if belongs(changed, 7, question):
                self.assertIsNone(read(changed, question))

    @settings(deadline=None, max_examples=200)
    @given(
        st.sampled_from(["A", "MX", "PTR", "TXT"]),
        st.lists(
            st.sampled_from([b"\xc0\x0c", b"\xc0\x0d", b"\xc0\x14", b"\xc0\x1e", b"\x02mx", b"\0", b"\1", b"\x40"]), max_size=6
        ),
        st.integers(-2, 2),
    )
    def test_names_put_together(self, rdtype, parts, off):
        """Pointers to anywhere, labels without end, lengths that are wrong."""
        question = Question.of("example.test", rdtype)
        rdata = (b"\x00\x05" if rdtype == "MX" else b"") + b"".join(parts)
        record = b"\xc0\x0c" + question.section[-4:] + b"\0\0\1\x2c" + max(len(rdata) + off, 0).to_bytes(2, "big") + rdata
        self.agree(b"\0\7\x81\x80\0\1\0\1\0\0\0\0" + question.section + record, question)


class PlainTests(SynchronousTestCase):
    """What mail sees every day is read here, or the speed is gone."""

    def test_what_is_read(self):
        """Records, aliases and "no"."""
        alias = ("example.test.", 300, "IN", "CNAME", "b.Other.test.")
        for rdtype, texts, records in (
            ("MX", ["10 mx.Example.test."], (Mx(10, "mx.example.test"),)),
            ("A", ["192.0.2.1"], ("192.0.2.1",)),
            ("AAAA", ["2001:DB8::1"], ("2001:db8::1",)),
            ("TXT", ['"v=STSv1; " "id=1"'], (b"v=STSv1; id=1",)),
            ("PTR", ["Host.Example.test."], ("host.example.test",)),
        ):
            question = Question.of("example.test", rdtype)
            wire = reply_to(question, ("example.test.", 90_000, "IN", rdtype, *texts), flags=dns.flags.AD)
            self.assertEqual(read(wire, question), Reply("NOERROR", records, "example.test", MAX_TTL, True))
            wire = reply_to(question, alias, ("b.other.test.", 50, "IN", rdtype, *texts))
            self.assertEqual(read(wire, question), Reply("NOERROR", records, "b.other.test", 50))
            self.assertEqual(read(reply_to(question, authority=[soa(60)]), question), Reply("NOERROR", (), "example.test", 60))
            self.assertEqual(read(reply_to(question), question), Reply("NOERROR", (), "example.test", 300))
            wire = reply_to(question, rcode="NXDOMAIN", authority=[soa(60)])
            self.assertEqual(read(wire, question), Reply("NXDOMAIN", (), "example.test", 60))
        self.assertEqual(read(reply_to(QUESTION, alias), QUESTION), Reply("NOERROR", (), "b.other.test", 300, unfinished=True))

    def test_many_records(self):
        """They are read in the order in which they come."""
        texts = [f"{number} m{number}.Example.test." for number in range(20)]
        wire = reply_to(QUESTION, ("example.test.", 300, "IN", "MX", *texts))
        records = read(wire, QUESTION).records
        self.assertEqual(records, careful(wire, QUESTION).records)
        self.assertCountEqual(records, [Mx(number, f"m{number}.example.test") for number in range(20)])

    def test_addresses_beside_the_answer(self):
        """Some servers bring those of the MX hosts along; they change nothing."""
        record = ("example.test.", 300, "IN", "MX", "10 mx.example.test.")
        reply = Reply("NOERROR", (Mx(10, "mx.example.test"),), "example.test", 300)
        self.assertEqual(read(reply_to(QUESTION, record, additional=ADDITIONAL[:2]), QUESTION), reply)
        self.assertIsNone(read(reply_to(QUESTION, record, additional=ADDITIONAL[2:]), QUESTION))

    def test_without_edns(self):
        """A server that leaves OPT away."""
        message = dns.message.from_wire(reply_to(QUESTION, ("example.test.", 300, "IN", "MX", "10 mx.test.")))
        message.use_edns(False)
        self.assertEqual(read(message.to_wire(), QUESTION), Reply("NOERROR", (Mx(10, "mx.test"),), "example.test", 300))

    def test_what_is_left_alone(self):
        """Failures, contradictions, records twice, loops, TLSA sets, options, other names, names to escape."""
        record = ("example.test.", 300, "IN", "MX", "10 mx.test.")
        tlsa = Question.of("_25._tcp.mx.test", "TLSA")
        loop = [("example.test.", 300, "IN", "CNAME", "b.test."), ("b.test.", 300, "IN", "CNAME", "example.test.")]
        twice = reply_to(QUESTION, record, ("example.test.", 300, "IN", "MX", "10 nx.test.")).replace(b"\x02nx", b"\x02MX")
        for wire, question in (
            (reply_to(QUESTION, rcode="SERVFAIL"), QUESTION),
            (reply_to(QUESTION, record, rcode="NXDOMAIN"), QUESTION),
            (reply_to(QUESTION, record, flags=dns.flags.TC), QUESTION),
            (reply_to(QUESTION, record, authority=[soa()]), QUESTION),
            (reply_to(QUESTION, record, options=[dns.edns.EDEOption(1)]), QUESTION),
            (reply_to(QUESTION, ("evil.test.", 300, "IN", "MX", "10 mx.test.")), QUESTION),
            (reply_to(QUESTION, ("example.test.", 300, "IN", "MX", r"10 m\032x.test.")), QUESTION),
            (reply_to(QUESTION, authority=[("other.", *soa()[1:])]), QUESTION),
            (reply_to(QUESTION, authority=[soa(), ("example.test.", *soa()[1:])]), QUESTION),
            (reply_to(QUESTION, *loop), QUESTION),
            (twice, QUESTION),
            (reply_to(tlsa, (f"{tlsa.name}.", 300, "IN", "TLSA", "3 1 1 " + "ab" * 32)), tlsa),
        ):
            self.assertTrue(belongs(wire, 7, question))
            self.assertIsNone(read(wire, question), careful(wire, question))

    def test_records_twice(self):
        """That reply does say the same thing twice, and counts once."""
        record = ("example.test.", 300, "IN", "MX", "10 mx.test.")
        wire = reply_to(QUESTION, record, ("example.test.", 300, "IN", "MX", "10 nx.test.")).replace(b"\x02nx", b"\x02MX")
        self.assertEqual(careful(wire, QUESTION).records, (Mx(10, "mx.test"),))
