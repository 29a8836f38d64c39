"""The report, read back with Python's own mail parser."""

from __future__ import annotations

import email
import email.policy
from email.message import Message as Parsed
from email.utils import parseaddr, parsedate_to_datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.bounce.report import HEAD_LIMIT, build_report, header_section, status_of
from mta.envelope import Claim, Flag, Message

HEAD = b"Received: from a by b\r\n\tfor <x@y>; now\r\nFrom: alice@example.org\r\nSubject: hello\r\n\r\nsecret body\r\n"
CREATED = 1_790_000_000_000


def message(sender: str = "alice@example.org", flags: int = 0, envid: str | None = None) -> Message:
    return Message(64, sender, CREATED, CREATED + 1, 100, flags, 2, b"", envid=envid)


def claim(address: str = "bob@example.net", reply: str | None = "550 5.1.1 no such user", orcpt: str | None = None) -> Claim:
    return Claim(65, 64, "bounce:", 0, 0, 1, address, orcpt=orcpt, last_reply=reply)


def report(*claims: Claim, sender: str = "alice@example.org", head: bytes = HEAD, token: str = "7f" * 16, **more) -> bytes:
    return build_report(
        message(sender, **more),
        claims or (claim(),),
        head,
        hostname="mx1.example.org",
        queue_id="QUEUEID",
        report_id="REPORTID",
        now=CREATED + 60_000,
        token=token,
    )


def parsed(data: bytes) -> Parsed:
    return email.message_from_bytes(data, policy=email.policy.compat32)


def status_groups(data: bytes) -> list[dict[str, str]]:
    """The groups of fields of the delivery status, unfolded, by hand: the stdlib knows only the ASCII form."""
    part = data.split(b"delivery-status\r\n", 2)[-1].split(b"\r\n\r\n", 1)[1].split(b"\r\n--=_")[0].decode()
    groups = []
    for group in part.rstrip("\r\n").split("\r\n\r\n"):
        unfolded = group.replace("\r\n ", " ").replace("  ", " ")
        pairs = (line.partition(":") for line in unfolded.split("\r\n"))
        groups.append({name: value.strip(" ") for name, _, value in pairs})
    return groups


class ReportTests(SynchronousTestCase):
    """What stands in a report."""

    def test_headers_of_the_report(self) -> None:
        """It comes from MAILER-DAEMON, goes to the sender and says that a machine wrote it (RFC 3834)."""
        top = parsed(report())
        self.assertEqual(("Mail Delivery System", "MAILER-DAEMON@mx1.example.org"), parseaddr(top["From"]))
        self.assertEqual("alice@example.org", top["To"])
        self.assertEqual("Undelivered Mail Returned to Sender", top["Subject"])
        self.assertEqual("<REPORTID@mx1.example.org>", top["Message-ID"])
        self.assertEqual("auto-replied", top["Auto-Submitted"])
        self.assertEqual("1.0", top["MIME-Version"])
        self.assertEqual(CREATED + 60_000, parsedate_to_datetime(top["Date"]).timestamp() * 1000)
        self.assertEqual("multipart/report", top.get_content_type())
        self.assertEqual("delivery-status", top.get_param("report-type"))
        self.assertEqual("7bit", top["Content-Transfer-Encoding"])

    def test_three_parts_in_order(self) -> None:
        """RFC 6522 section 3: for people, for programs, the original headers; none has a defect."""
        top = parsed(report())
        parts = top.get_payload()
        self.assertEqual(
            ["text/plain", "message/delivery-status", "text/rfc822-headers"], [part.get_content_type() for part in parts]
        )
        self.assertEqual([], [defect for part in top.walk() for defect in part.defects])

    def test_delivery_status_fields(self) -> None:
        """RFC 3464: one group for the message, one for each recipient."""
        data = report(
            claim(orcpt="rfc822;Bob+2Bx@example.net"),
            claim("eve@example.net", "452 4.2.2 mailbox full"),
            envid="QQ+3D1",
        )
        per_message, bob, eve = parsed(data).get_payload(1).get_payload()
        self.assertEqual("dns; mx1.example.org", per_message["Reporting-MTA"])
        self.assertEqual("QUEUEID", per_message["X-MTA-Queue-ID"])
        self.assertEqual("QQ=1", per_message["Original-Envelope-Id"])
        self.assertEqual(CREATED, parsedate_to_datetime(per_message["Arrival-Date"]).timestamp() * 1000)
        self.assertEqual("rfc822; bob@example.net", bob["Final-Recipient"])
        self.assertEqual("rfc822; Bob+x@example.net", bob["Original-Recipient"])
        self.assertEqual("failed", bob["Action"])
        self.assertEqual("5.1.1", bob["Status"])
        self.assertEqual("smtp; 550 5.1.1 no such user", bob["Diagnostic-Code"])
        self.assertEqual(("4.2.2", None), (eve["Status"], eve["Original-Recipient"]))

    def test_a_person_can_read_what_happened_and_what_to_do(self) -> None:
        """Recipient, reply, advice, queue id."""
        text = parsed(report(claim(), claim("full@example.net", "552 5.2.2 over quota"))).get_payload(0).get_payload()
        for words in (
            "<bob@example.net>:",
            "550 5.1.1 no such user",
            "check the address",
            "<full@example.net>:",
            "mailbox is full",
            "QUEUEID",
        ):
            self.assertIn(words, text)

    def test_expired_is_said(self) -> None:
        """A recipient with a transient last reply was given up for its age."""
        text = parsed(report(claim(reply="451 4.4.1 connection timed out"))).get_payload(0).get_payload()
        self.assertIn("until its time was over", text)

    def test_original_headers_come_back_and_the_body_does_not(self) -> None:
        """Part three is the header section, byte for byte."""
        data = report()
        self.assertIn(HEAD.split(b"\r\n\r\n")[0] + b"\r\n\r\n--=_", data)
        self.assertNotIn(b"secret", data)

    def test_no_reply_known(self) -> None:
        """Without a last reply there is a status and no diagnostic code."""
        (_, group) = parsed(report(claim(reply=None))).get_payload(1).get_payload()
        self.assertEqual(("5.0.0", None), (group["Status"], group["Diagnostic-Code"]))

    def test_boundary_is_never_in_the_parts(self) -> None:
        """Even when somebody guessed the token and wrote the boundary into a header."""
        head = b"Subject: x\r\n --=_guess--\r\n --=_guessx--\r\n\r\n"
        top = parsed(report(head=head, token="guess"))
        self.assertEqual("=_guessxx", top.get_boundary())
        self.assertEqual(3, len(top.get_payload()))


class Utf8Tests(SynchronousTestCase):
    """RFC 6533."""

    def test_global_forms(self) -> None:
        """A recipient beyond ASCII: utf-8 type, global status, and 8bit said wherever it is true."""
        data = report(
            claim("bübchen@example.net", "550 5.1.1 kein Büb"), sender="älice@example.org", head="Subject: ü\r\n\r\n".encode()
        )
        top = parsed(data)
        kinds = [part.get_content_type() for part in top.get_payload()]
        self.assertEqual(["text/plain", "message/global-delivery-status", "message/global-headers"], kinds)
        self.assertEqual("8bit", top["Content-Transfer-Encoding"])
        self.assertEqual("utf-8; bübchen@example.net", status_groups(data)[1]["Final-Recipient"])
        self.assertIn("To: älice@example.org\r\n".encode(), data)

    def test_ascii_recipient_beside_one_that_is_not(self) -> None:
        """The address type goes by the address."""
        _, first, second = status_groups(report(claim("ü@example.net"), claim("bob@example.net")))
        self.assertEqual(
            ("utf-8; ü@example.net", "rfc822; bob@example.net"), (first["Final-Recipient"], second["Final-Recipient"])
        )

    def test_ascii_report_escapes_a_reply_beyond_ascii(self) -> None:
        """A sender that never asked for SMTPUTF8 gets ASCII (but for its own headers)."""
        data = report(claim(reply="550 5.1.1 größe \udc80"))
        self.assertTrue(data.isascii())
        self.assertIn(b"550 5.1.1 gr\\x{F6}\\x{DF}e", data)

    def test_raw_bytes_in_the_headers(self) -> None:
        """Headers in no known charset come back as they are, declared 8bit, never as UTF-8."""
        for flags in (0, int(Flag.SMTPUTF8)):
            data = report(head=b"Subject: \xff\xfe\r\n\r\n", flags=flags)
            part = parsed(data).get_payload(2)
            self.assertEqual(("text/rfc822-headers", "8bit"), (part.get_content_type(), part["Content-Transfer-Encoding"]))
            self.assertEqual(b"Subject: \xff\xfe\r\n", part.get_payload(decode=True))


class HeaderSectionTests(SynchronousTestCase):
    """What is taken of the original message."""

    def test_bounded_at_whole_lines(self) -> None:
        """64 KiB at most, cut between two lines."""
        line = b"X-Long: " + b"a" * 90 + b"\r\n"
        section = header_section(line * 2000 + b"\r\nbody\r\n")
        self.assertLessEqual(len(section), HEAD_LIMIT)
        self.assertGreater(len(section), HEAD_LIMIT - len(line))
        self.assertEqual(b"", section.replace(line, b""))

    def test_a_message_without_headers_returns_nothing(self) -> None:
        """The first line that is no field is body."""
        self.assertEqual(b"", header_section(b"Dear Bob,\r\nsecret: yes\r\n"))
        self.assertEqual(b"", header_section(b" leading\r\nX: y\r\n"))
        self.assertEqual(b"A: b\r\n", header_section(b"A: b\r\nsecret text\r\nC: d\r\n\r\n"))

    def test_lines_too_long_and_control_bytes(self) -> None:
        """What never should have been accepted does not leave either."""
        section = header_section(b"A: " + b"x" * 2000 + b"\r\nB: 1\r2\n3\x004\r\n\r\n")
        self.assertEqual([998, 10, 0], [len(line) for line in section.split(b"\r\n")])
        self.assertIn(b"B: 1 2 3 4\r\n", section)


class StatusTests(SynchronousTestCase):
    """Status from a reply."""

    def test_class_is_that_of_the_code(self) -> None:
        """RFC 3464 2.3.4: a failure is 4 or 5, and the code knows best."""
        for reply, status in (
            ("550 5.1.1 no", "5.1.1"),
            ("550 5.7.26", "5.7.26"),
            ("451 4.4.1 later", "4.4.1"),
            ("550 4.1.1 mixed up", "5.0.0"),
            ("550 2.1.5 liar", "5.0.0"),
            ("450 no status", "4.0.0"),
            ("550", "5.0.0"),
            ("550 5.1.1x", "5.0.0"),
            ("250 2.0.0 not a failure", "5.0.0"),
            ("", "5.0.0"),
            ("garbage", "5.0.0"),
        ):
            self.assertEqual(status, status_of(reply), reply)


ANY_TEXT = st.text(st.characters(codec=None), max_size=300)
NASTY = st.sampled_from(["\r\n", "\n", "\r", "\0", "\r\n\r\n", "\r\n--=_", ": ", "\x85", "\u2028", ";", '"', " ", "Bcc: x", "ü"])
TEXT = st.lists(st.one_of(ANY_TEXT, NASTY), max_size=6).map("".join)
HEADS = st.lists(st.one_of(st.binary(max_size=1200), st.sampled_from([b"\r\n", b"A: b", b" ", b"--=_"])), max_size=12).map(
    b"".join
)
TOP_FIELDS = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
]


class PropertyTests(SynchronousTestCase):
    """Nothing that comes from outside changes the structure."""

    @settings(deadline=None, max_examples=200)
    @given(
        st.lists(st.tuples(TEXT, st.none() | TEXT, st.none() | TEXT), min_size=1, max_size=3), TEXT, TEXT, HEADS, st.booleans()
    )
    def test_no_injection(self, failed, sender, envid, head, smtputf8) -> None:
        """Any addresses, replies and headers: same fields, three parts, a group for each recipient, lines within limits."""
        claims = [claim(address, reply, orcpt) for address, reply, orcpt in failed]
        data = report(*claims, sender=sender, head=head, envid=envid, flags=int(Flag.SMTPUTF8) * smtputf8)
        self.assertTrue(data.endswith(b"\r\n"))
        for line in data[:-2].split(b"\r\n"):
            self.assertLessEqual(len(line), 998)
            self.assertFalse(set(line) & {0, 10, 13})
        top = parsed(data)
        self.assertEqual(TOP_FIELDS, top.keys())
        self.assertEqual(3, len(top.get_payload()))
        body = data.partition(b"\r\n\r\n")[2]  # what the encoding speaks of; To may be UTF-8 of its own (RFC 6532)
        self.assertEqual("7bit" if body.isascii() else "8bit", top["Content-Transfer-Encoding"])
        groups = status_groups(data)
        self.assertEqual(1 + len(claims), len(groups))
        self.assertTrue(all({"Final-Recipient", "Action", "Status"} <= group.keys() for group in groups[1:]))

    @settings(deadline=None, max_examples=200)
    @given(
        st.text(
            st.characters(min_codepoint=0x21, max_codepoint=0x2FF, exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=64
        )
    )
    def test_addresses_parse_back(self, local) -> None:
        """An address of legal length is in one piece in the status."""
        address = f"{local}@{'d' * 60}.example.net"
        found = status_groups(report(claim(address)))[1]["Final-Recipient"]
        self.assertEqual(f"{'rfc822' if address.isascii() else 'utf-8'}; {address}", found)
