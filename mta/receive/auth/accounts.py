"""Who may log in: a `twisted.cred` portal, the embedder's or one made from `[auth]`.

RFC 4954 (AUTH and its replies).  Wrong credentials are 535, and nobody learns whether it was the name or the password: both
take the same work and get the same text.  A portal that fails, has too much to do, or does not answer in time, is 454: never
an open door.  A password is in no log line and in no reply.  The avatar asked for is `mta.interfaces.IAccount`; the
checkers are given IUsernamePassword, IUsernameHashedPassword, IBearerToken or IProvenLogin, names and passwords as UTF-8
octets, as the checkers that come with Twisted want them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from traceback import format_tb
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import LoginFailed, UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from mta.config.settings import Auth, Settings
from mta.interfaces import IAccount, IBearerToken, IProvenLogin, IScramVerifiers
from mta.receive.auth.certificate import login_of, logins_in
from mta.receive.auth.peer import Peer
from mta.receive.auth.senders import Senders, may_send, senders_in
from mta.receive.auth.workers import Busy, Workers
from mta.smtp.address import Path as Address
from mta.smtp.bearer import BEARER
from mta.smtp.credentials import (
    BearerCredentials,
    CramCredentials,
    Credentials,
    ExternalCredentials,
    JudgedCredentials,
    PassedOn,
    PlainCredentials,
    Question,
    Verifier,
)
from mta.smtp.sasl import SERVER, Mechanisms, pass_on
from mta.smtp.scram import PLUS, SCRAM
from mta.status import MailError, Reply, misconfigured

if TYPE_CHECKING:
    from mta.receive.auth.dovecot import Dovecot
    from mta.receive.auth.lasting import LastingSecret

__all__ = ["Account", "Accounts", "Login"]

INVALID: Final = Reply(535, "5.7.8", "Authentication credentials invalid")
FAILED: Final = Reply(454, "4.7.0", "Temporary authentication failure")

_Answer = TypeVar("_Answer")
_NOWHERE: Final = Peer()
_bugs = Logger()


@attrs.frozen(slots=True)
class Login:
    """An account, taken.  account: what the portal gave, None where somebody else has vouched for the name."""

    name: str
    _logout: Callable[[], object]
    account: IAccount | None = None

    def leave(self) -> None:
        """The client has gone, or must prove anew who it is."""
        try:
            self._logout()
        except Exception:
            _bugs.failure("logout of {name} failed", name=self.name)

    def may_send(self, sender: str) -> bool:
        """May it send as this address ("" for the null reverse-path)?  An account that does not say may."""
        return self.account is None or may_send(self.account, sender)


@attrs.frozen(slots=True, eq=False)
class Accounts:
    """The door behind which the portal stands.

    mechanisms: how each is held.  verifiers: who knows what SCRAM needs.  logins: by the fingerprint of a certificate, None: by
    the address in it.
    """

    _portal: Portal
    mechanisms: Mechanisms = SERVER
    verifiers: IScramVerifiers | None = None
    logins: Mapping[str, str] | None = None
    dovecot: Dovecot | None = None
    lasting: LastingSecret | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        portal: Portal | None,
        workers: Workers,
        clock: Any,
        random: Callable[[int], bytes],
        before: Accounts | None = None,
    ) -> Accounts | None:
        """Of an embedder's portal, else of [auth], None where there is neither.  MailError: a file is wrong.

        before: those of the settings of before, whose connections may go on.
        """
        auth = settings.auth
        logins = _read("certificates", auth.certificates, logins_in)
        if portal is not None:
            return cls(portal, verifiers=_verifiers(portal), logins=logins)
        realm = _Realm(_senders(settings))
        if auth.dovecot:  # what each kind of [auth] needs is imported where it is wanted: most servers have none
            from mta.receive.auth.dovecot import PASSED_ON, Dovecot

            known = before.dovecot if before is not None else None
            dovecot = known if known is not None and known.where == auth.dovecot else Dovecot(auth.dovecot, clock, random)
            passed = {name: partial(pass_on, name) for name in PASSED_ON}
            return cls(Portal(realm, [dovecot]), {**SERVER, **passed}, logins=logins, dovecot=dovecot)
        if auth.passwords is not None:
            from mta.receive.auth.lasting import LastingSecret
            from mta.receive.auth.passwords import PasswordFile

            lasting = (before and before.lasting) or LastingSecret(settings.data_dir, random)
            checker = PasswordFile(auth.passwords, workers.run, clock.seconds, random(32), auth.cache, lasting)
            return cls(Portal(realm, [checker]), verifiers=checker, logins=logins, lasting=lasting)
        if any("EXTERNAL" in listen.auth_tls for listen in settings.listen):
            return cls(Portal(realm, [_Certified()]), logins=logins)
        return None

    def lacks(self, mechanism: str) -> str:
        """What is missing for it, in words; "" when nothing is."""
        passed_on = self.mechanisms[mechanism] is not SERVER[mechanism]
        if mechanism in (SCRAM, PLUS) and not passed_on and self.verifiers is None:
            return "nobody who knows verifiers (IScramVerifiers)"
        if mechanism in BEARER and not passed_on:
            return "" if IBearerToken in _checkers(self._portal) else "no checker that takes IBearerToken"
        if (passed_on or mechanism in (SCRAM, PLUS, "EXTERNAL")) and IProvenLogin not in _checkers(self._portal):
            return "no checker that takes IProvenLogin"
        return ""

    def retire(self, successor: Accounts | None) -> bool:
        """Other settings hold for those to come: keep no connection for longer than it is used.

        False: there is none that the successor does not go on with, and no need to `stop`.
        """
        if self.dovecot is None or (successor is not None and successor.dovecot is self.dovecot):
            return False
        self.dovecot.retire()
        return True

    def stop(self) -> Deferred[None]:
        """Keep no connection; fires when it is gone."""
        return succeed(None) if self.dovecot is None else self.dovecot.stop()

    # ---- what the session asks

    def login(self, given: Credentials, peer: Peer = _NOWHERE) -> Deferred[Login]:
        """Fires with the login, errbacks with a MailError: 535 (the credentials are wrong) or 454 (we are)."""
        if isinstance(given, JudgedCredentials) and given.error:
            return fail(MailError(INVALID, given.error))
        if given.authzid not in ("", given.user):
            return fail(MailError(INVALID, "to act for another account is not allowed"))
        if isinstance(given, ExternalCredentials):
            return self._certified(given, peer.certificate)
        if isinstance(given, JudgedCredentials):
            return self.known(given.user, given.mechanism)
        if isinstance(given, BearerCredentials):
            return self._enter(_Token(given, peer)) if given.token else fail(MailError(INVALID, "no token"))
        return self._enter(_Password(given, peer) if isinstance(given, PlainCredentials) else _Proof(given))

    def _certified(self, given: ExternalCredentials, certificate: bytes) -> Deferred[Login]:
        try:
            name = login_of(certificate, given.authzid, self.logins) if certificate else ""
        except ValueError as error:
            return fail(MailError(INVALID, str(error)))
        if not name:
            return fail(MailError(INVALID, "the certificate names no such login"))
        return self.known(name, given.mechanism, certificate)

    def known(self, name: str, mechanism: str, certificate: bytes = b"") -> Deferred[Login]:
        """As above, for a user whom the mechanism (or a trusted proxy: XCLIENT) has proved already.

        A portal that cannot be asked about such users is not; SCRAM and EXTERNAL are not offered then (`lacks`).
        """
        if self.lacks("EXTERNAL"):
            return succeed(Login(name, lambda: None))
        return self._enter(_Proven(name.encode(), mechanism, certificate))

    def step(self, question: Question, peer: Peer = _NOWHERE) -> Deferred[bytes | Verifier | Credentials]:
        """What an exchange must know to go on; errbacks as `login` does."""
        answer: Deferred[Any]
        if isinstance(question, PassedOn):
            assert self.dovecot is not None  # else nothing is passed on
            answer = self.dovecot.step(question, peer)
        else:
            assert self.verifiers is not None  # else SCRAM was not offered
            answer = maybeDeferred(self.verifiers.verifier, question.user.encode())
        return answer.addErrback(_refused)

    def _enter(self, credentials: Any) -> Deferred[Login]:
        answer: Deferred[Any] = maybeDeferred(self._portal.login, credentials, None, IAccount)
        return answer.addCallback(_taken).addErrback(_refused)


def _taken(answer: tuple[Interface, IAccount, Callable[[], object]]) -> Login:
    _, account, logout = answer
    name = account.name
    if not isinstance(name, str) or not name:
        raise TypeError(f"the name of an account is {type(name).__name__}, or empty")
    return Login(name, logout, account)


def _refused(failure: Failure) -> Any:
    """What a portal says in its exceptions may contain anything; only their names are repeated."""
    error = failure.value
    if isinstance(error, UnauthorizedLogin):
        raise MailError(INVALID, "wrong user or password")
    if isinstance(error, CancelledError):
        raise MailError(FAILED, "no answer in time")
    if isinstance(error, Busy):
        raise MailError(FAILED, "too many logins at once")
    if not isinstance(error, LoginFailed):  # those are how a portal says no: denied by the realm, no checker for such a proof
        # Without the words of the exception: they may be the statement with the password.
        where = "".join(format_tb(failure.getTracebackObject()))  # type: ignore[no-untyped-call]
        _bugs.error("the portal failed: {error}\n{where}", error=type(error).__name__, where=where)
    raise MailError(FAILED, f"the portal failed: {type(error).__name__}")


# ---- credentials, as twisted.cred knows them


@implementer(IUsernamePassword)
class _Password:
    """PLAIN and LOGIN.  The comparison takes the same time wherever the difference is, and however long the password."""

    __slots__ = ("password", "peer", "username")

    def __init__(self, given: PlainCredentials, peer: Peer) -> None:
        self.username = given.user.encode()
        self.password = given.password.encode()
        self.peer = peer

    def checkPassword(self, password: bytes) -> bool:
        return compare_digest(sha256(self.password).digest(), sha256(password).digest())


@implementer(IUsernameHashedPassword)
class _Proof:
    """CRAM-MD5."""

    __slots__ = ("_given", "username")

    def __init__(self, given: CramCredentials) -> None:
        self.username = given.user.encode()
        self._given = given

    def checkPassword(self, password: bytes) -> bool:
        return self._given.is_proof_of(password.decode())


@implementer(IBearerToken)
class _Token:
    """OAUTHBEARER and XOAUTH2.  It stands in no repr."""

    __slots__ = ("mechanism", "peer", "token", "username")

    def __init__(self, given: BearerCredentials, peer: Peer) -> None:
        self.username = given.user.encode()
        self.mechanism = given.mechanism
        self.token = given.token.encode()
        self.peer = peer


@implementer(IProvenLogin)
@attrs.frozen(slots=True)
class _Proven:
    """SCRAM, EXTERNAL, XCLIENT, and what Dovecot has held."""

    username: bytes
    mechanism: str
    certificate: bytes


# ---- what [auth] makes of it


@implementer(IAccount)
@attrs.frozen(slots=True)
class Account:
    """A name, and as whom it may send."""

    name: str
    senders: Senders = Senders()

    def may_send(self, sender: str) -> bool:
        """See IAccount."""
        return self.senders.allow(self.name, sender)


@implementer(IRealm)
@attrs.frozen(slots=True)
class _Realm:
    """An account for everybody whom the checker knows."""

    senders: Senders

    def requestAvatar(self, avatarId: bytes | tuple[()], mind: object, *interfaces: type[Interface]) -> Any:
        return IAccount, Account(bytes(avatarId).decode(), self.senders), lambda: None


@implementer(ICredentialsChecker)
class _Certified:
    """Where there is no other way in than a certificate."""

    credentialInterfaces = (IProvenLogin,)

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        return succeed(credentials.username)


def _verifiers(portal: Portal) -> IScramVerifiers | None:
    return next((checker for checker in _checkers(portal).values() if IScramVerifiers.providedBy(checker)), None)


def _checkers(portal: Portal) -> Mapping[Any, Any]:
    """By what they take; an embedder's stand-in for a portal may have nothing but `login`."""
    checkers: Mapping[Any, Any] = getattr(portal, "checkers", {})
    return checkers


def _senders(settings: Settings) -> Senders:
    auth: Auth = settings.auth
    listed = _read("sender_map", auth.sender_map, senders_in) or {}
    domains = frozenset([Address("", name.rstrip(".")).domain_key for name in settings.local_domains])
    return Senders(auth.senders == "bound", domains, listed)


def _read(key: str, path: Path | None, parse: Callable[[str], _Answer]) -> _Answer | None:
    if path is None:
        return None
    try:
        return parse(path.read_text("utf-8"))
    except OSError as error:
        raise _mistake(key, f"{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise _mistake(key, f"{path}: not UTF-8") from None
    except ValueError as error:
        raise _mistake(key, f"{path}, {error}") from None


def _mistake(key: str, reason: str) -> MailError:
    return misconfigured(f"[auth] {key}: {reason}")
