"""What Postfix, Exim and HAProxy are told: text from a few choices, the same for tests and benchmarks.

Both take mail for sink.test and its subdomains into one Maildir, offer STARTTLS when they are given a certificate, and, when given a
next hop, relay everything else to it.  Neither looks anything up in DNS.  Both log what each connection has seen (wire.py).
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

MASTER = """\
127.0.0.1:{port} inet n - n - {processes} smtpd
pickup    unix  n  -  n  60     1  pickup
cleanup   unix  n  -  n  -      0  cleanup
qmgr      unix  n  -  n  300    1  qmgr
tlsmgr    unix  -  -  n  1000?  1  tlsmgr
rewrite   unix  -  -  n  -      -  trivial-rewrite
bounce    unix  -  -  n  -      0  bounce
defer     unix  -  -  n  -      0  bounce
trace     unix  -  -  n  -      0  bounce
verify    unix  -  -  n  -      1  verify
flush     unix  n  -  n  1000?  0  flush
proxymap  unix  -  -  n  -      -  proxymap
smtp      unix  -  -  n  -      -  smtp
relay     unix  -  -  n  -      -  smtp
error     unix  -  -  n  -      -  error
retry     unix  -  -  n  -      -  error
discard   unix  -  -  n  -      -  discard
virtual   unix  -  n  n  -      -  virtual
anvil     unix  -  -  n  -      1  anvil
tlsproxy  unix  -  -  n  -      0  tlsproxy
scache    unix  -  -  n  -      1  scache
postlog   unix-dgram n  -  n  -  1  postlogd
"""


HAPROXY = """\
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    timeout check 30s
    option smtpchk EHLO check.test
listen mail
    bind 127.0.0.1:{port} {bind}
    server mta 127.0.0.1:{to} {server}
"""


def haproxy(port: int, to: int, bind: str, server: str) -> str:
    """The text of haproxy.cfg."""
    return HAPROXY.format(port=port, to=to, bind=bind, server=server)


def postfix(
    directory: Path,
    port: int,
    *,
    tls: tuple[Path, Path] | None,
    relay_to: int | None,
    processes: int | None,
    extra: Mapping[str, str],
) -> None:
    """Write main.cf and master.cf below directory/etc."""
    owner = pwd.getpwnam("mtapeer")
    settings = {
        "compatibility_level": "3.6",
        "myhostname": "peer.test",
        "mydestination": "",
        "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4",
        "mynetworks": "127.0.0.0/8",
        "maillog_file": f"{directory}/maillog",
        "maillog_file_prefixes": str(directory),
        "alias_maps": "",
        "alias_database": "",
        "biff": "no",
        "local_header_rewrite_clients": "",
        "smtpd_recipient_restrictions": "permit_mynetworks, reject_unauth_destination",
        "smtpd_client_connection_count_limit": "0",
        "smtputf8_enable": "yes",
        "virtual_mailbox_domains": "sink.test, b.sink.test",
        "virtual_mailbox_base": f"{directory}/mail",
        "virtual_mailbox_maps": "static:all/",
        "virtual_uid_maps": f"static:{owner.pw_uid}",
        "virtual_gid_maps": f"static:{owner.pw_gid}",
        "virtual_minimum_uid": "1",
        "virtual_mailbox_limit": "0",
        "mailbox_size_limit": "0",
        "message_size_limit": "104857600",
        "smtp_host_lookup": "native",
        "smtp_dns_support_level": "disabled",
        "default_transport": "error:5.1.1 no relay here",
        "smtpd_tls_security_level": "none",
        "smtpd_tls_loglevel": "1",
    }
    if tls is not None:
        certificate, key = tls
        settings |= {"smtpd_tls_security_level": "may", "smtpd_tls_cert_file": str(certificate), "smtpd_tls_key_file": str(key)}
    if relay_to is not None:
        settings |= {"default_transport": "smtp", "relayhost": f"[127.0.0.1]:{relay_to}", "smtp_tls_security_level": "none"}
    settings |= extra
    etc = directory / "etc/postfix"
    etc.mkdir(parents=True, exist_ok=True)
    (etc / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
    (etc / "master.cf").write_text(MASTER.format(port=port, processes="-" if processes is None else processes))
    _mail_directory(directory, "mtapeer")


EXIM = """\
primary_hostname = peer.test
domainlist local_domains = sink.test : *.sink.test
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
{tls}
chunking_advertise_hosts = *
smtputf8_advertise_hosts = *
acl_smtp_connect = note_connect
acl_smtp_helo = note_helo
acl_smtp_starttls = note_starttls
acl_smtp_auth = note_auth
acl_smtp_mail = note_mail
acl_smtp_rcpt = accept_all
acl_smtp_data = accept_all
message_size_limit = 100M
smtp_accept_max = 300
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = 0
smtp_reserve_hosts = 127.0.0.1
rfc1413_query_timeout = 0s
host_lookup =
never_users =
keep_environment =
log_selector = +tls_cipher +smtp_protocol_error +received_recipients +8bitmime
log_file_path = {directory}/log/%slog
spool_directory = {directory}/spool
add_environment = PATH=/usr/bin:/usr/sbin
qualify_domain = peer.test
{more}
begin acl
accept_all:
  accept
{notes}
begin routers
to_maildir:
  driver = accept
  domains = +local_domains
  transport = maildir
{relay}
begin transports
to_next_hop:
  driver = smtp
  port = {next_port}
{transport}
maildir:
  driver = appendfile
  directory = {directory}/mail/all
  maildir_format
  create_directory
  delivery_date_add
  envelope_to_add
  return_path_add
  user = Debian-exim
  group = Debian-exim
begin retry
* * F,1h,5s
{authenticators}
"""
EXIM_NOTED = ("connect", "helo", "starttls", "auth", "mail")
EXIM_AUTHENTICATORS = """\
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and {{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
  server_advertise_condition = ${{if def:tls_in_cipher}}
"""
EXIM_RELAY = "to_next_hop:\n  driver = manualroute\n  transport = to_next_hop\n  route_list = * 127.0.0.1\n  self = send\n"
EXIM_NO_RELAY = "no_relay:\n  driver = redirect\n  allow_fail\n  data = :fail: no relay here\n"


def exim(
    directory: Path,
    port: int,
    *,
    tls: tuple[Path, Path] | None,
    user: tuple[str, str] | None,
    relay_to: int | None,
    more: str,
    transport: str,
) -> None:
    """Write exim4.conf below directory/etc.  user: name and password, without which nobody may send."""
    offer = "tls_advertise_hosts ="
    if tls is not None:
        offer = f"tls_advertise_hosts = *\ntls_certificate = {tls[0]}\ntls_privatekey = {tls[1]}"
    notes = "".join(
        f"note_{name}:\n  warn logwrite = noted {name} $sender_host_port\n"
        + ("  deny !authenticated = *\n" if name == "mail" and user else "")
        + "  accept\n"
        for name in EXIM_NOTED
    )
    etc = directory / "etc/exim4"
    etc.mkdir(parents=True, exist_ok=True)
    configuration = etc / "exim4.conf"
    configuration.write_text(
        EXIM.format(
            directory=directory,
            port=port,
            tls=offer,
            more=more,
            notes=notes,
            relay=EXIM_NO_RELAY if relay_to is None else EXIM_RELAY,
            next_port=relay_to or 25,
            transport=transport,
            authenticators=EXIM_AUTHENTICATORS.format(user=user[0], password=user[1]) if user else "",
        )
    )
    configuration.chmod(0o644)
    for folder in ("log", "spool"):
        (directory / folder).mkdir(exist_ok=True)
        _give(directory / folder, "Debian-exim")
    _mail_directory(directory, "Debian-exim")


def _mail_directory(directory: Path, owner: str) -> None:
    directory.chmod(0o755)
    mail = directory / "mail"
    mail.mkdir(exist_ok=True)
    _give(mail, owner)


def _give(path: Path, owner: str) -> None:
    os.chown(path, pwd.getpwnam(owner).pw_uid, grp.getgrnam(owner).gr_gid)
