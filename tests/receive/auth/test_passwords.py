"""The password file: who is let in, that unknown users look and cost like known ones, and that changes are taken up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

import argon2
import attrs
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, eventAsText

from mta.config.settings import Auth
from mta.receive.auth.passwords import PasswordFile, users_in
from mta.smtp.credentials import Verifier
from mta.smtp.scram import ITERATIONS, serialise, verifier_of
from mta.smtp.secret import Secret
from mta.status import MailError
from tests.receive.auth.case import KEY, AccountsCase, cram, plain

QUICK = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
STORED = verifier_of("secret", b"s" * 12, 5000)


class PasswordsTests(AccountsCase):
    """Plain passwords in the file: nothing takes long."""

    def test_right(self) -> None:
        """By password and by proof, with colons, blanks and letters beyond ASCII; authzid empty or the user itself."""
        for given in (plain("user", "secret"), plain("user", "secret", "user"), cram("user", "secret")):
            self.assertEqual(self.name(given), "user")
        for given in (plain("jörg", "pass:with:colons ", mechanism="LOGIN"), cram("jörg", "pass:with:colons ")):
            self.assertEqual(self.name(given), "jörg")
        self.assertEqual(self.ran, [])

    def test_wrong(self) -> None:
        """Wrong password, unknown user, another's authzid, nearly right ones: 535 5.7.8, always the same text."""
        wrong = (
            plain("user", "Secret"),
            plain("user", ""),
            plain("user", "secret "),
            plain("User", "secret"),
            plain("nobody", "secret"),
            plain("nobody", "nobody's"),
            plain("nobody", "pass:with:colons "),
            plain("# ours", ""),
            plain("user", "secret", "jörg"),
            plain("jörg", "secret"),
            cram("user", "wrong"),
            cram("nobody", "nobody's"),
            cram("nobody", "secret"),
        )
        replies = {str(self.refusal(given).reply) for given in wrong}
        self.assertEqual(replies, {"535 5.7.8 Authentication credentials invalid"})

    def test_equal_work(self) -> None:
        """CRAM-MD5 of an unknown user costs the same comparison as that of a known one: one, with a password."""
        compared: list[bytes] = []

        class Counting:
            username = b"user"

            def checkPassword(self, password: bytes) -> bool:
                compared.append(password)
                return True

        from twisted.cred.credentials import IUsernameHashedPassword
        from zope.interface import directlyProvides

        checker = self.file()
        given = Counting()
        directlyProvides(given, IUsernameHashedPassword)
        self.assertEqual(self.successResultOf(checker.requestAvatarId(given)), b"user")
        given.username = b"nobody"
        self.failureResultOf(checker.requestAvatarId(given), UnauthorizedLogin)
        self.assertEqual((len(compared), compared[0], bool(compared[1])), (2, b"secret", True))

    def test_mistakes(self) -> None:
        """A bad file is a MailError with path and line, and with nothing of what stands there."""
        for text, word in (
            ("user:a\nnonsense", "line 2"), (":x", "line 1"), ("user:", "line 1"), ("u:xyzzy\nu:b", "line 2"), ("u:{X}xyzzy", "line 1"),
        ):  # fmt: skip
            self.path.write_text(text)
            error = self.assertRaises(MailError, self.file)
            self.assertIn(f"{self.path}, {word}", error.reason)
            self.assertNotIn("nonsense", error.reason)
            self.assertNotIn("xyzzy", error.reason)
        self.path.write_bytes(b"user:\xff\n")
        self.assertIn("not UTF-8", self.assertRaises(MailError, self.file).reason)
        self.path.unlink()
        self.assertIn("No such file", self.assertRaises(MailError, self.file).reason)

    def test_nobody(self) -> None:
        """Neither a file nor a portal: there are no accounts; an empty file: nobody gets in."""
        self.assertIsNone(self.of(Auth()))
        self.path.write_text("")
        accounts = self.made(Auth(passwords=self.path))
        self.assertEqual(self.refusal(plain("user", "secret"), accounts).reply.code, 535)

    def test_lines(self) -> None:
        """Comments, empty lines and CRLF."""
        self.assertEqual(list(users_in("# a:b\r\n\r\nuser:x\r\n")), [b"user"])


class HashesTests(AccountsCase):
    """Hashes: judged elsewhere, remembered for a while."""

    def setUp(self) -> None:
        super().setUp()
        self.path.write_text(f"user:{QUICK.hash('secret')}\nscram:{{SCRAM-SHA-256}}{serialise(STORED)}\nplain:secret\n")
        self.accounts = self.made(Auth(passwords=self.path))

    def test_threads(self) -> None:
        """A hash is asked in a thread, once; then the password is remembered, for five minutes, and a wrong one never."""
        self.assertEqual((self.name(plain("user", "secret")), len(self.ran)), ("user", 1))
        self.assertEqual((self.name(plain("user", "secret", mechanism="LOGIN")), len(self.ran)), ("user", 1))
        for count in (2, 3):
            self.refusal(plain("user", "wrong"))
            self.assertEqual(len(self.ran), count)
        self.clock.advance(300)
        self.assertEqual((self.name(plain("user", "secret")), len(self.ran)), ("user", 4))

    def test_many_at_once(self) -> None:
        """Of many who come with the same password while it is judged the first does the work; wrong ones do it all."""
        asked: list[tuple[Any, Deferred[Any]]] = []

        def later(do: Any) -> Deferred[Any]:
            asked.append((do, Deferred()))
            return asked[-1][1]

        hashes: list[bytes] = []

        def matches(password: bytes) -> bool:
            hashes.append(password)
            return password == b"secret"

        checker = PasswordFile(self.path, later, self.clock.seconds, KEY, 300.0)
        self.patch(checker, "_users", attrs.evolve(checker._users, secrets={b"user": Secret(matches)}))
        passwords = (b"secret", b"secret", b"wrong", b"secret", b"wrong")
        answers = [checker.requestAvatarId(UsernamePassword(b"user", password)) for password in passwords]
        for do, answer in asked:
            answer.callback(do())
        self.assertEqual(hashes, [b"secret", b"wrong", b"wrong"])
        for password, answer in zip(passwords, answers, strict=True):
            if password == b"secret":
                self.assertEqual(self.successResultOf(answer), b"user")
            else:
                self.failureResultOf(answer, UnauthorizedLogin)

    def test_no_memory(self) -> None:
        """cache = 0: each login takes the work."""
        accounts = self.made(Auth(passwords=self.path, cache=0.0))  # type: ignore[arg-type]
        for count in (1, 2):
            self.assertEqual((self.name(plain("user", "secret"), accounts), len(self.ran)), ("user", count))

    def test_verifier_as_password(self) -> None:
        """A SCRAM verifier judges PLAIN too; CRAM-MD5 wants a password in the file."""
        self.assertEqual((self.name(plain("scram", "secret")), len(self.ran)), ("scram", 1))
        self.refusal(plain("scram", "Secret"))
        for given in (cram("user", "secret"), cram("scram", "secret"), cram("user", "nobody's")):
            self.assertEqual(self.refusal(given).reply.code, 535)
        self.assertEqual(self.name(cram("plain", "secret")), "plain")

    def test_unknown_users_cost_the_same(self) -> None:
        """Each unknown name is judged by the secret of somebody, always the same one: the works are mixed as in the file."""
        work = {}
        for name in (f"nobody{number}" for number in range(60)):
            counts = []
            for _ in range(2):
                self.ran.clear()
                self.assertEqual(self.refusal(plain(name, "secret")).reason, "wrong user or password")
                counts.append(len(self.ran))
            self.assertEqual(*counts)
            work[name] = counts[0]
        self.assertEqual(set(work.values()), {0, 1})
        self.assertGreater(sum(work.values()), 20)

    def test_a_storm(self) -> None:
        """Too many at once are told 454, and nobody is let in for that."""
        checker = PasswordFile(self.path, lambda do: Deferred(), self.clock.seconds, KEY, 300.0)
        waiting = checker.requestAvatarId(UsernamePassword(b"user", b"secret"))
        self.assertNoResult(waiting)
        waiting.cancel()
        self.failureResultOf(waiting)

    def test_changed_meanwhile(self) -> None:
        """A password that was changed while it was judged is not remembered."""
        answers: list[Deferred[Any]] = []

        def later(do: Any) -> Deferred[Any]:
            answers.append(Deferred())
            return answers[-1]

        checker = PasswordFile(self.path, later, self.clock.seconds, KEY, 300.0)
        first = checker.requestAvatarId(UsernamePassword(b"user", b"secret"))
        self.path.write_text(f"user:{QUICK.hash('another')}\n")
        checker.look()
        answers[0].callback(True)
        self.assertEqual(self.successResultOf(first), b"user")
        second = checker.requestAvatarId(UsernamePassword(b"user", b"secret"))
        self.assertNoResult(second)
        answers[1].callback(False)
        self.failureResultOf(second, UnauthorizedLogin)


class ChangesTests(AccountsCase):
    """The file changes while we run."""

    def test_taken_up(self) -> None:
        """New users at the next login, and those who have gone are out at once, remembered or not."""
        self.path.write_text(f"user:{QUICK.hash('secret')}\n")
        accounts = self.made(Auth(passwords=self.path))
        self.assertEqual(self.name(plain("user", "secret"), accounts), "user")
        other = self.path.with_suffix(".new")
        other.write_text(f"user:{QUICK.hash('changed')}\nnew:one\n")
        os.replace(other, self.path)
        self.refusal(plain("user", "secret"), accounts)
        self.assertEqual([self.name(plain(*who), accounts) for who in (("user", "changed"), ("new", "one"))], ["user", "new"])

    def test_unreadable(self) -> None:
        """A slip leaves everybody as he was, is told once, and is mended by the next change."""
        with capturedLogs() as events:
            for text in ("nonsense xyzzy", None):
                self.path.write_text(text) if text else self.path.unlink()
                for _ in range(2):
                    self.assertEqual(self.name(plain("user", "secret")), "user")
            self.path.write_text("user:other\n")
            self.refusal(plain("user", "secret"))
        told = [eventAsText(event) for event in events]
        self.assertEqual(len(told), 2)
        self.assertIn("line 1", told[0])
        self.assertNotIn("xyzzy", "".join(told))

    def test_gone(self) -> None:
        """A file that is no longer there is told once, though nothing was wrong before."""
        self.path.unlink()
        with capturedLogs() as events:
            for _ in range(2):
                self.assertEqual(self.name(plain("user", "secret")), "user")
        [told] = [eventAsText(event) for event in events]
        self.assertIn("No such file", told)

    def test_not_now(self) -> None:
        """What keeps us from reading is no fault of the file: it is tried again at the next login, and told once."""
        self.path.write_text("user:other\n")
        full = OSError(24, "Too many open files")
        with capturedLogs() as events, mock.patch.object(Path, "read_text", side_effect=full):
            for _ in range(2):
                self.assertEqual(self.name(plain("user", "secret")), "user")
        self.assertEqual(len(events), 1)
        self.refusal(plain("user", "secret"))
        self.assertEqual(self.name(plain("user", "other")), "user")

    def test_time_put_back(self) -> None:
        """A change that keeps size and time, as of `cp -p`, is one too; and so are owner and mode, which say who can read."""
        before = self.path.stat()
        text = self.path.read_bytes().replace(b"user:secret", b"user:terces")
        while self.path.stat().st_ctime_ns == before.st_ctime_ns:  # the clock of the file system has its ticks
            self.path.write_bytes(text)
            os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.refusal(plain("user", "secret"))
        self.assertEqual(self.name(plain("user", "terces")), "user")


class VerifiersTests(AccountsCase):
    """What SCRAM is told."""

    def verifier(self, name: str, checker: PasswordFile | None = None) -> Verifier:
        """Of this user."""
        result: Verifier = self.successResultOf((checker or self.file()).verifier(name.encode()))
        return result

    def test_stored(self) -> None:
        """As it stands in the file; of a plain password one is made, with the same salt each time."""
        self.path.write_text(f"scram:{{SCRAM-SHA-256}}{serialise(STORED)}\nplain:secret\n")
        self.assertEqual(self.verifier("scram"), STORED)
        made = self.verifier("plain")
        self.assertEqual(made, verifier_of("secret", made.salt, ITERATIONS))
        self.assertEqual((made, len(made.salt)), (self.verifier("plain"), 16))

    def test_made_up(self) -> None:
        """Unknown users, and known ones with another hash, have one too: it looks like that of somebody, and is stable."""
        self.path.write_text(f"scram:{{SCRAM-SHA-256}}{serialise(STORED)}\nhash:{QUICK.hash('secret')}\nplain:secret\n")
        seen = set()
        for name in ("hash", *(f"nobody{number}" for number in range(40))):
            made = self.verifier(name)
            self.assertEqual((made, made.exists), (self.verifier(name), False))
            seen.add((len(made.salt), made.iterations))
        self.assertEqual(seen, {(12, 5000), (16, 4096)})
        self.assertEqual(len({self.verifier(f"nobody{number}").salt for number in range(40)}), 40)

    def test_after_a_restart(self) -> None:
        """With a lasting secret all is the same: at another process, and when others have got a new password or another name."""
        first = f"scram:{{SCRAM-SHA-256}}{serialise(STORED)}\nplain:secret\n"
        changed = serialise(verifier_of("x", b"t" * 12, 5000))
        others = (first, f"scram:{{SCRAM-SHA-256}}{changed}\nplain:secret\n", first.replace("scram:", "other:"))
        seen = set()
        for key, text in enumerate(others):
            self.path.write_text(text)
            checker = PasswordFile(self.path, self.run_now, self.clock.seconds, bytes([key]) * 32, 300.0, lambda: b"lasting")
            self.assertEqual(self.verifier("plain", checker).salt, self.verifier("plain", checker).salt)
            seen.add((self.verifier("nobody1", checker), self.verifier("plain", checker)))
        self.assertEqual(len(seen), 1)

    def test_gone(self) -> None:
        """Who was there with a plain password, and is no more, is shown what he was shown: so nobody learns of it."""
        self.path.write_text("here:secret\nplain:secret\n")
        salt = self.verifier("here").salt
        self.path.write_text("plain:secret\n")
        gone = self.verifier("here")
        self.assertEqual((gone.salt, gone.iterations, gone.exists), (salt, ITERATIONS, False))

    def test_without_a_lasting_secret(self) -> None:
        """All that is made up is another thing at the next start; what stands in the file is not."""
        other = PasswordFile(self.path, self.run_now, self.clock.seconds, b"K" * 32, 300.0)
        self.assertNotEqual(self.verifier("nobody").salt, self.verifier("nobody", other).salt)

    def test_hashes_and_verifiers(self) -> None:
        """Where some have verifiers, whoever has only a hash looks like one of them, known or not; his password never does."""
        self.path.write_text(f"scram:{{SCRAM-SHA-256}}{serialise(STORED)}\nhash:{QUICK.hash('secret')}\n")
        for name in ("hash", *(f"nobody{number}" for number in range(40))):
            self.ran.clear()
            made = self.verifier(name)
            self.assertEqual((len(made.salt), made.iterations, made.exists, self.ran), (12, 5000, False, []))

    def test_equal_work(self) -> None:
        """With plain passwords known and unknown users take the same: one derivation each."""
        for name in ("user", "nobody", "somebody"):
            self.ran.clear()
            self.verifier(name)
            self.assertEqual(len(self.ran), 1, name)

    def test_no_repr(self) -> None:
        """Nothing that a checker holds is shown."""
        self.assertNotRegex(repr(attrs.asdict(self.file()._users, recurse=False)), "secret'|pass:with")
