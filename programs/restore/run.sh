# The orders, and who may give them.

# However a restore ends, nothing of it goes on running, and a drill leaves its report only.
ended() {
    status=$?
    trap '' HUP INT TERM
    stop_server
    [ "$purpose" != drill ] || sweep
    exit "$status"
}
# What was restored, without what was told about it.
sweep() { rm -rf -- "$place/data" "$place/tablespaces" "$place/spool" "$place/lock" "$place/ahead" "$place/conf"; }

run() {
    begin "$1"
    mkdir -- "$place" || fail "$place is there already: \`seawall restore drop $name\` removes it"
    server=
    trap ended EXIT
    trap 'tell interrupted; exit 143' HUP INT TERM
    tell order "$purpose" "$set" "$timeline" "$type" "$target"
    recover
    case $purpose in
    drill)
        hooks "$socket" || exit
        verify
        stop_server
        checksums
        tell finished
        exit 0
        ;;
    in-place | rehearsal)
        # Hooks come when PostgreSQL runs in its place.
        stop_server
        exit 0
        ;;
    esac
    if hooks "$socket"; then tell ready; fi
    # Until its time is over, or somebody ends it.
    ttl=$(ordered ttl)
    over=$(($(now) + ${ttl:-86400}))
    while lives && [ "$(now)" -lt "$over" ]; do sleep 2; done
    lives || refuse died "PostgreSQL ended: $(last_line "$place/postgres.log")"
    tell over "its time was over"
}

# To a cluster that is open, at its target, and looked at.
recover() {
    room
    [ "$type" != latest ] || archive_end
    [ "$broken" != segment ] || hide
    fetch
    replay
    reached
    rm -rf -- "$place/ahead"
    # It serves from here on.
    tell phase look
    look
}
# A drill that must fail: a segment that the target needs is not given out.
hide() {
    hidden=$(ordered hide)
    printf '%s\n' "${hidden:-${end:-}}" >"$place/hidden"
}

# NAME: parts of `examine`, as postgres, of the cluster that is in its place.
verified() {
    begin "$1"
    socket=/var/run/postgresql
    verify
}
summed() {
    begin "$1"
    controldata=$(LC_ALL=C "$bin/pg_controldata" -D "$data") || refuse damaged "pg_controldata cannot read what was restored"
    checksums
    tell finished
}

# NAME: after the service has ended, however it ended.
swept() {
    begin "$1"
    [ "$purpose" != drill ] || sweep
}

told() {
    begin "$1"
    cat -- "$place/told" 2>/dev/null
}

list() {
    configured
    for found in "$orders"/*.conf; do
        [ -f "$found" ] && [ ! -L "$found" ] || continue
        name=${found##*/}
        name=${name%.conf}
        state=$(runuser -u postgres -- tail -n 1 -- "$home/$name/told" 2>/dev/null | tr -d '\000-\037')
        size=$(runuser -u postgres -- du -sk -- "$home/$name" 2>/dev/null | awk '{ print $1 * 1024 }')
        printf '%s|%s|%s|%s|%s|%s\n' "$name" "$(values "$found" purpose)" "$(stat -c %Y -- "$found")" \
            "$(systemctl is-active "seawall-restore@$name.service")" "${size:-0}" "$state"
    done
}

# NAME: as root. What postgres has made is removed as postgres.
drop() {
    begin "$1"
    case $purpose in in-place | rehearsal) fail "\`$name\` was a restore in place; \`undo\` or \`accept\` ends it" ;; esac
    systemctl stop "seawall-restore@$name.service" || fail "seawall-restore@$name.service could not be stopped"
    systemctl reset-failed "seawall-restore@$name.service" 2>/dev/null
    runuser -u postgres -- rm -rf -- "$place" || fail "$place could not be removed"
    rm -f -- "$order"
}

usage() {
    say "usage: restore run | sweep | told | drop | in-place | undo | accept | examine NAME, list, drill, wal NAME FILE PATH, copy-table NAME DATABASE TABLE NEW" >&2
    exit 64
}
main() {
    [ $# -ge 1 ] || usage
    case $1:$# in run:2 | sweep:2 | told:2 | drop:2 | in-place:2 | undo:2 | accept:2 | examine:2 | verify:2 | checksums:2 | list:1 | drill:1 | wal:4 | copy-table:5) ;; *) usage ;; esac
    # PostgreSQL names a file of WAL from its own folder, and pgBackRest wants to be started there.
    [ "$1" = wal ] || cd / || exit
    case $1 in
    # What postgres owns is done as postgres.
    run | sweep | told | wal | copy-table | verify | checksums) [ "$(id -un)" = postgres ] || exec runuser -u postgres -- "$0" "$@" ;;
    esac
    case $1 in
    run) run "$2" ;;
    sweep) swept "$2" ;;
    told) told "$2" ;;
    list) list ;;
    drill) drill ;;
    drop) drop "$2" ;;
    wal)
        # Whatever ends this program without an answer ends recovery: PostgreSQL takes a small status for "there is no such file".
        trap '[ -n "${answered:-}" ] || exit 255' EXIT
        # Asked for every segment: what the order says has come with the environment of the copy that asks.
        [ "${restore_of:-}" = "$2" ] || begin "$2"
        shift
        wal "$@"
        ;;
    copy-table)
        begin "$2"
        copy_table "$3" "$4" "$5"
        ;;
    in-place) in_place "$2" ;;
    undo) undo "$2" ;;
    accept) accept "$2" ;;
    examine) examine "$2" ;;
    verify) verified "$2" ;;
    checksums) summed "$2" ;;
    esac
}
