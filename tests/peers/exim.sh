#!/bin/bash
# exim.sh DIR: Exim in the foreground, with DIR/etc/exim4/exim4.conf; see lib.sh.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
serve() {
    chown root:Debian-exim /usr/sbin/exim4
    chmod 4755 /usr/sbin/exim4
    exec /usr/sbin/exim4 -bdf
}
run_peer exim "$(readlink -f "$0")" "$@"
