#!/bin/bash
# opensmtpd.sh DIR: OpenSMTPD in the foreground, with DIR/etc/smtpd.conf; see lib.sh.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
serve() {
    mkdir -p /var/empty /run/opensmtpd /var/spool/smtpd
    chmod 711 /var/empty /var/spool/smtpd
    chgrp opensmtpq /usr/sbin/smtpctl && chmod 2555 /usr/sbin/smtpctl
    exec smtpd -d -f /etc/smtpd.conf
}
run_peer opensmtpd "$(readlink -f "$0")" "$@"
