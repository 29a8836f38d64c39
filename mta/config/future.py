"""Keys that the manual of the finished server knows and this release has not built.

A configuration that uses one is refused: whoever asks for DANE exceptions or client certificates must not believe that
he has them.  The text says that the key is right and the time is not, so that nobody hunts for a misspelling.
A key leaves this table when its feature lands in `settings.py`.
"""

from __future__ import annotations

from mta.config.mistake import KeyPath

__all__ = ["NOT_BUILT_KEYS", "is_future"]

NOT_BUILT_KEYS = frozenset(
    {
        "service",  # workers
        "tls_policy",
        "listen.submission",
        "listen.mail_requires",
        "listen.avoid_tls_for",
        "listen.auth_clear",
        "listen.auth_tls",
        "tls.sni",
        "tls.sni_unknown",
        "tls.client_cert",
        "tls.client_ca",
        "tls_client.dane_insecure_mx",
        "tls_client.dane_nxdomain_proof",
        "tls_client.allow_tls_required_no",
        "route.auth",
        "handover.preset",
        "handover.shutdown_wait",
        "handover.hosts_clear_tls",
        "dns.dnssec_probe",
    }
)


def is_future(path: KeyPath) -> bool:
    """Is this a key (wherever in an array of tables) that comes with a later release?"""
    return ".".join(step for step in path if isinstance(step, str)) in NOT_BUILT_KEYS
