#!/bin/bash
# postfix.sh DIR: Postfix in the foreground, with DIR/etc/postfix/{main,master}.cf; see lib.sh.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
serve() {
    mkdir -p /var/lib/postfix /var/spool/postfix
    chown postfix /var/lib/postfix
    chgrp postdrop /usr/sbin/postdrop /usr/sbin/postqueue
    chmod g+s /usr/sbin/postdrop /usr/sbin/postqueue
    postfix start-fg &
    wait $!
}
run_peer postfix "$(readlink -f "$0")" "$@"
