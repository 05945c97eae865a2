# The fixed part of the program that answers all questions about a host. Reads only; its own folder goes with it.
# Every part becomes a file in that folder, so that the answer can state lengths before bytes.
LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
umask 077
cd / || exit 1
d=$(mktemp -d /run/seawall-ask.XXXXXXXX 2>/dev/null) || d=$(mktemp -d /tmp/seawall-ask.XXXXXXXX) || exit 1
trap 'rm -rf "$d"' EXIT
trap 'exit 1' HUP INT TERM PIPE
exec </dev/null
nl='
'
# NAME ARGV...: at most 10 s, output and errors bounded; .ok says that the output was kept whole.
cmd() {
    n=$d/$1
    shift
    {
        {
            timeout -k 1 "$command_limit" "$@" 3>&-
            echo $? >"$n.st"
        } 2>&1 >&3 3>&- | head -c "$stderr_bytes" >"$n.err" 3>&-
    } 3>&1 | head -c "$output_bytes" >"$n.out" && true >"$n.ok"
}
# NAME WORD...: the words are what the shell made of the pattern, or the pattern itself if nothing matched.
glob() {
    n=$d/$1
    shift
    for p; do
        [ -e "$p" ] || [ -L "$p" ] || continue
        case $p in *"$nl"*) true >"$n.odd" ;; esac
        printf '%s\n' "$p"
    done >"$n.out" && true >"$n.ok"
}
# PATH...: one stat, one sha256sum and one head for all files.
files() {
    stat --printf '%n\0%f\0%a\0%U\0%G\0%s\0%N\0' -- "$@" >"$d/files.stat" 2>"$d/files.err"
    count=$#
    for p; do
        if [ -f "$p" ] && [ ! -L "$p" ]; then set -- "$@" "$p"; fi
    done
    shift "$count"
    [ $# -gt 0 ] || return 0
    timeout -k 1 "$command_limit" sha256sum -z -- "$@" >"$d/files.sums" 2>"$d/files.unread"
    head -q -c "$file_bytes" -- "$@" >"$d/files.text" 2>/dev/null
}
# NAME PATH: a file that the kernel makes up while it is read has no size beforehand.
made_up() {
    head -c "$file_bytes" -- "$2" >"$d/$1.out" 2>"$d/$1.err" && true >"$d/$1.ok"
}
# One part is always there, so that the pattern below has something to match.
answer() {
    true >"$d/all" && cd "$d" && set -- * && printf 'seawall-answers 1 %d\n' $# && stat -c '%s %n' -- "$@" && cat -- "$@" && printf 'end\n'
    cd /
}
