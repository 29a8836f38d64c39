"""Law 6 of the receiver's machine against anything: what a client says comes back in no reply (X17, ALPACA)."""

from __future__ import annotations

from base64 import b64encode

import attrs
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.event import Auth, BodyStart, MailFrom, RcptTo
from mta.smtp.event import Refused as Refusal
from mta.smtp.server import ReceiverOptions
from mta.status import Reply
from tests.smtp.talk import OPTIONS, WITH_AUTH, Talk, cut

FORMS = (
    b"%b",
    b"%b x",
    b"EHLO %b",
    b"HELO %b %b",
    b"MAIL FROM:<%b>",
    b"MAIL FROM:<%b@%b.test>",
    b"MAIL FROM:<a@c.test> %b",
    b"MAIL FROM:<a@c.test> SIZE=%b",
    b"MAIL FROM:<a@c.test> BODY=%b ENVID=%b RET=%b",
    b"MAIL FROM:<a@c.test> BY=%b HOLDFOR=%b MT-PRIORITY=%b",
    b"MAIL FROM:<a@c.test> AUTH=%b",
    b"MAIL %b",
    b"MAIL FROM:<a@c.test>",
    b"RCPT TO:<%b>",
    b"RCPT TO:<%b@mx.test>",
    b"RCPT TO:<b@mx.test> NOTIFY=%b ORCPT=%b",
    b"RCPT TO:<b@mx.test>",
    b"DATA %b",
    b"DATA",
    b"BDAT %b",
    b"BDAT 4 %b",
    b"BDAT 0 LAST",
    b"RSET %b",
    b"NOOP %b",
    b"HELP %b",
    b"VRFY %b",
    b"VRFY <%b@mx.test>",
    b"EXPN %b",
    b"STARTTLS %b",
    b"AUTH %b",
    b"AUTH PLAIN %b",
    b"AUTH LOGIN",
    b"AUTH CRAM-MD5",
    b"XCLIENT NAME=%b ADDR=%b",
    b"XCLIENT %b=x",
    b"XFORWARD %b",
    b"GET /%b HTTP/1.1",
    b"QUIT %b",
    b".",
)
MARKERS = st.text("QZqz0123456789", min_size=8, max_size=30).map(lambda text: b"Z" + text.encode())
WEIRD = st.sampled_from([b"", b"\0", b"\xff", b"\x1b[31m", b"\n", b"<", b"\xc3\xa4", b"=?", b"x" * 3000])
SHOWN = [
    OPTIONS,
    WITH_AUTH,
    attrs.evolve(OPTIONS, entitled=("XCLIENT", "XFORWARD")),
    attrs.evolve(WITH_AUTH, mail_requires="auth"),
]


def lines_with(marker: bytes, forms: list[bytes], weird: bytes) -> bytes:
    """Commands with the marker in each place, plain and with something strange behind it, as base64 where AUTH asks."""
    word = marker + weird
    known = [
        form.replace(b"%b", b64encode(b"\0" + word + b"\0" + word) if form[:4] == b"AUTH" and len(form) > 8 else word)
        for form in forms
    ]
    return b"".join([line + b"\r\n" for line in known])


class EchoTests(SynchronousTestCase):
    """The forms are what an attacker would choose: HTML, escapes and header lines would do no good either."""

    @settings(deadline=None, max_examples=200)
    @given(
        MARKERS,
        st.lists(st.sampled_from(FORMS), max_size=12),
        WEIRD,
        st.sampled_from(SHOWN),
        st.lists(st.integers(0, 2000), max_size=4),
        st.sampled_from([None, 4, 5]),
    )
    def test_no_reply(
        self, marker: bytes, forms: list[bytes], weird: bytes, options: ReceiverOptions, places: list[int], refuses: int | None
    ) -> None:
        """Whatever is said, in whatever pieces, and whatever the session answers: no reply and no refusal for the log has a word of it."""
        talk = Talk(attrs.evolve(options, max_errors=99))
        assume(marker not in talk.greeting)
        if refuses:
            no = Reply(refuses * 100 + 50, f"{refuses}.0.0", "No")
            talk.answers = {kind: [no] * 20 for kind in (MailFrom, RcptTo, BodyStart, Auth)}
        said = talk.say(b"EHLO c.test\r\n")
        said += talk.say(lines_with(marker, forms, weird), lambda data: cut(data, places))
        said += talk.say(b64encode(marker) + b"\r\n" + marker + b"\r\n")  # where AUTH or a body is open
        for echo in (marker, marker.lower(), b64encode(marker), b64encode(marker)[:8]):
            self.assertNotIn(echo, said)
        refused = repr([event for event in talk.events if type(event) is Refusal])
        self.assertNotIn(marker.decode(), refused)
