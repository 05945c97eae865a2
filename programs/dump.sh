# Logical dumps of PostgreSQL: made, encrypted, sent to the bucket, read back from there, and thinned out.
#   dump run                       all declared databases and the roles; seawall-dump.timer does this
#   dump before NAME               the same, whole and with a name, and never thinned out: before a migration, for example
#   dump list                      the good dumps: database, time (UTC), bytes, and what they are
#   dump restore DATABASE TIME     into a new database DATABASE_restored_TIME, never over one that is there
#   dump globals TIME              prints the roles and memberships of that time as SQL, without passwords
#   dump keep DAILY WEEKLY MONTHLY of the names on standard input, prints those that are kept
# What a dump is stands in its name, TIME.WHAT.enc: `dump` is a whole database, `schema` has no rows, `tables` the rows of some tables
# only, `sql` the roles. A named one is TIME.before-NAME.WHAT.enc.
# A dump is good when its .sha256 is beside it: that is sent last, after the dump has been read back from the bucket.
# What is wanted is in /etc/seawall/dump.conf. No secret is in either file, and none is ever an argument of a program.
LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/var/lib/postgresql PGHOST=/var/run/postgresql PGUSER=postgres
# Over what somebody may have set for a database or a role: no limits, no other role, nobody's libraries.
PGOPTIONS='-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c default_transaction_read_only=off -c role=none -c local_preload_libraries='
# Limits that newer versions brought, where the server has them: one of milliseconds ends a session before its first statement.
data=
{ read -r _ && read -r data; } 2>/dev/null <"$PGHOST/.s.PGSQL.5432.lock"
version=${data#/var/lib/postgresql/}
case ${version%%/*} in
1[4-6]) PGOPTIONS="$PGOPTIONS -c idle_session_timeout=0" ;;
1[7-9] | [2-9][0-9]) PGOPTIONS="$PGOPTIONS -c idle_session_timeout=0 -c transaction_timeout=0" ;;
esac
export LC_ALL PATH HOME PGHOST PGUSER PGOPTIONS
set -u
umask 077

# Seconds to list a folder, or to send or delete something small.
small_limit_s=120
# Seconds to send one dump or to read it back: at 10 MB/s, 72 GB.
transfer_limit_s=7200
# Whoever changes a table for longer than this keeps its database from being dumped; waiting longer would queue others.
lock_wait=600s
# A dump that was sent without its .sha256 is a leftover after this, and no longer one that is being made.
leftover_age='1 day ago'

conf=/etc/seawall/dump.conf
home=/var/lib/postgresql
work=$home/seawall-dumps
# No database that can be declared has a dot in its name.
globals=.globals

# Reads the configuration.
wish() {
    configured
    target=$(setting bucket)/$(setting folder)
    PATH=/usr/lib/postgresql/$(setting version)/bin:$PATH PGPORT=$(setting port)
    export PATH PGPORT
}
# pgBackRest's key, which postgres may read.
key=/etc/pgbackrest/conf.d/key.conf
access_key() { values "$key" repo1-s3-key; }
secret_key() { values "$key" repo1-s3-key-secret; }

# DAILY WEEKLY MONTHLY: of the names on standard input, prints the newest of each of the last so many days, ISO weeks and
# months that have one, the newest of all, and every name that is not of our making.
keep() {
    sort -r | awk -v daily="$1" -v weekly="$2" -v monthly="$3" '
        # Days since 1970-01-01, a Thursday: weeks begin on Mondays. Years begin in March here, so that a leap day is last.
        function days(year, month, day) {
            if (month <= 2) { year--; month += 12 }
            return 365 * year + int(year / 4) - int(year / 100) + int(year / 400) + int((153 * (month - 3) + 2) / 5) + day - 719469
        }
        !/^[0-9][0-9][0-9][0-9][01][0-9][0-3][0-9]T[0-2][0-9][0-5][0-9][0-6][0-9]Z\.(dump|schema|tables|sql)\.enc$/ { print; next }
        {
            stays = !newest++
            day = substr($0, 1, 8)
            week = int((days(substr($0, 1, 4) + 0, substr($0, 5, 2) + 0, substr($0, 7, 2) + 0) + 3) / 7)
            month = substr($0, 1, 6)
            if (!(("d" day) in seen)) { seen["d" day] = 1; if (daily-- > 0) stays = 1 }
            if (!(("w" week) in seen)) { seen["w" week] = 1; if (weekly-- > 0) stays = 1 }
            if (!(("m" month) in seen)) { seen["m" month] = 1; if (monthly-- > 0) stays = 1 }
            if (stays) print
        }'
}

# FROM TO: sends a file. Without a look at the place first: where nothing is, S3 may say "forbidden" as well.
send() { bucket "$transfer_limit_s" copyto --no-check-dest "$1" "S3:$target/$2"; }
# WORD...: `PATH|BYTES` of everything below a folder. 3: there is no such folder, which S3 does not tell from an empty one.
listing() {
    bucket "$small_limit_s" lsf --files-only --format ps --separator '|' "$@"
    listed=$?
    [ "$listed" = 3 ] || return "$listed"
}
# WHICH: of a listing on standard input, the `good` dumps as `PATH|BYTES`, or what is `alone`: a dump without its .sha256,
# or a .sha256 without its dump.
pick() {
    awk -F '|' -v which="$1" '
        NF == 2 && $1 ~ /^(\.?[a-z0-9_]+\/)?[0-9]+T[0-9]+Z(\.before-[a-z0-9-]+)?\.(dump|schema|tables|sql)\.enc(\.sha256)?$/ { size[$1] = $2 }
        END {
            for (path in size) {
                dump = path
                is_sum = sub(/\.sha256$/, "", dump)
                whole = (dump in size) && ((dump ".sha256") in size)
                if (which == "good" && whole && !is_sum) print path "|" size[path]
                if (which == "alone" && !whole) print path
            }
        }' | sort
}
checksum() { sha256sum | cut -c 1-64; }

# Nothing readable stays on the disk, however a run ends.
empty() { rm -rf -- "$work" && mkdir -m 0700 -- "$work"; }
# What this program made and must not leave behind half done: a database, and whether the role that restores it is there.
unfinished=
restoring=
ended() {
    [ -z "$unfinished" ] || dropdb --if-exists -- "$unfinished"
    [ -z "$restoring" ] || say 'DROP ROLE IF EXISTS :"restorer";' | superuser postgres
    rm -rf -- "$work"
}
alone() {
    exec 9>"$home/.seawall-dump.lock" || exit
    flock -n 9 || fail "another run of this program has not ended yet; nothing was done"
    trap ended EXIT
    trap 'exit 1' HUP INT TERM
    empty || fail "$work could not be made"
}

# DATABASE: the tables whose rows are dumped, where those of others are not.
tables_of() { settings table | sed -n "s/^$1 //p"; }
# DATABASE: what of it is dumped.
scope() {
    if settings schema | grep -Fxq -- "$1"; then
        say schema
    elif [ -n "$(tables_of "$1")" ]; then
        say tables
    else
        say dump
    fi
}
# DATABASE: its dump in $plain, with the rows of the declared tables and of no other. What they need to be restored, types and
# functions and the tables that they point at, is in it without rows.
some_tables() (
    names=$(tables_of "$1" | sed "s/.*/'&'/" | paste -s -d , -)
    # Every table that is neither declared nor a part of one that is: a partition, or one that inherits. A declared one that is
    # not there is said.
    say "SELECT 'missing ' || name FROM unnest(ARRAY[$names]) AS name WHERE to_regclass(name) IS NULL;
        WITH RECURSIVE wanted AS (
            SELECT to_regclass(name)::oid AS id FROM unnest(ARRAY[$names]) AS name
            UNION SELECT inhrelid FROM pg_inherits JOIN wanted ON inhparent = id)
        SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
            AND c.oid NOT IN (SELECT id FROM wanted WHERE id IS NOT NULL);" |
        PGOPTIONS="$PGOPTIONS -c search_path=pg_catalog" psql -XAtq -v ON_ERROR_STOP=1 -d "$1" >"$work/others" || return
    if grep '^missing ' "$work/others" >&2; then return 1; fi
    set -- -d "$1"
    while IFS= read -r other; do set -- "$@" "--exclude-table-data=$other"; done <"$work/others"
    pg_dump -Fc --lock-wait-timeout="$lock_wait" -f "$plain" "$@"
)

# NAME WHAT: one dump, to the bucket and back. In a process of its own: what fails here fails for this one only.
one() (
    name=$1 file=$stamp${before:+.before-$before}.$2.enc
    plain=$work/plain sealed=$work/$file
    failed() {
        rm -f -- "$plain" "$sealed" "$sealed.sha256"
        fail "$name: $1; the dumps from before were left as they are"
    }
    # The dump and its encrypted copy get a third of the free space each: a full disk stops PostgreSQL. In blocks of 512 bytes.
    free=$(df -Pk -- "$work" | awk 'NR == 2 { printf "%d", $4 * 2 / 3 }')
    ulimit -f "$free" || failed "the size of files could not be limited"
    case $2 in
    dump) pg_dump -Fc --lock-wait-timeout="$lock_wait" -f "$plain" -d "$name" && pg_restore --list "$plain" >/dev/null ;;
    schema) pg_dump -Fc --schema-only --lock-wait-timeout="$lock_wait" -f "$plain" -d "$name" && pg_restore --list "$plain" >/dev/null ;;
    tables) some_tables "$name" && pg_restore --list "$plain" >/dev/null ;;
    sql) pg_dumpall --globals-only --no-role-passwords -f "$plain" ;;
    esac || failed "it could not be dumped (a file may have $((free / 2)) kB here)"
    seal "$plain" "$sealed" || failed "it could not be encrypted"
    rm -f -- "$plain"
    cd -- "$work" && sha256sum -- "$file" >"$file.sha256" || failed "it could not be read again"
    send "$sealed" "$name/$file" || failed "it could not be sent"
    size=$(stat -c %s -- "$sealed")
    there=$(bucket "$small_limit_s" lsf --format s "S3:$target/$name/$file") || failed "the bucket did not say what it has"
    [ "$there" = "$size" ] || failed "the bucket has ${there:-none} of $size bytes"
    sum=$(bucket "$transfer_limit_s" cat "S3:$target/$name/$file" | checksum)
    [ "$sum" = "$(cut -c 1-64 "$file.sha256")" ] || failed "what the bucket gives back is not what was sent"
    send "$sealed.sha256" "$name/$file.sha256" || failed "its .sha256 could not be sent"
    rm -f -- "$sealed" "$sealed.sha256"
    say "$name: dumped, $size bytes, $target/$name/$file"
    # A named one is kept, and so is everything beside it.
    [ -z "$before" ] || exit 0
    thin "$name" "$file" || fail "$name: dumped, and older dumps could not be thinned out"
)

# NAME FILE: deletes what is not kept. Only after a new dump that the listing shows as good; a .sha256 goes before its dump.
thin() {
    listing "S3:$target/$1/" >"$work/listing" || return
    # What has other rows is no older version of it.
    pick good <"$work/listing" | cut -d '|' -f 1 | grep "\\.$(say "${2%.enc}" | sed 's/.*\.//')\\.enc\$" >"$work/good"
    grep -Fxq -- "$2" "$work/good" || return
    keep "$(setting daily)" "$(setting weekly)" "$(setting monthly)" <"$work/good" | sort >"$work/kept" || return
    comm -23 "$work/good" "$work/kept" >"$work/gone"
    limit=$(date -u -d "$leftover_age" +%Y%m%dT%H%M%SZ) || return
    pick alone <"$work/listing" | awk -v limit="$limit" 'substr($0, 1, 16) < limit' >"$work/leftovers"
    wrong=0
    while read -r old; do
        bucket "$small_limit_s" deletefile "S3:$target/$1/$old.sha256" &&
            bucket "$small_limit_s" deletefile "S3:$target/$1/$old" || wrong=1
    done <"$work/gone"
    while read -r old; do
        bucket "$small_limit_s" deletefile "S3:$target/$1/$old" || wrong=1
    done <"$work/leftovers"
    return "$wrong"
}

# The name that a run gives to its dumps; empty for those of the schedule.
before=
run() {
    alone
    began=$(date +%s)
    stamp=$(date -u -d "@$began" +%Y%m%dT%H%M%SZ)
    status=0
    for name in $(settings database); do
        what=dump
        [ -n "$before" ] || what=$(scope "$name")
        one "$name" "$what" || status=1
    done
    one "$globals" sql || status=1
    if [ "$status" = 0 ] && [ -z "$before" ]; then
        # For `seawall plan`: when everything was dumped last.
        say "$began" >"$home/.seawall-dumped.new" && mv -T -- "$home/.seawall-dumped.new" "$home/.seawall-dumped" || status=1
    fi
    exit "$status"
}

list() {
    # Not in a pipe: what could not be listed is no empty list.
    found=$(listing -R "S3:$target/") || fail "the bucket could not be listed"
    printf '%s\n' "$found" | pick good | awk -F '[/|]' '{ what = $2; sub(/^[^.]*\./, "", what); sub(/\.enc$/, "", what); sub(/\..*/, "", $2); print $1, $2, $3, what }'
}

# NAME TIME: the file of the good dump of that time, whatever it has of the database.
file_of() {
    found=$(listing "S3:$target/$1/") || fail "the bucket could not be listed"
    found=$(printf '%s\n' "$found" | pick good | cut -d '|' -f 1 | grep "^$2\.") || fail "there is no good dump of $1 of $2"
    [ "$(printf '%s\n' "$found" | wc -l)" = 1 ] || fail "there are several dumps of $1 of $2"
    say "$found"
}
# NAME FILE: a good dump, readable, in $work/plain.
fetch() {
    for part in "$2" "$2.sha256"; do
        bucket "$transfer_limit_s" copyto "S3:$target/$1/$part" "$work/$part" || fail "$target/$1/$part could not be fetched"
    done
    [ "$(checksum <"$work/$2")" = "$(cut -c 1-64 "$work/$2.sha256")" ] || fail "$target/$1/$2 is damaged: its checksum is another"
    unseal "$work/$2" "$work/plain" ||
        fail "$target/$1/$2 cannot be read with $pass"
    rm -f -- "$work/$2"
}

# What is in a dump belongs to the owners of its tables: a check, an index or a trigger of theirs runs while it is restored. So
# it is restored by this role, which may do nothing outside of the new database and logs in as itself: a superuser that had
# only put on another role could be made to take it off. pg_ident.conf lets postgres log in as it.
restorer=seawall_restore
# DATABASE: statements on standard input, as superuser.
superuser() {
    PGOPTIONS="$PGOPTIONS -c search_path=pg_catalog" psql -XAtq -v ON_ERROR_STOP=1 -v name="$copy" -v restorer="$restorer" -v owner="$owns" -d "$1"
}
superusers() { say "select string_agg(rolname, ',' order by rolname) from pg_roles where rolsuper;" | superuser postgres; }
# The dump's list of contents on standard input, in three: what a superuser makes first (schemas, extensions), what the role restores,
# and privileges, which a superuser gives at last. None of the first and the last runs anything that the dump brings. What would act
# by itself in a copy is in none of them: event triggers, publications, subscriptions.
contents() {
    awk -v folder="$work" '
        !/^[0-9]+; [0-9]+ [0-9]+ / { next }
        { entry = $0; sub(/^[0-9]+; [0-9]+ [0-9]+ /, "", entry) }
        entry ~ /^((COMMENT|SECURITY LABEL|ACL) - )?(EVENT TRIGGER|PUBLICATION|SUBSCRIPTION) / { print entry >(folder "/left-out"); next }
        entry ~ /^PUBLICATION TABLE/ { next }
        entry ~ /^COMMENT - EXTENSION / { next }
        entry ~ /^(SCHEMA|EXTENSION) - / { print >(folder "/first"); next }
        entry ~ /^(DEFAULT )?ACL / { print >(folder "/last"); next }
        { print >(folder "/content") }'
}
# PART WORD...: restores a part of the dump into the copy.
part() {
    list=$work/$1
    shift
    [ ! -s "$list" ] || pg_restore --exit-on-error -L "$list" -d "$copy" "$@" "$work/plain"
}
# DATABASE TIME
restore() {
    # PostgreSQL cuts names after 63 bytes: 37 and 26.
    copy=$(printf '%.37s' "$1")_restored_$2 owns=postgres
    alone
    there=$(say "select 1 from pg_database where datname = :'name'" | superuser postgres) || exit
    [ -z "$there" ] || fail "$copy is there already; nothing was done"
    file=$(file_of "$1" "$2") || exit
    fetch "$1" "$file"
    pg_restore --list "$work/plain" | contents || fail "$1 of $2 has no list of contents"
    # Its tables are written while they belong to the extension, by a superuser only.
    ! grep -q ' EXTENSION - timescaledb *$' "$work/first" 2>/dev/null ||
        fail "$1 has the extension timescaledb, whose tables only a superuser could restore; restore a backup instead. Nothing was done"
    # Encoding and locale as they were.
    made=$(pg_restore --create --section=pre-data -f - "$work/plain" |
        sed -n '/^CREATE DATABASE .* WITH TEMPLATE = template0/{s/^CREATE DATABASE .* WITH TEMPLATE/WITH TEMPLATE/p;q}')
    say "$made" | grep -Eqx "WITH TEMPLATE = template0( [A-Z_]+ = ('[A-Za-z0-9_.@, -]*'|[a-z0-9]+))*;" ||
        fail "$1 of $2 does not say how its database was made"
    # The copy's owner: that of the original, or nobody but the superuser where there is none.
    found=$(say "select pg_get_userbyid(datdba) from pg_database where datname = '$1'" | superuser postgres) || exit
    owns=${found:-postgres}
    before=$(superusers) || exit
    restoring=yes
    say "SELECT format('CREATE ROLE %I', :'restorer') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'restorer') \\gexec
        ALTER ROLE :\"restorer\" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD NULL;
        CREATE DATABASE :\"name\" $made" | superuser postgres || fail "$copy could not be made"
    # Only from here on: one that somebody else made meanwhile is not this program's to drop.
    unfinished=$copy
    # Nobody but its owner and the superuser gets in, until somebody decides otherwise.
    say 'REVOKE ALL ON DATABASE :"name" FROM PUBLIC; ALTER DATABASE :"name" OWNER TO :"restorer";' | superuser postgres &&
        part first --no-owner &&
        say "SELECT format('ALTER SCHEMA %I OWNER TO %I', nspname, :'restorer') FROM pg_namespace n
            WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND pg_get_userbyid(nspowner) <> 'pg_database_owner'
            AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_namespace'::regclass AND objid = n.oid AND deptype = 'e') \\gexec" |
        superuser "$copy" &&
        part content --no-owner --username="$restorer" &&
        say 'REASSIGN OWNED BY :"restorer" TO :"owner"; DROP OWNED BY :"restorer"; DROP ROLE :"restorer";' | superuser "$copy" &&
        part last || fail "$1 of $2 could not be restored; $copy was dropped again"
    restoring=
    [ "$(superusers)" = "$before" ] ||
        fail "there are other superusers than before: look at every role before you trust this server; $copy was dropped again"
    unfinished=
    [ ! -s "$work/left-out" ] || sed 's/^/not restored, because it would act by itself: /' "$work/left-out" >&2
    say "$copy"
}

usage() {
    say "usage: dump run | before NAME | list | restore DATABASE TIME | globals TIME | keep DAILY WEEKLY MONTHLY" >&2
    exit 64
}
# Refuses words that could leave their folder: they become parts of paths and of statements.
checked() {
    [ $# -ge 1 ] || usage
    case $1:$# in run:1 | before:2 | list:1 | restore:3 | globals:2 | keep:4) ;; *) usage ;; esac
    case $1 in
    before) case $2 in '' | *[!a-z0-9-]*) usage ;; esac ;;
    restore) case $2 in '' | *[!a-z0-9_]*) usage ;; esac ;;
    keep) case $2$3$4 in '' | *[!0-9]*) usage ;; esac ;;
    esac
    case $1 in
    restore | globals)
        for time; do :; done
        case $time in *[!0-9TZ]*) usage ;; ????????T??????Z) ;; *) usage ;; esac
        ;;
    esac
}
main() {
    checked "$@"
    if [ "$1" = keep ]; then
        keep "$2" "$3" "$4"
        exit
    fi
    # Files that root made here would be in the way of the next run.
    [ "$(id -un)" = postgres ] || exec runuser -u postgres -- "$0" "$@"
    cd / || exit
    wish
    case $1 in
    run) run ;;
    before)
        before=$2
        run
        ;;
    list) list ;;
    restore) restore "$2" "$3" ;;
    globals)
        alone
        file=$(file_of "$globals" "$2") || exit
        fetch "$globals" "$file"
        cat -- "$work/plain"
        ;;
    esac
}
