# WAL and backups for the second repository. Nothing here holds the first one up: what keeps a file always ends with 0.
#   copy keep PATH    keeps a copy of a file of WAL until it has been sent; before archive_command's own program
#   copy ship         sends what is kept, in order, until nothing is; seawall-copy-wal.service does this
#   copy backup KIND  one backup, full or diff; seawall-copy@KIND.service does this. After a gap it is a full one
# What is wanted is in /etc/seawall/copy.conf. No secret is in it, and none is ever an argument of a program.
LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/var/lib/postgresql
export LC_ALL PATH HOME
set -u
umask 077

conf=/etc/seawall/copy.conf
# What waits, `kept` with the name of the newest file that was kept, and two marks of a gap: `gap`, and `gap.closing` while a full
# backup is made that ends it.
spool=/var/spool/seawall-copy
queue=$spool/queue

# kB that are left free on the disk: PostgreSQL stops when it is full.
room_left=1048576
# Seconds for one file, between two tries, and after which a repository that does not answer is a failure that alerts.
push_limit_s=300
pause_s=15
patience_s=900
# The lock of all backups of this server. A backup waits so long for another one, in seconds.
lock=/run/postgresql/.seawall-backup.lock
wait_s=43200
# A backup takes so long at the most: less than the first repository's waits for it.
backup_limit_s=36000

now() { date +%s; }
# WHY: the repository lacks WAL from here on, until a full backup.
gap() {
    [ -e "$spool/gap" ] || printf '%s %s\n' "$(now)" "$1" >"$spool/gap"
    say "the second repository has a gap from here on: $1" >&2
}
# PATH: why there is no room for it; nothing where there is.
cramped() {
    segment=$(du -k -- "$1" | cut -f 1)
    used=$(du -sk -- "$queue" | cut -f 1)
    free=$(df -Pk -- "$queue" | awk 'NR == 2 { print $4 }')
    if [ $((${used:-0} + ${segment:-0})) -gt $(($(setting spool_mib) * 1024)) ]; then
        echo "more WAL waits for it than may"
    elif [ "${free:-0}" -lt $((${segment:-0} + room_left)) ]; then
        echo "the disk is nearly full"
    fi
}

# PostgreSQL asks again for a file that the first repository has not taken: it is kept once.
keep() {
    file=${1##*/}
    [ ! -e "$queue/$file" ] && [ "$(cat -- "$spool/kept" 2>/dev/null)" != "$file" ] || return 0
    why=$(cramped "$1")
    if [ -n "$why" ]; then
        gap "$file was not kept: $why"
        return 0
    fi
    new=$spool/.new.$file
    # It counts when it is on the disk, with its name.
    if cp -- "$1" "$new" && sync -- "$new" && mv -T -- "$new" "$queue/$file" && sync -- "$queue"; then
        printf '%s\n' "$file" >"$spool/kept"
    else
        rm -f -- "$new"
        gap "$file was not kept: it could not be written"
    fi
}

# SECONDS WORD...: pgBackRest with the configuration of the second repository.
second() {
    limit=$1
    shift
    timeout -k 10 "$limit" pgbackrest --config=/etc/pgbackrest/copy.conf --config-include-path=/etc/pgbackrest/copy.conf.d --stanza="$stanza" "$@"
}

# PATH: sends one file. Sent twice it is the same file, which is no failure.
sent() {
    second "$push_limit_s" archive-push "$1" >"$spool/said" 2>&1
    case $? in
    0) ;;
    # Another file of that name is there. It will never be taken, and must not hold up those behind it.
    45) gap "${1##*/} is in the repository with other contents" ;;
    *) return 1 ;;
    esac
    rm -f -- "$1"
}

ship() {
    well=$(now)
    while :; do
        set -- "$queue"/*
        [ -e "$1" ] || return 0
        for path; do
            if ! sent "$path"; then
                if [ $(($(now) - well)) -ge "$patience_s" ]; then
                    fail "the second repository has taken nothing for $patience_s s: $(last_line "$spool/said")"
                fi
                sleep "$pause_s"
                continue 2
            fi
            well=$(now)
        done
        # What comes at once need not start this again.
        sleep 1
    done
}

# KIND: ends with pgBackRest's own status.
backup() {
    kind=$1
    exec 9>"$lock" || exit
    if ! flock -w "$wait_s" 9; then
        say "another backup has been running for $wait_s s; this one was not made" >&2
        exit 50
    fi
    [ ! -e "$spool/gap" ] && [ ! -e "$spool/gap.closing" ] || kind=full
    # A gap that comes while the backup is made is not ended by it.
    if [ "$kind" = full ] && [ -e "$spool/gap" ]; then mv -T -- "$spool/gap" "$spool/gap.closing" || exit; fi
    second "$backup_limit_s" --type="$kind" --log-level-console=info backup || exit
    [ "$kind" != full ] || rm -f -- "$spool/gap.closing"
}

usage() {
    say "usage: copy keep PATH | ship | backup KIND" >&2
    exit 64
}
main() {
    case ${1:-}:$# in
    keep:2)
        (configured && keep "$2")
        # Whatever became of it, the first repository is next.
        exit 0
        ;;
    ship:1 | backup:2) ;;
    *) usage ;;
    esac
    configured
    stanza=$(setting stanza)
    cd / || exit
    case $1 in
    ship) ship ;;
    backup) backup "$2" ;;
    esac
}
