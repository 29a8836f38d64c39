# Sourced by postfix.sh and exim.sh, which tests/peers/peers.py starts.
#
# A peer that install.sh has unpacked runs as root in mount and pid namespaces of its own: it finds its files at their
# usual places in /usr and /etc, has a /var to itself, resolves no name but those of its own hosts file, and shares only
# the loopback with the test.  Nothing outside of its folder is written.  When the first process ends, all of it ends.
set -u
MTA_PEERS=${MTA_PEERS:-/opt/mta-peers}

private_root() {  # NAME DIR: in fresh namespaces; DIR/etc is laid over /etc, DIR/var becomes /var
    local name=$1 dir=$2 top lower
    mount --make-rprivate /
    mkdir -p "$dir/layers" "$dir/var"/{tmp,spool,lib,log,cache,mail}
    chmod 1777 "$dir/var/tmp"
    mount -t tmpfs tmpfs "$dir/layers"  # the upper layers may not lie on an overlay themselves
    for top in usr etc; do
        mkdir -p "$dir/layers/$top" "$dir/layers/$top.work"
        lower=/$top
        [ -d "$MTA_PEERS/$name/$top" ] && lower=$MTA_PEERS/$name/$top:$lower
        mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir/layers/$top,workdir=$dir/layers/$top.work" "/$top" || return 1
    done
    cp -a "$dir/etc/." /etc/
    cp -an "$MTA_PEERS/$name/var/." "$dir/var/" 2>/dev/null
    ln -sfn /run "$dir/var/run"
    case $dir in /var/*)  # the folder itself must stay where it was
        mkdir -p "$dir/var${dir#/var}"
        mount --bind "$dir" "$dir/var${dir#/var}" || return 1 ;;
    esac
    mount --rbind "$dir/var" /var || return 1
    mount -t tmpfs tmpfs /run || return 1
    ldconfig 2>/dev/null
    printf 'hosts: files\npasswd: files\ngroup: files\nshadow: files\nservices: files\nprotocols: files\n' >/etc/nsswitch.conf
    printf '127.0.0.1 localhost peer.test\n::1 localhost\n' >/etc/hosts
    printf 'nameserver 127.0.0.1\n' >/etc/resolv.conf
}

run_peer() {  # NAME SCRIPT DIR [inside]: needs a function `serve`
    if [ "${4:-}" = inside ]; then
        private_root "$1" "$3" && serve "$3"
    else
        exec unshare --mount --pid --fork --kill-child --mount-proc bash "$2" "$3" inside
    fi
}
