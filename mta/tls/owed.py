"""From what the operator wrote, what the message says and what DNS and MTA-STS know, to what is owed at one address.

The order of docs/tls.md ("Which policy holds"): REQUIRETLS; "TLS-Required: No"; `[[tls_policy]]`; the route; DANE; MTA-STS;
`[tls_client] level`.  `rule_for` is the part that holds for a whole next hop, `owed` adds what is known of one address.
DANE that fails is never made good by MTA-STS (RFC 8461 2), and MTA-STS is not silenced by TLSA records of a host that
an insecure MX answer named: whoever forged that answer has TLSA records too.

Pure: the answers come from outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from mta.envelope import Flag, Target
from mta.status import MailError, Scope, transient
from mta.tls.dane import evidence, usable
from mta.tls.mtasts import Mode
from mta.tls.policy import Demand, Level, Parameters, Required
from mta.tls.policy_table import plain_name

if TYPE_CHECKING:
    from mta.config.settings import TlsClient, TlsPolicyEntry
    from mta.tls.mtasts import StsPolicy
    from mta.tls.tlsa import Found

__all__ = ["Rule", "name_is_unknown", "owed", "rule_for"]

UNKNOWN_NAME: Final = "4.7.10"  # RFC 8689 4.2.1: the name of the host is not known securely
_Owed = tuple[Required, MailError | None]  # and why nothing may be sent there
_BINDS_NAME: Final = (Level.SECURE, Level.FINGERPRINT)  # no DNS answer has a say in what the certificate must be


@attrs.frozen(slots=True)
class Rule:
    """What is asked of every host of a next hop, before DNS had its say.

    level: where neither DANE nor MTA-STS adds anything.  host: the bare name of the next hop, "" for an address literal.
    dane, sts: whether they are asked at all.  dane_only: nothing goes without usable TLSA records of a secure MX.
    """

    level: Level
    origin: str
    next_hop: str
    host: str
    names: tuple[str, ...]  # words of [[tls_policy]] names
    sni: str
    parameters: Parameters
    dane: bool
    dane_only: bool
    insecure_mx: str
    sts: bool
    requiretls: bool
    sasl: str

    def asks_dane(self, target: Target) -> bool:
        """Is a TLSA record of this host of any interest?"""
        return self.dane and (target.mx_secure or (self.insecure_mx != "may" and not self.dane_only))


def rule_for(
    settings: TlsClient, entry: TlsPolicyEntry | None, next_hop: str, level: Level | None, flags: int, sasl: str
) -> Rule:
    """What operator and message say.  entry: of [[tls_policy]].  level: of the route."""
    requiretls = bool(flags & Flag.REQUIRETLS)
    # The header is the sender's; what a server must be before it sees our credentials is the operator's.
    waived = bool(flags & Flag.TLS_REQUIRED_NO) and settings.allow_tls_required_no and not (requiretls or sasl)
    wanted, origin = _configured(settings, entry, level)
    dane = not waived and _wants_dane(entry, wanted, requiretls)
    dane_only = wanted is Level.DANE_ONLY and dane
    if waived:  # RFC 8689 5: no check at all, but TLS where it is offered
        wanted, origin = (wanted if wanted is Level.NONE else Level.MAY), "tls-required-no"
    elif wanted is Level.DANE:
        wanted = Level.MAY
    elif wanted is Level.DANE_ONLY and not dane:  # switched off for this destination
        wanted = Level.ENCRYPT
    return Rule(
        level=wanted,
        origin=origin,
        next_hop=next_hop,
        host=_host(next_hop),
        names=entry.names if entry else (),
        sni=plain_name(entry.sni) if entry else "",
        parameters=_parameters(entry) if entry else Parameters(),
        dane=dane,
        dane_only=dane_only,
        insecure_mx=settings.dane_insecure_mx,
        sts=not waived and not next_hop.startswith("[") and _wants_sts(settings, entry, wanted, origin, requiretls),
        requiretls=requiretls,
        sasl=sasl,
    )


def _configured(settings: TlsClient, entry: TlsPolicyEntry | None, level: Level | None) -> tuple[Level, str]:
    if entry is not None and entry.level:
        return Level(entry.level), "tls_policy"
    if level is not None:
        return level, "route"
    return Level(settings.level), "default"


def _wants_dane(entry: TlsPolicyEntry | None, level: Level, requiretls: bool) -> bool:
    if entry is not None and entry.dane == "off":
        return False
    if level in (Level.DANE, Level.DANE_ONLY):
        return True
    return not level.verifies and (requiretls or (entry is not None and entry.dane == "on" and level is not Level.NONE))


def _wants_sts(settings: TlsClient, entry: TlsPolicyEntry | None, level: Level, origin: str, requiretls: bool) -> bool:
    """level: with DANE taken out; "encrypt" as the default is a floor, said of a destination it is the operator's word on it.
    For REQUIRETLS a policy may be what vouches for the host's name (RFC 8689 4.2.1)."""
    said = entry.sts if entry else ""
    if said == "off":
        return False
    if level is Level.STS or (said == "on" and level is Level.ENCRYPT):
        return True
    weak = level is Level.MAY or (level is Level.ENCRYPT and origin == "default")
    return (settings.mta_sts or said == "on") and (weak or requiretls)


def _host(next_hop: str) -> str:
    """ "example.org" of "example.org", "[example.org]" and "[example.org]:587"; "" of an address literal."""
    name = plain_name(next_hop)
    if not name.startswith("["):
        return name
    name = name[1:].partition("]")[0].removesuffix(".")
    return "" if ":" in name or name.rpartition(".")[2].isdigit() else name


def _parameters(entry: TlsPolicyEntry) -> Parameters:
    return Parameters(
        min_version=entry.min,
        max_version=entry.max,
        ciphers=entry.ciphers,
        trust=entry.ca,
        fingerprints=tuple([pin.replace(":", "").lower() for pin in entry.fingerprints]),
        certificate=entry.certificate,
        key=entry.key,
    )


def owed(rule: Rule, target: Target, found: Found | None, policy: StsPolicy | None, until: float) -> Demand:
    """The demand at one address.  found: None where DANE was not asked; policy: None where there is none or it was not asked."""
    required, refusal = _by_dane(rule, target, found, _plain(rule, target))
    if refusal is None:
        required, refusal = _by_sts(rule, target, policy, required)
    if refusal is None and rule.requiretls:
        required, refusal = _by_requiretls(rule, target, policy, required)
    return Demand(target, required, refusal, until)


def _refused(result: str, text: str) -> MailError:
    """result: RFC 8460 4.3 has the word for it."""
    return transient("4.7.5", text, scope=Scope.SITE, reason=result)


def _plain(rule: Rule, target: Target) -> Required:
    """What operator and message ask of this host."""
    return Required(
        level=rule.level,
        host=target.name,
        address=target.address,
        port=target.port,
        next_hop=rule.next_hop,
        names=_names(rule, target),
        sni=rule.sni or _name(target),
        origin=rule.origin,
        parameters=rule.parameters,
        requiretls=rule.requiretls,
        sasl=rule.sasl,
        never_clear=rule.requiretls or bool(rule.sasl) or rule.parameters.certificate is not None,
    )


def _name(target: Target) -> str:
    """The host's name for SNI (RFC 6066 3: never an address)."""
    return target.name if target.name != target.address else ""


def _names(rule: Rule, target: Target) -> tuple[str, ...]:
    """Reference identifiers in Postfix's words; ".domain" is any name below it."""
    words = rule.names or (("nexthop", "dot-nexthop") if rule.level is Level.SECURE else ("hostname",))
    meant = {
        "nexthop": rule.host or target.name,
        "dot-nexthop": f".{rule.host}" if rule.host else "",
        "hostname": target.name,
    }
    names = [meant.get(word) if word in meant else plain_name(word) for word in words]
    return tuple(dict.fromkeys([name for name in names if name]))


def _by_dane(rule: Rule, target: Target, found: Found | None, required: Required) -> _Owed:
    """RFC 7672 2.2."""
    where = f"{target.name}:{target.port}"
    if found is None or not (found.records or found.error):
        missing = f"level dane-only, and there are no secure TLSA records for {where}"
        return required, _refused("dane-required", missing) if rule.dane_only else None
    asked = attrs.evolve(required, level=Level.DANE_ONLY if rule.dane_only else Level.DANE, origin="dane", never_clear=True)
    if found.error:
        return asked, _refused("dnssec-invalid", f"TLSA lookup error for {where} ({found.error})")
    half = not target.mx_secure
    asked = attrs.evolve(asked, evidence=evidence(found.records, found.base_domain, half))
    good = usable(found.records)
    if good and not (half and rule.insecure_mx == "encrypt"):
        names = _dane_names(rule, target, found.base_domain)
        return attrs.evolve(asked, tlsa=good, names=names, sni=found.base_domain, half=half), None
    if rule.dane_only:
        return asked, _refused("tlsa-invalid", f"level dane-only, and no TLSA record for {where} is usable")
    return attrs.evolve(asked, level=Level.ENCRYPT), None  # RFC 7672 2.2: TLS all the same


def _dane_names(rule: Rule, target: Target, base_domain: str) -> tuple[str, ...]:
    """RFC 7672 3.2.2, for DANE-TA: the next hop is a name of the server only where a secure MX (or the operator) says so."""
    names = (base_domain, rule.host, target.domain) if target.mx_secure else (base_domain,)
    return tuple(dict.fromkeys([name for name in names if name]))


def _by_sts(rule: Rule, target: Target, policy: StsPolicy | None, required: Required) -> _Owed:
    """RFC 8461 4."""
    if required.level.verifies and required.level is not Level.STS and not required.half:
        return required, None
    missing = _refused("validation-failure", f"level sts, and {rule.next_hop} has no MTA-STS policy in mode enforce")
    if policy is None or policy.mode is Mode.NONE:
        return required, missing if required.level is Level.STS else None
    proof = f"{required.evidence} sts:{policy.id}:{policy.mode.value}".strip()
    required = attrs.evolve(required, evidence=proof, policy=policy.lines)
    if policy.mode is Mode.TESTING:  # the mail goes as if there were no policy, and is reported
        return required, missing if required.level is Level.STS else None
    asked = attrs.evolve(required, origin="sts", never_clear=True)
    if not policy.allows(target.name):
        text = f"the MTA-STS policy of {rule.host} does not know the host {target.name}"
        return asked, _refused("validation-failure", text)
    if required.half:  # DANE rules, and the policy vouches for the host that the MX named
        return required, None
    return attrs.evolve(asked, level=Level.STS, names=(target.name,), sni=target.name), None


def _by_requiretls(rule: Rule, target: Target, policy: StsPolicy | None, required: Required) -> _Owed:
    """RFC 8689 4.2.1: TLS with a certificate that verifies, for a host whose name no forged DNS answer gave."""
    vouched = policy is not None and policy.mode is not Mode.NONE and policy.allows(target.name)
    if not (target.mx_secure or not rule.host or vouched or required.level in _BINDS_NAME):
        text = f"REQUIRETLS, and nobody vouches that {target.name} is a host of {rule.host}"
        return required, transient(UNKNOWN_NAME, text, scope=Scope.MESSAGE)
    if not required.level.verifies:
        required = attrs.evolve(required, level=Level.VERIFY, names=(target.name,), origin="requiretls")
    return required, None


def name_is_unknown(refusal: MailError | None) -> bool:
    """Was REQUIRETLS the reason, for a host whose name is not known securely?"""
    return refusal is not None and refusal.reply.enhanced == UNKNOWN_NAME
