"""An MTA-STS policy over HTTPS (RFC 8461 3.3).

The certificate of the policy host must verify and bear its name, a redirect is not followed, 60 seconds and 64 KiB are all
there is, and the answer must be 200 and text/plain: a web server that lets strangers put up files must not speak for its
domain.  `https.py` holds most of that; here is what is special to policies.  Every failure is an `StsError`.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from mta.tls.https import Https, HttpsError
from mta.tls.mtasts import MAX_POLICY, Result, StsError

__all__ = ["fetch_policy"]


def fetch_policy(https: Https, domain: str) -> Deferred[bytes]:
    """The text of a domain's policy (A-labels).  Errbacks with StsError: sts-policy-fetch-error or sts-webpki-invalid."""
    return Deferred.fromCoroutine(_fetch(https, domain))


async def _fetch(https: Https, domain: str) -> bytes:
    try:
        page = await https.get(f"https://mta-sts.{domain}/.well-known/mta-sts.txt", limit=MAX_POLICY)
    except HttpsError as error:
        raise StsError(Result.WEBPKI if error.webpki else Result.FETCH, error.reason) from error
    if page.status != 200:
        raise StsError(Result.FETCH, f"HTTP status {page.status}")
    if page.media_type != "text/plain":
        raise StsError(Result.FETCH, f"media type {page.media_type[:80] or '(none)'} instead of text/plain")
    return page.body
