"""Which TLSA records stand for an address, in DNS that DNSSEC vouches for.

RFC 7672 2.2 and 3.1.3, RFC 7671 7.  Only a host whose address is secure is asked about, or whose name is a secure alias
(CNAME) of something that is not: servers of insecure zones often break on TLSA questions, and their answers would be worth
nothing.  The TLSA base domain is the name at the end of a chain of secure CNAMEs, else the name that the MX gave.

Three answers are kept apart: these records; securely none, or none that is secure; nobody knows (SERVFAIL, which is also
what a forgery looks like, silence).  The last one must never be taken for the second, or an attacker who drops packets
switches DANE off: `error` says so, and nothing is sent to that host.  Never errbacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from mta.dns.answer import Answer, Tlsa
    from mta.envelope import Target
    from mta.interfaces import IMailResolver

__all__ = ["Found", "TlsaLookup"]


@attrs.frozen(slots=True)
class Found:
    """What DNS says of one host and port.

    records: all that are there, usable or not, secure each.  base_domain: at which name they were found.  error: why
    nobody knows, "" when somebody does.  expires: seconds of the reactor's clock.
    """

    expires: float
    records: tuple[Tlsa, ...] = ()
    base_domain: str = ""
    error: str = ""


class TlsaLookup:
    """Asks a resolver whose `secure` can be believed.

    nxdomain_proof: where the TLSA question fails, a secure NXDOMAIN for the address of the same name proves that it has
    no TLSA record either (RFC 8020); for firewalls that drop questions of types they do not know.
    """

    def __init__(self, resolver: IMailResolver, nxdomain_proof: bool = False) -> None:
        self._resolver = resolver
        self._proof = nxdomain_proof

    async def find(self, target: Target) -> Found:
        """The records for a target's host and port."""
        bases = [target.name]
        expires = float("inf")
        is_alias = target.canonical not in ("", target.name)
        if target.address_secure:
            bases = [target.canonical, target.name] if is_alias else bases
        elif not is_alias:  # an address literal is neither
            return Found(expires)
        else:
            alias = await self._resolver.query(target.name, "CNAME")
            expires = alias.expires
            if alias.failed:
                return Found(expires, error=str(alias))
            if not (alias.secure and alias.found):
                return Found(expires)
        for base in bases:
            answer = await self._tlsa(f"_{target.port}._tcp.{base}")
            expires = min(expires, answer.expires)
            if answer.failed:
                return Found(expires, base_domain=base, error=str(answer))
            if answer.found and answer.secure:
                return Found(expires, answer.records, base)
        return Found(expires)

    async def _tlsa(self, owner: str) -> Answer:
        """The TLSA answer, or the proof that there can be none."""
        answer = await self._resolver.query(owner, "TLSA")
        if answer.failed and self._proof:
            proof = await self._resolver.query(owner, "A")
            if proof.secure and proof.rcode == "NXDOMAIN":
                return proof
        return answer
