"""A mail server that takes mail like any other, and lies where it is told to.

`point` names what it would answer next: "greeting", the verb of a command, "response" (of AUTH), "." (the end of a body),
"hello" (of TLS), "close_notify"; "tls " in front where that came inside TLS.  `answer` answers as it should be.
"""

from __future__ import annotations

from collections.abc import Iterable

from OpenSSL import SSL

from tests.fuzz.far import Far, server_tls
from tests.fuzz.network import Reactor, Socket

END = b"\r\n.\r\n"
EXTENSIONS = ("PIPELINING", "SIZE 100000000", "8BITMIME", "REQUIRETLS", "AUTH PLAIN LOGIN")
ANSWERS = {
    "greeting": b"220 liar.example ESMTP\r\n",
    "STARTTLS": b"220 go\r\n",
    "MAIL": b"250 2.1.0 ok\r\n",
    "RCPT": b"250 2.1.5 ok\r\n",
    "DATA": b"354 go on\r\n",
    ".": b"250 2.0.0 taken\r\n",
    "RSET": b"250 2.0.0 ok\r\n",
    "QUIT": b"221 2.0.0 bye\r\n",
    "response": b"235 2.7.0 welcome\r\n",
}


class Liar(Far):
    """See the module.  context: of its certificate.  tells: it lists STARTTLS.  goes_on: in clear text behind close_notify.

    behind: what it says in the same breath as its next answer.
    """

    def __init__(self, reactor: Reactor, socket: Socket, context: SSL.Context, tells: bool = True, goes_on: bool = True) -> None:
        super().__init__(reactor, socket)
        self.context = context
        self.tells = tells
        self.goes_on = goes_on
        self.behind = b""
        self.spoil = ("whole", 0)
        self._at = 0  # read so far, of what is heard in this security state
        self._greeted = False
        self._in_body = False
        self._responses = 0  # of AUTH that are due
        self._done = False  # QUIT was answered, or TLS closed

    # ---- what is next

    @property
    def is_gone(self) -> bool:
        """Nothing comes of it any more."""
        return self.has_ended or self.socket.is_closed

    @property
    def _unread(self) -> bytes:
        return bytes((self.heard_plain if self.is_up else self.socket.heard)[self._at :])

    @property
    def point(self) -> str:
        """See the module; "" when it has nothing to answer."""
        if self.is_gone or self._done:
            return ""
        if not self._greeted:
            return "greeting"
        if self.tls is not None and not self.is_up:
            return "hello" if len(self.socket.heard) > self._fed else ""
        self.pump()
        what = self._in_clear_or_tls()
        return f"tls {what}" if what and self.is_up else what

    def _in_clear_or_tls(self) -> str:
        unread = self._unread
        if self._in_body:
            return "." if END in unread or unread.startswith(b".\r\n") else ""
        line, whole, _ = unread.partition(b"\r\n")
        if whole:
            return "response" if self._responses else line.split(b" ")[0].decode("latin-1").upper()
        closed = self.tls is not None and self.tls.get_shutdown() & SSL.RECEIVED_SHUTDOWN
        return "close_notify" if closed else ""

    # ---- answers

    def answer(self, cut: Iterable[int] = ()) -> bool:
        """Answer what is next, as it should be; False when there is nothing."""
        point = self.point
        what = point.removeprefix("tls ")
        if not what:
            return False
        if what == "hello":
            self.pump(cut, self.spoil)
            return self.is_up
        if what == "close_notify":
            self._close()
            return True
        line = self._take(what)
        self.reply(self._usual(what, line), cut)
        if what == "greeting":
            self._greeted = True
        elif what == "STARTTLS" and self.tls is None:
            self.start_tls(server_tls(self.context), self._at, cut, self.spoil)
            self._at = 0
        self._done = what == "QUIT"
        return True

    def reply(self, data: bytes, cut: Iterable[int] = ()) -> None:
        """Say that, in TLS where there is TLS."""
        data, self.behind = data + self.behind, b""
        if self.is_up:
            self.say(data, cut)
        else:
            self.say_raw(data, cut)

    def honest(self, until: str = "") -> bool:
        """Answer everything, up to a point; True when it was reached."""
        while point := self.point:
            if point == until:
                return True
            if not self.answer():
                break
        return False

    def _take(self, what: str) -> bytes:
        """The line that is answered."""
        if what == "greeting":
            return b""
        unread = self._unread
        end = b"\r\n" if what != "." or unread.startswith(b".\r\n") else END
        line = unread[: unread.index(end)]
        self._at += len(line) + len(end)
        return line

    def _usual(self, what: str, line: bytes) -> bytes:
        if what == "EHLO":
            lines = ["liar.example", *EXTENSIONS, *["STARTTLS"] * (self.tells and not self.is_up)]
            return "".join(f"250{'-' if n < len(lines) else ' '}{text}\r\n" for n, text in enumerate(lines, 1)).encode()
        if what in ("AUTH", "response"):
            self._responses = max(0, self._responses - 1) if what == "response" else 2 * (line.upper() == b"AUTH LOGIN")
            return b"334 dGVsbCBtZQ==\r\n" if self._responses else ANSWERS["response"]
        self._in_body = what == "DATA"
        return ANSWERS.get(what, b"500 5.5.2 what?\r\n")

    def _close(self) -> None:
        """close_notify back, and perhaps in clear text from here."""
        self.close_notify()
        self._done = not self.goes_on
        self.tls, self.is_up, self._at = None, False, self._fed
