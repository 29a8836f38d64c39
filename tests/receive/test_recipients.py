"""Who exists: files of recipients, and providers that think, fail, or talk nonsense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mta.config.receiving import RecipientTable
from mta.interfaces import IRecipients
from mta.receive.recipients import RecipientFiles, RecipientJudge
from mta.status import MailError
from tests.receive.test_rules import facts


class FileTests(SynchronousTestCase):
    """[[access.recipients]]."""

    def file(self, text: str | bytes) -> Path:
        """With that in it."""
        path = Path(self.mktemp())
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def test_exists(self) -> None:
        """Without regard to case; of other domains nothing is known."""
        text = '# ours\n\nann@friend.example\nBob@Friend.Example\r\n"a b"@friend.example\nx@bücher.example\n'
        files = RecipientFiles.read((RecipientTable(("friend.example", "Bücher.example."), self.file(text)),))
        for address, wanted in (
            ("ANN@friend.example", True),
            ("bob@FRIEND.example", True),
            ('"a b"@friend.example', True),
            ("x@xn--bcher-kva.example", True),
            ("ann@bücher.example", False),
            ("carl@friend.example", False),
            ("ann@other.example", None),
        ):
            self.assertIs(wanted, files.exists(address), address)

    def test_two_files(self) -> None:
        """For one domain are added up."""
        tables = tuple(RecipientTable(("a.example",), self.file(text)) for text in ("x@a.example", "y@a.example"))
        files = RecipientFiles.read(tables)
        self.assertEqual([True, True, False], [files.exists(f"{name}@a.example") for name in "xyz"])

    def test_mistakes(self) -> None:
        """With file and line."""
        for text, said in (("ann@a.example\nbob\n", " is wrong in line 2; user@domain is wanted"), (b"\xff", " is not in UTF-8")):
            path = self.file(text)
            error = self.assertRaises(MailError, RecipientFiles.read, (RecipientTable(("a.example",), path),))
            self.assertEqual(f"[[access.recipients]]: {path}{said}", error.reason)
        missing = RecipientTable(("a.example",), Path("/nowhere/at/all"))
        self.assertIn("No such file", self.assertRaises(MailError, RecipientFiles.read, (missing,)).reason)


@implementer(IRecipients)
class Provider:
    """Answers so."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def exists(self, address: str) -> Any:
        """See IRecipients."""
        return self.answer() if callable(self.answer) else self.answer


class JudgeTests(SynchronousTestCase):
    """`RecipientJudge`."""

    def judge(self, answer: Any, **known: Any) -> Any:
        """At RCPT."""
        return RecipientJudge(Provider(answer)).judge("rcpt", facts(**known))

    def test_answers(self) -> None:
        """True and None pass, False is 550 5.1.1; at once, late, or by a coroutine."""

        async def no() -> bool:
            return False

        self.assertEqual([None, None], [self.judge(True), self.judge(None)])
        for answer in (False, lambda: succeed(False), lambda: no()):
            error = self.judge(answer)
            if not isinstance(error, MailError):
                error = self.successResultOf(Deferred.fromCoroutine(error))
            self.assertEqual("550 5.1.1 No such mailbox here", str(error.reply))
        self.assertIsNone(self.successResultOf(Deferred.fromCoroutine(self.judge(lambda: succeed(True)))))

    def test_nonsense_and_failures(self) -> None:
        """Are raised: the session makes 451 of them."""
        self.assertRaises(TypeError, self.judge, "yes")
        self.assertRaises(TypeError, self.judge, 1)
        answer = Deferred.fromCoroutine(self.judge(lambda: fail(ZeroDivisionError())))
        self.failureResultOf(answer, ZeroDivisionError)

    def test_postmaster(self) -> None:
        """Exists everywhere (RFC 5321 4.5.1)."""
        self.assertIsNone(self.judge(False, recipient="PostMaster@friend.example"))
        self.assertIsNone(self.judge(False, recipient="postmaster"))
