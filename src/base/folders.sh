# Who can change what a path leads to. Root acts by a path only where that is root alone; where a user has the folders, only as
# that user. No function here follows a link.

# PATH: prints the one user who can put something else at it: root (who runs this, in a test), or the user whose folders all
# are from the first one on that is not root's. Where that is nobody alone, or the way leads over a link: 77, and prints why.
# The folders are asked about from the top down, so what stands below one of root's stays what it was found to be.
keeper() (
    case $1/ in
    / | *'
'* | *//* | */./* | */../* | [!/]*)
        echo "$1 is no plain path"
        return 77
        ;;
    esac
    rest=${1%/*}/ way='' me=$(id -u)
    set -- /
    while rest=${rest#/} && [ -n "$rest" ]; do
        way=$way/${rest%%/*} rest=/${rest#*/}
        set -- "$@" "$way"
    done
    found=$(stat -c '%u %f %a %U %G %n' -- "$@" 2>&1) || {
        printf '%s\n' "$found" | tail -n 1
        return 73
    }
    user='' number=0 left=$#
    while read -r uid bits mode owner group folder; do
        left=$((left - 1)) bits=$((0x$bits))
        if [ $((bits & 0170000)) != $((0040000)) ]; then
            echo "$folder is a $(stat -c %F -- "$folder") of $owner's, where a folder must be; \`rm $folder\` takes it away, once it is known who put it there"
            return 77
        elif [ "$uid" != 0 ] && [ "$uid" != "$me" ]; then
            if [ -n "$user" ] && [ "$number" != "$uid" ]; then
                echo "$folder belongs to $owner, in a folder of $user's; \`chown -h $user $folder\` gives it to who has the rest"
                return 77
            fi
            user=$owner number=$uid
        fi
        # A user's own group is his. In a folder like /tmp nobody exchanges what is not his; what is made there anew may
        # meet somebody else's.
        if [ -z "$user" ]; then bits=$((bits & 01022)); else bits=$((bits & 01002)); fi
        if [ $((bits & 0022)) != 0 ] && { [ $((bits & 01000)) = 0 ] || [ "$left" = 0 ]; }; then
            echo "$folder can be written by others than $owner (mode $mode, group $group); \`chmod go-w $folder\` ends that"
            return 77
        fi
    done <<FOUND
$found
FOUND
    echo "${user:-root}"
)
# PATH: whether root alone can put something else there. If not, prints whose it is and what mends it, and ends with 77.
only_root() {
    kept_by=$(keeper "$1") || {
        set -- $?
        echo "$kept_by"
        return "$1"
    }
    [ "$kept_by" = root ] || {
        echo "${1%/*} is $kept_by's, who could put a link there; \`chown -h root ${1%/*}\` gives it to root, unless $kept_by needs it"
        return 77
    }
}
# FILE WORD...: a file of root's, as a program makes it of what it was, whole or not at all. It keeps its access.
rewritten() {
    rewritten_file=$1
    shift
    only_root "$rewritten_file" || return
    [ -f "$rewritten_file" ] && [ ! -L "$rewritten_file" ] || {
        echo "$rewritten_file is not a regular file; it was left as it is"
        return 73
    }
    rewritten_new=$(mktemp -- "${rewritten_file%/*}/.seawall-XXXXXXXX") || return 73
    if "$@" <"$rewritten_file" >"$rewritten_new" && chown -h --reference="$rewritten_file" -- "$rewritten_new" &&
        chmod --reference="$rewritten_file" -- "$rewritten_new" && sync -- "$rewritten_new"; then
        mv -T -- "$rewritten_new" "$rewritten_file" && sync -- "${rewritten_file%/*}/"
    else
        rm -f -- "$rewritten_new"
        return 74
    fi
}
# USER WORD...: does something as a user, so that a link leads no further than he gets without it. Whatever he makes of that
# process: it ends, and writes no more than 2 MiB to any file, the one that keeps its messages included.
as() (
    user=$1
    shift
    ulimit -f 4096
    exec timeout -k 5 60 setpriv --reuid="$user" --regid="$(id -gn -- "$user")" --init-groups -- "$@"
)
# USER PATH GROUP MODE SIZE: a file of a user's in his own folder, whole or not at all; its content on standard input.
theirs() {
    as "$1" sh -c 'set -u
umask 077
if [ -L "$1" ] || { [ -e "$1" ] && [ ! -f "$1" ]; }; then
    echo "$1 is not a regular file ($(stat -c %F -- "$1")); it was left as it is"
    exit 73
fi
new=$(mktemp -- "${1%/*}/.seawall-XXXXXXXX") || exit 73
trap '\''rm -f -- "$new"'\'' EXIT
cat >"$new" && [ "$(stat -c %s -- "$new")" = "$4" ] || { echo "the candidate beside $1 is not whole"; exit 74; }
chgrp -- "$2" "$new" && chmod -- "$3" "$new" && sync -- "$new" && mv -T -- "$new" "$1" && sync -- "${1%/*}/"' sh "$2" "$3" "$4" "$5"
}
