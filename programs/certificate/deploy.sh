# Puts the certificate in place, and sees it served.

# Unit, port and file of settings of everything that serves the certificate.
consumers() { settings consumer; }
# PORT: the fingerprint of the certificate that is served, `silent` where nothing listens.
served() {
    said=$(timeout 5 openssl s_client -starttls postgres -connect "127.0.0.1:$1" </dev/null 2>&1)
    case $said in
    *'BEGIN CERTIFICATE'*) printf '%s\n' "$said" | fingerprint ;;
    *'connect:errno='*) say silent ;;
    *) say none ;;
    esac
}
# FILE: whether a consumer's settings lead to the certificate. Somebody else may have put a pipe there.
leads_here() { timeout 5 grep -qsF -- "$tls/server.crt" "$1"; }
# UNIT PORT FINGERPRINT: reloads a unit and waits until it serves a certificate.
take_up() {
    systemctl reload "$1" </dev/null || return 1
    until=$(($(date +%s) + reload_limit_s))
    while [ "$(served "$2")" != "$3" ]; do
        [ "$(date +%s)" -lt "$until" ] || return 1
        sleep 0.2
    done
}
in_place() {
    cmp -s -- "$issued/server.crt" "$tls/server.crt" && cmp -s -- "$issued/server.key" "$tls/server.key" &&
        cmp -s -- "$issued/ca.crt" "$tls/ca.crt" &&
        [ "$(stat -c '%a %U:%G' -- "$tls/server.crt" "$tls/server.key" "$tls/ca.crt" | tr '\n' ' ')" = \
            '644 root:root 640 root:ssl-cert 644 root:root ' ]
}
# FOLDER: puts three files where consumers read them.
exchange() {
    install -d -o root -g root -m 0755 -- "$root" "$tls" && place "$1/ca.crt" "$tls/ca.crt" 0644 root &&
        place "$1/server.key" "$tls/server.key" 0640 ssl-cert && place "$1/server.crt" "$tls/server.crt" 0644 root
}
deploy() {
    old=$(fingerprint 2>/dev/null <"$tls/server.crt") || old=
    new=$(fingerprint <"$issued/server.crt")
    consumers | while read -r unit port _; do served "$port" >"$work/before.$port"; done
    mkdir -- "$work/old" && cp -a -- "$tls/server.crt" "$tls/server.key" "$tls/ca.crt" "$work/old/" 2>/dev/null
    in_place || exchange "$issued" || fail "the certificate could not be put in place in $tls"
    consumers | while read -r unit port settings; do
        before=$(cat -- "$work/before.$port")
        if [ "$before" = "$new" ] || ! systemctl is-active --quiet "$unit"; then continue; fi
        if [ "$before" = silent ]; then
            systemctl reload "$unit" </dev/null
            continue
        fi
        # One that is not set up yet, as Debian's package starts it: whoever sets it up has it take up what is in place.
        leads_here "$settings" || continue
        take_up "$unit" "$port" "$new" && continue
        if [ "$(served "$port")" = "$before" ] && [ "$before" != "$old" ]; then
            say "$unit serves a certificate that is not from $tls: its own configuration names another"
        else
            say "$unit" >"$work/refused"
            exit 1
        fi
    done && return 0
    # Nothing that worked before may stop working because of a renewal.
    if [ -s "$work/old/server.crt" ] && [ -s "$work/old/server.key" ] && [ -s "$work/old/ca.crt" ]; then
        exchange "$work/old"
        consumers | while read -r unit port settings; do
            if systemctl is-active --quiet "$unit" && leads_here "$settings"; then take_up "$unit" "$port" "$old"; fi
        done
        fail "$(cat -- "$work/refused") did not take up the new certificate; the files from before were put back in $tls"
    fi
    fail "$(cat -- "$work/refused") did not take up the certificate"
}
