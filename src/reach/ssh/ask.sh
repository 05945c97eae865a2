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
# NAME COUNT: one of several that take the questions from one list, each the next that nobody took. NUMBER.t says that it
# was taken, and when.
worker() {
    worker=$1
    set -C
    i=0
    while [ "$i" -lt "$2" ]; do
        if true >"$d/$i.t"; then question "$i"; fi
        i=$((i + 1))
    done 2>/dev/null
}
# NAME SECONDS BYTES ARGV...: both streams are bounded as they come. Not by `ulimit -f`, which would also bound what a program keeps for
# itself: apt cannot answer where its cache is old and may not be written.
bounded() {
    n=$1 seconds=$2 bytes=$3
    shift 3
    {
        {
            timeout -k 1 "$seconds" "$@" 3>&-
            echo $? >"$d/$n.st"
        } 2>&1 >&3 3>&- | head -c "$stderr_bytes" >"$d/$n.err" 3>&-
    } 3>&1 | head -c "$bytes" >"$d/$n.out"
    # The processor time of this worker's questions until now.
    { echo "$worker" && times; } >"$d/$n.cpu"
}
# NUMBER ARGV...
cmd() {
    number=$1
    shift
    bounded "$number" "$command_limit" "$output_bytes" "$@"
}
# PSQL SESSION QUOTE: run as postgres, whose file says which version's data the server has: a limit that only newer ones know
# must be fixed at the start of a session, and older ones refuse it there.
# shellcheck disable=SC2016
ask_postgres='{ read -r _ && read -r data; } 2>/dev/null </run/postgresql/.s.PGSQL.5432.lock
version=${data#/var/lib/postgresql/}
case ${version%%/*} in
1[4-6]) newer=" -c idle_session_timeout=0" ;;
1[7-9] | [2-9][0-9]) newer=" -c idle_session_timeout=0 -c transaction_timeout=0" ;;
*) newer= ;;
esac
exec "$1" -XAtq0 -d "$2$newer$3" -f -'
# NUMBER COUNT SESSION SCRIPT: all questions to one database. Not Debian's `psql`, which is a program that looks for this one.
sql() {
    for psql in /usr/lib/postgresql/*/bin/psql; do :; done
    bounded "$1" "$session_limit" "$((output_bytes * $2))" setpriv --reuid=postgres --regid=postgres --init-groups -- \
        sh -c "$ask_postgres" sh "$psql" "${3%\'}" "'" <<SCRIPT
$4
SCRIPT
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
# Times are those of the files: when a question was taken, and when it ended. What a full disk may have cut is no answer: there must be
# room for one more. One part is always there, so that the pattern below has something to match.
answer() {
    head -c "$file_bytes" /dev/zero >"$d/all" && true >|"$d/all" && cd "$d" && set -- * && printf 'seawall-answers 2 %d\n' $# &&
        stat -c '%s %.9Y %n' -- "$@" && cat -- "$@" && printf 'end\n'
    cd /
}
