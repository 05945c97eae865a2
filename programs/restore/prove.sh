# What a restored cluster is, and whether it is whole.

# Facts that the operator must know before he trusts it, none of which keeps it from being used.
look() {
    beat=$(echo "select to_char(at at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' from seawall.heartbeat" | ask postgres 2>/dev/null)
    [ -z "$beat" ] || tell fact heartbeat "$beat"
    databases=$(echo "select datname from pg_database where datallowconn order by 1" | ask postgres) || refuse died "the copy does not answer"
    [ "$version" -lt 15 ] ||
        echo "select datname from pg_database where datcollversion is distinct from pg_database_collation_actual_version(oid)" |
        ask postgres | while read -r database; do
            tell remark collation "database $database was sorted by another version of the system's collations: reindex its text, then ALTER DATABASE REFRESH COLLATION VERSION"
        done
    printf '%s\n' "$databases" | while read -r database; do
        echo "select extname || ' ' || extversion || ', here ' || default_version from pg_extension join pg_available_extensions on name = extname
            where default_version <> extversion" | ask "$database" 2>/dev/null | while read -r extension; do
            tell remark extension "database $database: $extension"
        done
    done
    # They keep their locks, and nobody who could end them knows of them.
    echo "select regexp_replace(left(gid, 60), '[[:cntrl:]]', '', 'g') || ' in database ' || database || ' since '
            || to_char(prepared at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS') || '+00' from pg_prepared_xacts order by prepared limit 5" |
        ask postgres | while read -r open; do
            tell remark prepared "a prepared transaction is open and holds its locks, $open: COMMIT PREPARED or ROLLBACK PREPARED ends it"
        done
    # Of what recovery wrote, whatever would outlive it.
    sed -n "s/^\(recovery_target[a-z_]*\|restore_command\|archive_mode\|primary_conninfo\) *=.*/\1/p" "$data/postgresql.auto.conf" | sort -u |
        while read -r setting; do tell fact leftover "$setting"; done
    tell fact bytes "$(echo 'select sum(pg_database_size(oid)) from pg_database' | ask postgres)"
}

# Every table and index is read. A permission that is missing is not corruption, nor is a lock that somebody holds or a limit.
verify() {
    tell phase verify
    gave_up='canceling statement due to [a-z]* timeout'
    if LC_ALL=C "$bin/pg_amcheck" -h "$socket" -p 5432 -U postgres --all --install-missing --heapallindexed --parent-check --jobs=1 \
        >"$place/amcheck.log" 2>&1; then
        tell fact amcheck "clean"
    elif grep -aq 'permission denied' "$place/amcheck.log"; then
        refuse verify "pg_amcheck may not read everything: $(last_line "$place/amcheck.log")"
    elif stuck=$(grep -a -m 1 -B 1 "$gave_up" "$place/amcheck.log") && ! grep -aE '^    |error:' "$place/amcheck.log" | grep -aqv "$gave_up"; then
        refuse verify "pg_amcheck could not read everything: $(printf '%s' "$stuck" | tr -s '\n ' ' ' | cut -c 1-300)"
    else
        refuse damaged "pg_amcheck: $(grep -a -m 1 -A 1 -E 'btree index|heap table|ERROR|error' "$place/amcheck.log" | tr '\n' ' ' | cut -c 1-300)"
    fi
    number=0
    while :; do
        number=$((number + 1))
        database=$(ordered "check-$number-database") sql=$(ordered "check-$number-sql") expected=$(ordered "check-$number-expect")
        [ -n "$database" ] || break
        answer=$(printf '%s\n' "$sql" | ask "$database" 2>"$place/ask.log") ||
            refuse check "check $number in $database failed: $(grep -a -m 1 ERROR "$place/ask.log" || last_line "$place/ask.log")"
        answer=$(printf '%s' "$answer" | tr '\n' ' ' | cut -c 1-200)
        tell fact "check-$number" "$answer"
        [ -z "$expected" ] || [ "$answer" = "$expected" ] || refuse check "check $number in $database says $answer, and $expected was expected"
        case $answer in '' | 0 | f | false) refuse check "check $number in $database says \`$answer\`: $sql" ;; esac
    done
}

# Every page against its checksum; only while the cluster is stopped.
checksums() {
    case $(control 'Data page checksum version') in 0 | '') tell remark checksums "the cluster has no checksums of its pages" && return ;; esac
    if LC_ALL=C "$bin/pg_checksums" --check -D "$data" >"$place/checksums.log" 2>&1; then
        tell fact checksums "$(sed -n 's/^Blocks scanned: *//p' "$place/checksums.log") blocks, all good"
    else
        refuse damaged "pg_checksums: $(last_line "$place/checksums.log")"
    fi
}

# DATABASE TABLE NEW: rows of a table of the copy, into a new table of the database beside it: columns with their types, and
# nothing that would run there (no defaults, checks, triggers or domains). All of it or nothing.
copy_table() {
    database=$1 table=$2 new=$3 schema=public
    case $table in *.*) schema=${table%%.*} table=${table#*.} ;; esac
    for word in "$database" "$schema" "$table" "$new"; do
        case $word in '' | *[!A-Za-z0-9_]*) fail "\`$word\` is no plain name: letters, digits and _ only" ;; esac
    done
    made=$(psql -h "$socket" -p 5432 -U postgres -XAtq -v ON_ERROR_STOP=1 -v schema="$schema" -v table="$table" -v new="$new" -d "$database" <<'SQL'
select format('create table %I.%I (%s)', :'schema', :'new', string_agg(format('%I %s', attname, format_type(
    case typtype when 'd' then typbasetype else atttypid end, case typtype when 'd' then typtypmod else atttypmod end)), ', ' order by attnum))
from pg_attribute join pg_type t on t.oid = atttypid
where attrelid = format('%I.%I', :'schema', :'table')::regclass and attnum > 0 and not attisdropped
SQL
    ) || fail "$schema.$table is not in $database of $name, or $name does not run"
    {
        printf '%s;\ncopy "%s"."%s" from stdin;\n' "$made" "$schema" "$new"
        # What came before the end of a copy that broke off is taken back.
        if echo "copy (select * from \"$schema\".\"$table\") to stdout" | ask "$database"; then printf '\\.\n'; else printf '\\.\nselect 1/0;\n'; fi
        # It belongs to who has the table of that name here, or, where that is gone, to the database's owner.
        cat <<'SQL'
select format('alter table %I.%I owner to %I', :'schema', :'new', pg_get_userbyid(coalesce(
    (select relowner from pg_class where oid = to_regclass(format('%I.%I', :'schema', :'table'))),
    (select datdba from pg_database where datname = current_database())))) \gexec
select count(*) || ' rows are in' from :"schema".:"new";
SQL
    } | psql -h /var/run/postgresql -U postgres -XAtq -1 -v ON_ERROR_STOP=1 -v schema="$schema" -v table="$table" -v new="$new" -d "$database" || fail "nothing was copied"
}
