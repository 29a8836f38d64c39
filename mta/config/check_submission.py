"""What must hold on a port with submission = true (RFC 6409 4.3, RFC 8314 3.3), beyond what holds for every port.

That there is somebody who may log in, and TLS to do it in, is judged in `check_auth.py`.  For files only: embedders who bring
a portal of their own make their settings in Python.
"""

from __future__ import annotations

from collections.abc import Iterator

from mta.config.mistake import Finding, KeyPath
from mta.config.settings import Listen, Settings

__all__ = ["check_submission"]


def check_submission(settings: Settings) -> Iterator[Finding]:
    """All that is wrong with submission ports."""
    for index, listen in enumerate(settings.listen):
        path: KeyPath = ("listen", index)
        if listen.submission:
            yield from _demands_login(path, listen)
        if listen.check_from:
            yield from _check_from(path, listen, settings)


def _demands_login(path: KeyPath, listen: Listen) -> Iterator[Finding]:
    """RFC 6409 4.3: who has not logged in hands in nothing."""
    if listen.mail_requires not in ("auth", "tls+auth"):
        text = (
            f"a submission port takes mail from nobody who has not logged in: 'auth' or 'tls+auth', not {listen.mail_requires!r}"
        )
        yield Finding((*path, "mail_requires"), text, ((*path, "submission"),))


def _check_from(path: KeyPath, listen: Listen, settings: Settings) -> Iterator[Finding]:
    """A From header is compared with what a login may send as."""
    if not listen.submission:
        yield Finding((*path, "check_from"), "only a port with submission = true reads headers", ((*path, "submission"),))
    elif settings.auth.senders == "any":
        text = "does nothing while everybody may send as anybody ([auth] senders)"
        yield Finding((*path, "check_from"), text, (("auth", "senders"),))
