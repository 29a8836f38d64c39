"""The report, read back with Python's own mail parser."""

from __future__ import annotations

from email.utils import parseaddr, parsedate_to_datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.bounce.notice import Occasion
from mta.bounce.status_part import Action, Fate
from mta.envelope import Flag
from tests.bounce.common import CREATED, HEAD, TOP_FIELDS, claim, parsed, report, status_groups


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

    def test_original_headers_come_back_and_the_body_does_not(self) -> None:
        """Part three is the header section, byte for byte."""
        data = report()
        self.assertIn(HEAD.split(b"\r\n\r\n")[0] + b"\r\n\r\n--=_", data)
        self.assertNotIn(b"secret", data)

    def test_boundary_is_never_in_the_parts(self) -> None:
        """Even when somebody guessed the token and wrote the boundary into a header."""
        head = b"Subject: x\r\n --=_guess--\r\n --=_guessx--\r\n\r\n"
        top = parsed(report(head=head, token="guess"))
        self.assertEqual("=_guessxx", top.get_boundary())
        self.assertEqual(3, len(top.get_payload()))


class OccasionTests(SynchronousTestCase):
    """Why it is written."""

    def test_subject_and_receiver(self) -> None:
        """A subject for each; what the postmaster gets is for him, and answers nobody (RFC 3834 5)."""
        delayed = (Fate(claim(reply="451 4.4.1 later"), Action.DELAYED),)
        subjects = set()
        for occasion, fates, to, word in (
            (Occasion.FAILURE, (), "", "auto-replied"),
            (Occasion.DELAY, delayed, "", "auto-replied"),
            (Occasion.SUCCESS, (), "", "auto-replied"),
            (Occasion.COPY, (), "postmaster@example.org", "auto-generated"),
            (Occasion.DOUBLE, (), "postmaster@example.org", "auto-generated"),
        ):
            top = parsed(report(occasion=occasion, fates=fates, to=to))
            self.assertEqual((to or "alice@example.org", word), (top["To"], top["Auto-Submitted"]))
            subjects.add(top["Subject"])
        self.assertEqual(5, len(subjects))

    def test_whole_message(self) -> None:
        """RET=FULL: message/rfc822, byte for byte; one that no message may be comes back as its header, and is not said to."""
        part = parsed(report(whole=True)).get_payload(2)
        self.assertEqual("message/rfc822", part.get_content_type())
        self.assertIn(b"\r\n\r\n" + HEAD + b"\r\n--=_", report(whole=True))
        self.assertIn(b"It is attached.", report(whole=True))
        unsound = report(whole=True, head=HEAD + b"bare\nline\r\n")
        self.assertEqual("text/rfc822-headers", parsed(unsound).get_payload(2).get_content_type())
        self.assertIn(b"Its header is attached.", unsound)
        self.assertNotIn(b"secret", unsound)


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


ANY_TEXT = st.text(st.characters(codec=None), max_size=300)
NASTY = st.sampled_from(["\r\n", "\n", "\r", "\0", "\r\n\r\n", "\r\n--=_", ": ", "\x85", "\u2028", ";", '"', " ", "Bcc: x", "ü"])
TEXT = st.lists(st.one_of(ANY_TEXT, NASTY), max_size=6).map("".join)
HEADS = st.lists(st.one_of(st.binary(max_size=1200), st.sampled_from([b"\r\n", b"A: b", b" ", b"--=_"])), max_size=12).map(
    b"".join
)


class PropertyTests(SynchronousTestCase):
    """Nothing that comes from outside changes the structure."""

    @settings(deadline=None, max_examples=200)
    @given(
        st.lists(st.tuples(TEXT, st.none() | TEXT, st.none() | TEXT, st.sampled_from(Action)), min_size=1, max_size=3),
        TEXT,
        TEXT,
        HEADS,
        st.booleans(),
        st.booleans(),
        st.sampled_from(Occasion),
    )
    def test_no_injection(self, told, sender, envid, head, smtputf8, whole, occasion) -> None:
        """Any addresses, replies and headers: same fields, three parts, a group for each recipient, lines within limits."""
        claims = [claim(address, reply, orcpt, failed_dest=f"smtp:r/[{address}]") for address, reply, orcpt, _ in told]
        fates = tuple(Fate(claims[n], action) for n, (_, _, _, action) in enumerate(told))
        flags = int(Flag.SMTPUTF8) * smtputf8
        data = report(fates=fates, occasion=occasion, sender=sender, head=head, envid=envid, flags=flags, whole=whole)
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
