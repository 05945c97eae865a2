# Starts a transaction once, or finds the one that runs, and follows it. Arguments: ID LENGTH OFFSET RUN STATE WHO LIMIT
# STALE; the functions of `folders.sh` come before. The program follows on standard input; a line `seen ID` after it says that the end was read.
# Answers `started`, `attached`, `locked N` and N bytes, or `error N` and N bytes; then events, and `gone` at the end.
id=$1 length=$2 offset=$3 run=$4 state=$5 who=$6 limit=$7 stale=$8
LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
umask 077
journal=$state/journal/$id.jsonl
say() { printf '%s %d\n%s' "$1" "${#2}" "$2"; }
upload() {
    mkdir -p -- "$run" "$state/journal" "$state/preimages" "$state/deadman" && new=$(mktemp -d "$run/.new-XXXXXXXX") || return
    if head -c "$length" >"$new/program" && [ "$(stat -c %s "$new/program")" = "$length" ] && true >"$new/events"; then
        printf '%s' "$new"
    else
        rm -rf -- "$new"
        echo "the program did not arrive whole in $run"
        return 1
    fi
}
holder() { cat "$state/lock/holder" 2>/dev/null; }
# A lock is stale when its unit does not run and nobody has just taken it: between taking it and starting the unit lie
# milliseconds. A reboot ends the unit and leaves the lock, which is how locks become stale; one of another boot is so
# at once.
boot() { cat /proc/sys/kernel/random/boot_id 2>/dev/null; }
take_lock() {
    for try in 1 2 3; do
        if mkdir "$state/lock" 2>/dev/null; then
            printf '%s\n' "$id" "$who" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(boot)" >"$state/lock/holder"
            return
        fi
        held=$(holder)
        taken=$(stat -c %Y "$state/lock" 2>/dev/null) || continue
        unit_active "$(printf '%s\n' "$held" | head -n 1)" && return 1
        booted=$(printf '%s\n' "$held" | sed -n 4p)
        if [ -z "$booted" ] || [ "$booted" = "$(boot)" ]; then
            [ "$(($(date +%s) - taken))" -ge "$stale" ] || return 1
        fi
        if mv -T "$state/lock" "$state/lock.stale-$$" 2>/dev/null; then
            # Somebody else may have taken it over in between: then it is theirs.
            if [ "$(cat "$state/lock.stale-$$/holder" 2>/dev/null)" != "$held" ]; then
                mv -T "$state/lock.stale-$$" "$state/lock"
                return 1
            fi
            rm -rf -- "$state/lock.stale-$$"
        fi
    done
    return 1
}
start() {
    mkdir -p -- "$run" "$state" 2>/dev/null
    # What is below these is run as root.
    for path in "$run/$id" "$state/lock"; do
        said=$(only_root "$path") || {
            say error "$said"
            exit 0
        }
    done
    find "$state/journal" "$state/preimages" "$state/deadman" "$run" -mindepth 1 -maxdepth 1 -mtime +90 -exec rm -rf -- {} + 2>/dev/null
    # Where it fails, what it prints is the reason.
    new=$(upload 2>&1) || {
        say error "$new"
        exit 0
    }
    if ! take_lock; then
        rm -rf -- "$new"
        say locked "$(holder)"
        exit 0
    fi
    # The journal's creation is what makes a transaction start at most once.
    if ! (set -C && : >"$journal") 2>/dev/null; then
        rm -rf -- "$new" "$state/lock"
        say error "$journal cannot be made"
        exit 0
    fi
    if ! said=$(mv -T "$new" "$run/$id" 2>&1 && unit_start 2>&1); then
        rm -rf -- "$new" "${run:?}/$id" "$state/lock" "$journal"
        say error "the unit could not be started: $said"
        exit 0
    fi
    echo started
}
follow() {
    watcher=
    if [ -f "$run/$id/events" ]; then
        pid=$(unit_pid)
        {
            trap 'kill "$reader" 2>/dev/null; exit 0' TERM
            case $pid in
            '' | 0 | *[!0-9]*) tail -c "+$((offset + 1))" -- "$run/$id/events" & ;;
            *) tail -c "+$((offset + 1))" --pid="$pid" -f -- "$run/$id/events" & ;;
            esac
            reader=$!
            wait "$reader"
            echo gone
        } &
        watcher=$!
    else
        say journal "$(tail -c 65536 "$journal" 2>/dev/null)"
        echo
        echo gone
    fi
    # Ends when the reader has seen the end, or when its connection is lost.
    read -r seen || seen=
    [ -z "$watcher" ] || kill "$watcher" 2>/dev/null
    if [ "$seen" = "seen $id" ]; then rm -rf -- "${run:?}/$id"; fi
}
if [ -e "$journal" ]; then
    head -c "$length" >/dev/null
    echo attached
else
    start
fi
follow
