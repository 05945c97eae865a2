# The fixed part of a host's transaction. It runs as a unit of its own; nobody needs to be connected.
# Set before: id run state tail_bytes.
LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Units have no HOME, and some programs will not start without one.
HOME=/root
export LC_ALL PATH HOME
umask 077
here=$run/$id events=$here/events journal=$state/journal/$id.jsonl before=$state/preimages/$id
# The shell has read all of this text; from here on its secrets are in no file.
rm -f -- "$0"
exec </dev/null
trap "finish stopped" TERM
event() { printf '%s\n' "$1" >>"$events"; }
note() { printf '{"at":"%s",%s}\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" >>"$journal"; }
undecided() { [ -d "$state/deadman/$id" ] && [ ! -L "$state/deadman/$id/decision" ]; }
finish() {
    note "\"event\":\"ended\",\"verdict\":\"$1\"" 2>/dev/null
    sync -- "$journal"
    # A guarded change holds the host until it is decided whether it stays.
    if ! undecided && [ "$(head -n 1 "$state/lock/holder" 2>/dev/null)" = "$id" ]; then rm -rf -- "$state/lock"; fi
    rm -f -- "$here/out" "$here/tail"
    event "end $1"
    exit 0
}
# POSITION ABOUT FUNCTION ARG...: the journal has the step before the step acts.
step() {
    n=$1 about=$2
    shift 2
    if note "\"event\":\"begun\",\"position\":$n,$about" >"$here/out" 2>&1 && sync -- "$journal" >>"$here/out" 2>&1; then
        event "begin $n"
        "$@" >"$here/out" 2>&1
        status=$?
    else
        status=74
    fi
    if [ "$status" = 0 ] && note "\"event\":\"done\",\"position\":$n" 2>"$here/out"; then
        event "done $n"
        return 0
    fi
    tail -c "$tail_bytes" "$here/out" >"$here/tail"
    note "\"event\":\"failed\",\"position\":$n,\"status\":$status" 2>/dev/null
    { printf 'failed %d %d %d\n' "$n" "$status" "$(stat -c %s "$here/tail")" && cat "$here/tail"; } >>"$events"
    if undecided; then /bin/sh "$state/deadman/$id/revert" inside; fi
    finish failed
}
# SECONDS, the program that puts back in `revert_text`: before the first step of a guarded change.
arm() {
    if { mkdir -p -- "$state/deadman" && mkdir -- "$state/deadman/$id" && revert_text >"$state/deadman/$id/revert" &&
        sync -- "$state/deadman/$id/revert" && arm_timer "$1"; } >"$here/out" 2>&1; then
        note "\"event\":\"armed\",\"seconds\":$1"
        event "armed $1"
        return 0
    fi
    forget_timer
    rm -rf -- "${state:?}/deadman/$id"
    { printf 'unarmed %d\n' "$(stat -c %s "$here/out")" && cat "$here/out"; } >>"$events"
    finish failed
}
# PATH: keeps what is there now, or that nothing is.
keep() {
    mkdir -p -- "$before" || return 74
    if [ -L "$1" ]; then
        cp -a -T -- "$1" "$before/$n.before"
    elif [ -e "$1" ]; then
        cp -a -T -- "$1" "$before/$n.before" && sync -- "$before/$n.before"
    else
        true >"$before/$n.absent"
    fi && kept "$1"
}
# PATH: its pre-image is whole. Only what has a path is ever put back.
kept() { printf '%s' "$1" >"$before/$n.path" && sync -- "$before/$n.path" "$before"; }
# PATH OWNER GROUP MODE SIZE, content on content_N, validation in validate_N.
file() {
    target=$1 owner=$2 group=$3 mode=$4 size=$5 folder=${1%/*}/
    if [ -L "$target" ] || { [ -e "$target" ] && [ ! -f "$target" ]; }; then
        echo "$target is not a regular file ($(stat -c %F -- "$target")); it was left as it is"
        return 73
    fi
    if [ -f "$target" ] && [ "$(stat -c '%U %G %a' -- "$target")" = "$owner $group $mode" ] &&
        "content_$n" | cmp -s - "$target"; then return 0; fi
    # A leading dot: no reader of a configuration folder takes it for configuration. The suffix: some validators need it.
    candidate=$(mktemp --suffix=".${target##*/}" "${folder}.seawall-XXXXXXXX") || return 73
    exchange || {
        status=$?
        rm -f -- "$candidate"
        return "$status"
    }
}
exchange() {
    # `cat` says why a disk did not take it; the shell would add only that its pipe broke.
    "content_$n" 2>/dev/null | cat >"$candidate" || return 74
    if [ "$(stat -c %s -- "$candidate")" != "$size" ]; then
        echo "the candidate beside $target is not whole"
        return 74
    fi
    chown -- "$owner:$group" "$candidate" && chmod -- "$mode" "$candidate" || return 73
    "validate_$n" "$candidate" || return
    keep "$target" && sync -- "$candidate" && mv -T -- "$candidate" "$target" && sync -- "$folder"
}
remove() {
    [ -e "$1" ] || [ -L "$1" ] || return 0
    if [ -d "$1" ] && [ ! -L "$1" ]; then
        echo "$1 is a directory; it was left as it is"
        return 73
    fi
    keep "$1" && rm -f -- "$1" && sync -- "${1%/*}/"
}
directory() {
    mkdir -p -- "$before" || return 74
    if [ -d "$1" ]; then stat -c '%u:%g %a' -- "$1" >"$before/$n.access"; else true >"$before/$n.absent"; fi
    kept "$1" || return 74
    install -d -o "$2" -g "$3" -m "$4" -- "$1"
}
# SECONDS: the command is run_N, its input input_N.
command_step() {
    ( cd / && umask 022 && "input_$n" 2>/dev/null | "run_$n" )
    status=$?
    [ "$status" != 124 ] || echo "it took longer than $1 s and was stopped"
    return "$status"
}
record() {
    mkdir -p -- "$state/manifest" && keep "$state/manifest/$1" || return 74
    if "content_$n" 2>/dev/null | cat >"$state/manifest/.new" && sync -- "$state/manifest/.new"; then
        mv -T -- "$state/manifest/.new" "$state/manifest/$1"
    else
        rm -f -- "$state/manifest/.new"
        return 74
    fi
}
forget() { remove "$state/manifest/$1"; }
