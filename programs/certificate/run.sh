# From an order to what is served.

issue() {
    # A private CA refuses nobody.
    if [ "$issuer" != private ] && [ "$(recent_failures)" -ge "$orders_an_hour" ]; then
        fail "$(recent_failures) orders for $first failed within the last hour, and Let's Encrypt closes itself to a name that fails too often: try again in an hour"
    fi
    if case $issuer in
        private) order_private ;;
        letsencrypt) order_letsencrypt ;;
        letsencrypt-staging) order_staging ;;
        *) fail "$conf names an issuer that is none: $issuer" ;;
        esac && good "$issued"; then
        rm -f -- "$state/failures"
        return 0
    fi
    reason=$(last_line "$work/said")
    printf '%s %s\n' "$(date +%s)" "${reason:-the issuer gave nothing that can be used}" >>"$state/failures"
    tail -n 20 -- "$state/failures" >"$work/failures" && place "$work/failures" "$state/failures" 0600 root
    kept="there is no certificate yet"
    [ ! -e "$tls/server.crt" ] || kept="the certificate in use was left as it is"
    fail "no certificate for $first from $issuer: ${reason:-see above}; $kept"
}
ended() {
    rm -rf -- "$work"
    [ "$1" != opening ] || port -D
}
ensure() {
    install -d -m 0700 -- "$state" || exit
    exec 9>"$state/lock"
    flock -w "$lock_wait_s" 9 || fail "another run of this program has not ended within $lock_wait_s s"
    work=$state/work
    rm -rf -- "$work" && mkdir -- "$work" || exit
    opening=${1:-}
    trap 'ended "$opening"' EXIT
    trap 'exit 1' HUP INT TERM
    [ "$opening" != opening ] || good "$issued" || port -I
    [ -z "$copy" ] || recall
    for private in "$ca" "$ca/ca.key"; do
        [ ! -e "$private" ] || { chown root:root -- "$private" && chmod go= -- "$private"; } || exit
    done
    good "$issued" || issue
    deploy
    [ -z "$copy" ] || keep_copy
    # A failure of the timer's that this made good.
    systemctl reset-failed seawall-certificate.service 2>/dev/null
    exit 0
}
main() {
    case "$*" in
    # The service keeps two values and forgets the older by itself.
    'cleanup _acme-challenge.'*) exit 0 ;;
    'present _acme-challenge.'* | ensure | 'ensure opening') ;;
    *)
        say "usage: certificate ensure [opening]" >&2
        exit 64
        ;;
    esac
    wish
    where
    case $1 in
    present) present "$2" "$3" ;;
    ensure) ensure "${2:-}" ;;
    esac
}
