# Restores this server's cluster from its repository into a folder of its own, starts it where only postgres reaches it, and
# proves how far it got. Nothing is believed that PostgreSQL or pgBackRest say by an exit status.
#   restore run NAME            carries out the order /etc/seawall/restores/NAME.conf; seawall-restore@NAME.service does this
#   restore sweep NAME          removes what a drill restored, after its service has ended
#   restore told NAME           what it has told so far, in lines `SECONDS WORD...` (seconds since 1970-01-01 UTC)
#   restore drill               restores the newest moment, measures and removes it, as root; seawall-drill.timer does this
#   restore list                the restores that are there: name, purpose, what was told last
#   restore drop NAME           ends one and removes what it restored
#   restore wal NAME FILE PATH  one file of WAL for PostgreSQL; its restore_command
#   restore copy-table NAME DATABASE TABLE NEW  rows of a copy, into a new table of the database beside it
#   restore in-place NAME       the same over this server's own data, which is kept aside
#   restore undo NAME           puts back the data that was kept aside
#   restore accept NAME         keeps what was restored in place: archiving begins again
#   restore examine NAME        after a rehearsal on a throw-away server: reads all of what was restored; PostgreSQL stays stopped
# The order and /etc/seawall/restore.conf are root's. No secret is in them, and none is ever an argument of a program.
LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/var/lib/postgresql
# Over what somebody may have set for a database or a role: no other role, nobody's libraries. Limits, because a lock that was
# held at the moment of the target may still be there.
PGOPTIONS='-c statement_timeout=600000 -c lock_timeout=30000 -c idle_in_transaction_session_timeout=0 -c default_transaction_read_only=off -c role=none -c local_preload_libraries= -c search_path=pg_catalog'
export LC_ALL PATH HOME PGOPTIONS
set -u
umask 077

conf=/etc/seawall/restore.conf
orders=/etc/seawall/restores
home=/var/lib/postgresql/seawall-restores
sockets=/run/seawall-restore

# kB that a restore leaves free: PostgreSQL beside it stops when its disk is full.
room_left=1048576
# Files of a cluster and of its WAL, at the most that is usual: what a restore needs of inodes.
inodes_needed=20000
# Seconds for replay: a day of WAL.
replay_limit_s=43200
# So many times a file is asked for again when the repository does not answer, with seconds between.
wal_tries=5
wal_pause_s=3
# Segments that are fetched before PostgreSQL asks for them, and tenths of a second that it waits for one which is on its way.
ahead_segments='1 2 3'
ahead_wait_ds=100
# So many times a copy is started again with a greater setting that the WAL asks for.
raise_limit=20
# So many times PostgreSQL asks in vain for a segment before it counts as missing.
absent_limit=8

# NAME: reads the configuration and the order.
begin() {
    name=$1
    case $name in '' | -* | *[!a-z0-9-]*) usage ;; esac
    configured
    order=$orders/$name.conf place=$home/$name socket=$sockets/$name
    only_root "$order" >&2 || exit
    [ -f "$order" ] && [ ! -L "$order" ] || fail "there is no restore \`$name\`"
    stanza=$(setting stanza) version=$(setting version)
    bin=/usr/lib/postgresql/$version/bin
    main=/var/lib/postgresql/$version/main
    cluster=postgresql@$version-main.service
    purpose=$(ordered purpose) set=$(ordered set) timeline=$(ordered timeline) type=$(ordered type) target=$(ordered target)
    broken=$(ordered break)
    # The second repository has a configuration of its own for those who only read.
    reads=/etc/pgbackrest/restore.conf repository=$(ordered repository)
    [ "$repository" != copy ] || reads=/etc/pgbackrest/copy-restore.conf
    data=$place/data tablespaces=$place/tablespaces
    case $purpose in in-place | rehearsal) data=$main tablespaces=/var/lib/postgresql/$version/tablespaces.$name ;; esac
}
# KEY: its value in the order.
ordered() { values "$order" "$1" | head -n 1; }
# WORD...: a line for whoever follows.
tell() { printf '%s %s\n' "$(date +%s)" "$(printf '%s' "$*" | tr -d '\000-\037')" | as_postgres tee -a -- "$place/told" >/dev/null; }
# WORD...: a program as postgres, also where root runs this one.
as_postgres() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
# CODE WORD...: the end of a restore that did not get where it should.
refuse() {
    tell failed "$@"
    # What was broken on purpose is no failure of the service, and alerts nobody.
    [ -z "$broken" ] || exit 0
    exit 1
}
now() { date +%s; }
# WORD...: pgBackRest with the identity that may only read, and with a spool and locks of its own.
reader() {
    # Not every command takes the last two as an argument; in the environment they are for those that do.
    PGBACKREST_SPOOL_PATH=$place/spool PGBACKREST_LOCK_PATH=$place/lock \
        pgbackrest --config="$reads" --config-include-path="$reads.d" --stanza="$stanza" \
        --log-level-file=off --log-level-stderr=off "$@"
}
# DATABASE: a statement on standard input, asked of the restored cluster.
ask() { psql -h "$socket" -p 5432 -U postgres -XAtq -v ON_ERROR_STOP=1 -d "$1"; }
# FILE: pgBackRest's first error in its output, or the last thing that it said.
complaint() {
    complained=$(grep -a -m 1 'ERROR: \[' "$1" | sed 's/^.*ERROR: //' | tr -d '\000-\037')
    printf '%s' "${complained:-$(last_line "$1")}"
}
