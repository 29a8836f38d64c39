#!/bin/bash
# sendmail.sh DIR: Sendmail in the foreground, with DIR/etc/mail/sendmail.mc; see lib.sh.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
serve() {
    local cf=/usr/share/sendmail/cf
    mkdir -p "$1/queue" && chown root "$1/queue" && chmod 700 "$1/queue"
    chown -R root:root /etc/mail && chmod -R go-w /etc/mail
    printf 'hosts files\naliases files\n' >/etc/mail/switch
    m4 -D_CF_DIR_=$cf/ /etc/mail/sendmail.mc >/etc/mail/sendmail.cf || return 1
    exec /usr/libexec/sendmail/sendmail -bD -C /etc/mail/sendmail.cf -q10s -X "$1/wire"
}
run_peer sendmail "$(readlink -f "$0")" "$@"
