#!/bin/sh
# Installs the real mail programs that tests/peers and bench use, and the compiler of `make test-compiled`.  As root, on Debian or
# its kin.
#
# The mail servers conflict as packages, so they are unpacked side by side below $MTA_PEERS (default /opt/mta-peers):
# no maintainer script runs, nothing is started, /usr/sbin/sendmail is not touched.  Their shared libraries, the clients
# (swaks, msmtp, curl, ...) and the accounts that the daemons insist on are installed the ordinary way; nodemailer by npm,
# below $MTA_PEERS too.
# May be repeated: quick when all is there.  Exit status 0: everything runs.
set -eu

PREFIX=${MTA_PEERS:-/opt/mta-peers}
POSTFIX=postfix
EXIM='exim4-daemon-heavy exim4-base exim4-config'
SENDMAIL='sendmail-bin sendmail-base sendmail-cf sensible-mda'
OPENSMTPD='opensmtpd'
HAPROXY='haproxy'
DOVECOT='dovecot-core'
NSD='nsd'
UNBOUND='unbound'
ACCOUNTS='postfix Debian-exim mtapeer smmta smmsp opensmtpd opensmtpq nsd unbound'
TOOLS='m4 ldnsutils sasl2-bin libsasl2-modules swaks libnet-ssleay-perl libio-socket-ssl-perl strace openssl procps util-linux mount'
COMPILER='gcc python3-dev'
CLIENTS='msmtp s-nail curl gsasl'
NODEMAILER=9.1.1  # the newest that says it runs on the node 18 of Debian 12; from 10.0 on it wants 20
export DEBIAN_FRONTEND=noninteractive

runs() {  # does every program start?
    for program in swaks strace openssl unshare m4 ldns-signzone saslpasswd2 dovecot $CLIENTS node npm gcc python3-config; do
        command -v "$program" >/dev/null || return 1
    done
    perl -MNet::SSLeay -e 1 2>/dev/null || return 1  # swaks --tls
    grep -q "\"version\": \"$NODEMAILER\"" "$PREFIX/nodemailer/node_modules/nodemailer/package.json" 2>/dev/null || return 1
    for account in $ACCOUNTS; do
        getent passwd "$account" >/dev/null || return 1
    done
    getent group postdrop >/dev/null || return 1
    LD_LIBRARY_PATH=$PREFIX/postfix/usr/lib/postfix "$PREFIX/postfix/usr/sbin/postconf" -c "$PREFIX/postfix/usr/share/postfix" \
        -d mail_version >/dev/null 2>&1 || return 1
    for program in smtp-source smtp-sink; do
        [ -x "$PREFIX/postfix/usr/sbin/$program" ] || return 1
    done
    "$PREFIX/exim/usr/sbin/exim4" -C /dev/null -bV 2>/dev/null | grep -q cram_md5 || return 1
    for program in sendmail/usr/libexec/sendmail/sendmail opensmtpd/usr/sbin/smtpd haproxy/usr/sbin/haproxy nsd/usr/sbin/nsd \
        unbound/usr/sbin/unbound; do
        [ -x "$PREFIX/$program" ] && ! ldd "$PREFIX/$program" | grep -q 'not found' || return 1
    done
}

if [ -z "${FORCE:-}" ] && runs; then
    echo "peers: all there below $PREFIX"
    exit 0
fi
[ "$(id -u)" = 0 ] || { echo "peers: must be run as root" >&2; exit 2; }

apt-get -o DPkg::Lock::Timeout=180 update -qq
mkdir -p "$PREFIX/debs"
cd "$PREFIX/debs"
libraries=
unpack() {  # FOLDER PACKAGE...
    folder=$PREFIX/$1
    shift
    mkdir -p "$folder"
    for package in "$@"; do
        rm -f "${package}"_*.deb
        apt-get -o APT::Sandbox::User=root download -qq "$package"
        dpkg -x "${package}"_*.deb "$folder"
        # its libraries only: the first alternative of each dependency, without the version
        libraries="$libraries $(dpkg -f "${package}"_*.deb Depends Pre-Depends | sed 's/^[A-Za-z-]*: //; s/([^)]*)//g; s/:any//g' |
            tr ',' '\n' | sed 's/|.*//; s/ //g' | grep '^lib' | tr '\n' ' ')"
    done
}
# shellcheck disable=SC2086  # lists of words
unpack postfix $POSTFIX
# shellcheck disable=SC2086
unpack exim $EXIM
# shellcheck disable=SC2086
unpack sendmail $SENDMAIL
unpack opensmtpd $OPENSMTPD
unpack haproxy $HAPROXY
unpack nsd $NSD
unpack unbound $UNBOUND
command -v node >/dev/null && command -v npm >/dev/null || CLIENTS="$CLIENTS nodejs npm"
# shellcheck disable=SC2086
apt-get -o DPkg::Lock::Timeout=180 install -y -qq --no-install-recommends $libraries $TOOLS $COMPILER $CLIENTS >"$PREFIX/apt.log" 2>&1 || {
    tail -5 "$PREFIX/apt.log" >&2
    exit 1
}
# Dovecot finds its parts by fixed paths; it conflicts with nobody, and is told not to start.
keep=/usr/sbin/policy-rc.d
[ -e $keep ] || { printf '#!/bin/sh\nexit 101\n' >$keep && chmod 755 $keep && trap "rm -f $keep" EXIT; }
apt-get -o DPkg::Lock::Timeout=180 install -y -qq --no-install-recommends "$DOVECOT" >>"$PREFIX/apt.log" 2>&1 || {
    tail -5 "$PREFIX/apt.log" >&2
    exit 1
}
npm install --prefix "$PREFIX/nodemailer" --engine-strict --ignore-scripts --no-audit --no-fund --no-package-lock --loglevel=error \
    "nodemailer@$NODEMAILER" >>"$PREFIX/apt.log" 2>&1 || {
    tail -5 "$PREFIX/apt.log" >&2
    exit 1
}
for group in postdrop $ACCOUNTS; do
    getent group "$group" >/dev/null || groupadd --system "$group"
done
for user in $ACCOUNTS; do
    getent passwd "$user" >/dev/null ||
        useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin -g "$user" "$user"
done
cd /
rm -rf "$PREFIX/debs"
runs || { echo "peers: something below $PREFIX does not run" >&2; exit 1; }
echo "peers: installed below $PREFIX"
