# The fixed part of a host's transaction. It runs as a unit of its own; nobody needs to be connected.
# Set before: id run state tail_bytes kept_bytes, and the functions of `folders.sh`.
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
# PATH: keeps what is there now, or that nothing is. `who` has its folder.
keep() {
    mkdir -p -- "$before" || return 74
    if [ "$who" != root ]; then
        keep_theirs "$1"
    elif [ -L "$1" ]; then
        cp -a -T -- "$1" "$before/$n.before"
    elif [ -e "$1" ]; then
        cp -a -T -- "$1" "$before/$n.before" && sync -- "$before/$n.before"
    else
        true >"$before/$n.absent"
    fi && kept "$1"
}
# Read as the user, so that a link leads to nothing that is not his.
keep_theirs() {
    if link=$(as "$who" readlink -- "$1"); then
        ln -s -- "$link" "$before/$n.before"
    elif as "$who" test -e "$1"; then
        as "$who" test -r "$1" || {
            echo "$who cannot read $1, so it cannot be kept as it was"
            return 74
        }
        as "$who" cat -- "$1" | head -c "$kept_bytes" >"$before/$n.before"
        # What he says of it counts only as far as it can do no harm.
        case $(as "$who" stat -c %a -- "$1") in 644) chmod 644 "$before/$n.before" ;; esac
        sync -- "$before/$n.before"
    else
        true >"$before/$n.absent"
    fi
}
# PATH: its pre-image is whole. Only what has a path is ever put back.
kept() { printf '%s' "$1" >"$before/$n.path" && sync -- "$before/$n.path" "$before"; }
# PATH: sets `who` to the user who alone can change what the path leads to, or says why there is none.
whose() {
    who=$(keeper "$1") && return
    set -- $?
    echo "$who"
    return "$1"
}
# PATH OWNER GROUP MODE SIZE, content on content_N, validation in validate_N.
file() {
    target=$1 owner=$2 group=$3 mode=$4 size=$5 folder=${1%/*}/
    whose "$target" || return
    if [ "$who" != root ]; then
        their_file
        return
    fi
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
    whole "$candidate" || return
    chown -h -- "$owner:$group" "$candidate" && chmod -- "$mode" "$candidate" || return 73
    "validate_$n" "$candidate" || return
    keep "$target" && sync -- "$candidate" && mv -T -- "$candidate" "$target" && sync -- "$folder"
}
# CANDIDATE: writes the content there.
whole() {
    # `cat` says why a disk did not take it; the shell would add only that its pipe broke.
    "content_$n" 2>/dev/null | cat >"$1" || return 74
    if [ "$(stat -c %s -- "$1")" != "$size" ]; then
        echo "the candidate beside $target is not whole"
        return 74
    fi
}
# A file in a user's folder is his, and everything about it is done as him. It is validated where he cannot change it.
their_file() {
    if [ "$who" != "$owner" ]; then
        echo "$target is to be $owner's, and ${target%/*} is $who's, who could put a link there; \`chown -h $owner ${target%/*}\` gives it to $owner"
        return 77
    fi
    own_up "$target" || return
    if [ "$(as "$who" stat -c '%F %U %G %a' -- "$target" 2>/dev/null)" = "regular file $owner $group $mode" ] &&
        "content_$n" | as "$who" cmp -s - "$target"; then return 0; fi
    whole "$here/candidate" && "validate_$n" "$here/candidate" || return
    keep "$target" && theirs "$who" "$target" "$group" "$mode" "$size" <"$here/candidate" && rm -f -- "$here/candidate"
}
# PATH: what somebody else has in a folder of `who` becomes theirs. By name only in a folder that nobody can exchange.
own_up() {
    [ -e "$1" ] && [ "$(stat -c %U -- "$1")" != "$who" ] || return 0
    ( cd -P -- "${1%/*}" && [ "$(stat -c %U .)" = "$who" ] && chown -h -- "$who:" "./${1##*/}" )
}
remove() {
    [ -e "$1" ] || [ -L "$1" ] || return 0
    whose "$1" || return
    if [ "$who" = root ]; then set -- "$1" test; else set -- "$1" as "$who" test; fi
    path=$1
    shift
    if "$@" -d "$path" && "$@" ! -L "$path"; then
        echo "$path is a directory; it was left as it is"
        return 73
    fi
    [ "$who" = root ] || own_up "$path" || return
    keep "$path" || return
    if [ "$who" = root ]; then rm -f -- "$path" && sync -- "${path%/*}/"; else as "$who" rm -f -- "$path"; fi
}
# PATH OWNER GROUP MODE
directory() {
    whose "$1" || return
    mkdir -p -- "$before" || return 74
    if [ -L "$1" ] || { [ -e "$1" ] && [ ! -d "$1" ]; }; then
        echo "$1 is a $(stat -c "%F of %U" -- "$1")'s, where a folder must be; \`rm $1\` takes it away, once it is known who put it there"
        return 77
    fi
    if [ -d "$1" ]; then stat -c '%u:%g %a' -- "$1" >"$before/$n.access"; else true >"$before/$n.absent"; fi
    kept "$1" || return 74
    if [ "$who" = root ]; then
        # The delivery of a key may make it in the same moment.
        [ -d "$1" ] || mkdir -m 0700 -- "$1" || [ -d "$1" ] || return
        chown -h -- "$2:$3" "$1" && chmod -- "$4" "$1"
    elif [ "$who" = "$2" ]; then
        [ -d "$1" ] || as "$who" mkdir -m 0700 -- "$1" || return
        own_up "$1" && as "$who" chgrp -h -- "$3" "$1" && as "$who" chmod -- "$4" "$1"
    else
        echo "$1 is to be $2's, and ${1%/*} is $who's, who could put a link there; \`chown -h $2 ${1%/*}\` gives it to $2"
        return 77
    fi
}
# SECONDS: the command is run_N, its input input_N.
command_step() {
    ( cd / && umask 022 && "input_$n" 2>/dev/null | "run_$n" )
    status=$?
    [ "$status" != 124 ] || echo "it took longer than $1 s and was stopped"
    return "$status"
}
record() {
    whose "$state/manifest" || return
    mkdir -p -- "$state/manifest" && keep "$state/manifest/$1" || return 74
    if "content_$n" 2>/dev/null | cat >"$state/manifest/.new" && sync -- "$state/manifest/.new"; then
        mv -T -- "$state/manifest/.new" "$state/manifest/$1"
    else
        rm -f -- "$state/manifest/.new"
        return 74
    fi
}
forget() { remove "$state/manifest/$1"; }
