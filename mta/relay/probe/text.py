"""What a probe has found out, in lines for people; `grep` finds what it looks for.  Pure.

The first word of a line says what it is about: MX, TLSA, MTA-STS, TLSRPT, owed, greeting, EHLO, STARTTLS, TLS,
certificate, level, hand-over, result.  What servers and certificates say has no control characters when it comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mta.relay.probe.finding import Finding, Handover, Result
from mta.smtp.grammar import CONTROL
from mta.tls.policy import Achieved
from mta.tls.tlsa import Found
from mta.tls.verify import UNREADABLE

if TYPE_CHECKING:
    from mta.relay.probe.survey import Survey

__all__ = ["finding_lines", "survey_lines"]

_SAID = {Result.REACHED: "reached", Result.MISSED: "not reached", Result.UNKNOWN: "not known now"}


def survey_lines(survey: Survey) -> Iterator[str]:
    """What is known before anybody connects."""
    yield survey.next_hop
    if survey.mx is not None:
        for record in survey.mx.records:
            yield f"  MX {record.preference} {record.host} ({_secure(survey.mx.secure)})"
        if not survey.mx.records:
            yield f"  MX none ({_secure(survey.mx.secure)}): the domain itself is its host"
    if survey.sts is not None:
        policy = survey.sts
        yield f"  MTA-STS {policy.mode}, id {policy.id}, max_age {policy.max_age}, mx {' '.join(policy.mx) or 'none'}"
    elif survey.mx is not None:
        yield "  MTA-STS none"
    if survey.sts_fault is not None:
        yield _clean(f"  MTA-STS fault {survey.sts_fault}")
    yield _clean(f"  TLSRPT {' '.join(survey.reports) or 'none'}")
    if survey.dane_off:
        yield f"  DANE off: {survey.dane_off}"


def finding_lines(finding: Finding, survey: Survey, chain: bool = False) -> Iterator[str]:
    """One address.  chain: every certificate, not only the first."""
    target = finding.target
    yield f"{target.name}[{target.address}]:{target.port} (address {_secure(target.address_secure)})"
    for line in _details(finding, survey, chain):
        yield f"  {_clean(line)}"


def _secure(secure: bool) -> str:
    return "DNSSEC: secure" if secure else "DNSSEC: not secure"


def _details(finding: Finding, survey: Survey, chain: bool) -> Iterator[str]:
    if not survey.dane_off:
        yield from _tlsa(finding, survey.tlsa.get((finding.target.name, finding.target.port)))
    required = finding.required
    names, half = ", ".join(required.names) or "none", ", half: the MX answer is not secure" if required.half else ""
    yield f"owed {required.level.value} (by {required.origin}{half}), names {names}, SNI {required.sni or 'none'}"
    if finding.greeting is not None:
        yield f"greeting {finding.greeting}"
    if finding.clear is not None:
        yield f"EHLO {_extensions(finding.clear)}"
    if finding.starttls is not None:
        yield f"STARTTLS {finding.starttls}"
    yield from _tls(finding.achieved, chain)
    if finding.inside is not None:
        yield f"EHLO in TLS {_extensions(finding.inside)}"
    if finding.again:
        yield f"again {finding.again}"
    for level, said in finding.levels:
        yield f"level {level:11} {said}"
    if finding.handover is not None:
        yield from _handover(finding.handover)
    yield f"result {_SAID[finding.result]}{': ' if finding.trouble else ''}{finding.trouble}"


def _tlsa(finding: Finding, found: Found | None) -> Iterator[str]:
    owner = f"_{finding.target.port}._tcp.{found.base_domain if found and found.base_domain else finding.target.name}"
    if found is None or not (found.records or found.error):
        yield f"TLSA {owner}: none that is secure"
    elif found.error:
        yield f"TLSA {owner}: lookup failed: {found.error}"
    else:
        for record in found.records:
            yield f"TLSA {owner}: {record.usage} {record.selector} {record.mtype} {record.data.hex()}"


def _extensions(extensions: Mapping[str, str]) -> str:
    return ", ".join(f"{keyword} {parameters}".rstrip() for keyword, parameters in extensions.items()) or "no extensions"


def _tls(achieved: Achieved, chain: bool) -> Iterator[str]:
    if not achieved.version:
        return
    yield f"TLS {achieved.version} {achieved.cipher} ({achieved.bits} bits)"
    for number, der in enumerate(achieved.chain if chain else achieved.chain[:1]):
        yield from _certificate(number, der)
    if not achieved.chain:
        yield "certificate none was shown"
    else:
        names = "a name that is looked for is in it" if achieved.names_ok else "no name that is looked for is in it"
        yield f"certificate {achieved.chain_error or 'trusted'}; {names}"


def _certificate(number: int, der: bytes) -> Iterator[str]:
    """What TLSA records and [[tls_policy]] fingerprints are made from, too."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        yield f"certificate {number} {certificate.subject.rfc4514_string() or '(no subject)'}"
        yield f"certificate {number} issuer {certificate.issuer.rfc4514_string()}"
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        yield f"certificate {number} from {begin:%Y-%m-%d} to {end:%Y-%m-%d}"
        if names := _names(certificate):
            yield f"certificate {number} names {', '.join(names)}"
        yield f"certificate {number} sha256 {sha256(der).hexdigest()}, of its key {sha256(key).hexdigest()}"
    except UNREADABLE:
        yield f"certificate {number} cannot be read; sha256 {sha256(der).hexdigest()}"


def _names(certificate: x509.Certificate) -> Sequence[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return [str(name) for name in (*names.get_values_for_type(x509.DNSName), *names.get_values_for_type(x509.IPAddress))]


def _handover(handover: Handover) -> Iterator[str]:
    for step, said in handover.steps:
        yield f"hand-over {step}: {said}"
    yield f"hand-over keep {'yes' if handover.keep else 'no'}, clear {'yes' if handover.clear else 'no'}: {handover.suggestion}"


def _clean(text: str) -> str:
    return CONTROL.sub("?", text.replace("\n", " | "))
