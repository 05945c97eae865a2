# What the inventory names for after a restore (`after_restore`): argument lists without a shell, each as one user and for a
# limited time. What it prints is kept beside the restore.

# Bytes of a hook's output that are kept.
hook_output=1048576
# Seconds between the signal that asks a hook to end and the one that ends it.
hook_grace=10

# HOST: runs those of the order against the cluster there; the first that fails ends them and is told.
hooks() {
    hook=1
    [ -z "$(ordered hook-1-user)" ] || tell phase hooks
    while [ -n "$(ordered "hook-$hook-user")" ]; do
        hook "$1" || {
            tell failed hook "$hook_why"
            return 1
        }
        hook=$((hook + 1))
    done
}
# PATH USER: whether nobody but root and USER decides what is run there: whoever else could write it would become USER.
hook_is_own() {
    for way in "$1" "$(readlink -f -- "$1")"; do
        kept_by=$(keeper "$way") || { say "$kept_by" && return 1; }
        case $kept_by in root | "$2") ;; *) say "$way is $kept_by's" && return 1 ;; esac
    done
    [ -n "$(find "$way" -prune -type f \( -user root -o -user "$2" \) ! -perm /022 2>/dev/null)" ] ||
        { say "$1 is no file that only root and $2 may write" && return 1; }
}
# HOST: the hook of this number. Of ours, its environment has where the database is, and nothing else.
hook() {
    host=$1 who=$(ordered "hook-$hook-user") limit=$(ordered "hook-$hook-limit") program=$(ordered "hook-$hook-word-1")
    hook_why="number $hook, \`$program\`, was not run"
    id -u -- "$who" >/dev/null 2>&1 || { hook_why="$hook_why: there is no user $who" && return 1; }
    case $program in
    /*)
        way=$program
        refused=$(hook_is_own "$program" "$who") || { hook_why="$hook_why: $refused" && return 1; }
        ;;
    esac
    set -- env -i PATH="$PATH" LC_ALL="$LC_ALL" HOME="$(getent passwd "$who" | cut -d : -f 6)" PGHOST="$host" PGPORT=5432 \
        PGDATABASE="$(ordered "hook-$hook-database")" PGUSER="$who" timeout -k "$hook_grace" "$limit"
    words=$(ordered "hook-$hook-words") word=0
    while [ "$word" -lt "$words" ]; do
        word=$((word + 1))
        set -- "$@" "$(ordered "hook-$hook-word-$word")"
    done
    [ "$(id -un)" = "$who" ] || set -- runuser -u "$who" -- "$@"
    log=$place/hook-$hook.log
    # What goes on in the background may hold the output open: the reader has a limit, too. The status comes by another way
    # than the output, which a hook cannot write to.
    status=$({
        {
            "$@" </dev/null 2>&1 3>&-
            echo $? >&3
        } | as_postgres timeout $((limit + 3 * hook_grace)) sh -c 'head -c "$2" >"$1"; cat >/dev/null' sh "$log" "$hook_output"
    } 3>&1 >/dev/null)
    printed=$(as_postgres grep -av '^[[:space:]]*$' "$log" 2>/dev/null | tail -n 1 | tr -d '\000-\037' | cut -c 1-300)
    tell fact "hook-$hook" "${printed:-no output}"
    case $status in
    0) return 0 ;;
    124 | 137) hook_why="did not end within $limit s" ;;
    126 | 127) hook_why="cannot be run by $who" ;;
    *) hook_why="ended with status $status" ;;
    esac
    hook_why="number $hook, \`$program\`, $hook_why: ${printed:-it printed nothing}; all of it is in $log"
    return 1
}
