# From the repository to a cluster that has been replayed and opened, with the evidence.

# Whether there is room, and nobody has stopped pgBackRest here.
room() {
    tell phase check
    for file in /run/postgresql/pgbackrest/*.stop /tmp/pgbackrest/*.stop; do
        [ ! -e "$file" ] || refuse repository-stopped "pgBackRest was stopped on this server ($file); \`pgbackrest start\` as postgres ends that"
    done
    [ -x "$bin/postgres" ] || refuse no-postgres "PostgreSQL $version is not installed"
    bytes=$(ordered bytes) wal=$(ordered wal)
    needed=$(((${bytes:-0} + ${wal:-0}) / 1024 + room_left))
    # A restore in place has its folder already, perhaps on another file system.
    filled=$place
    [ ! -d "$data" ] || filled=$data
    free=$(df -Pk -- "$filled" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$needed" ] ||
        refuse no-room "the restore needs $((needed / 1024)) MB and $((free / 1024)) MB are free; nothing was restored"
    inodes=$(df -Pi -- "$filled" | awk 'NR == 2 { print $4 }')
    case $inodes in '' | *[!0-9]*) ;; *) [ "$inodes" -ge "$inodes_needed" ] || refuse no-room "only $inodes inodes are free; nothing was restored" ;; esac
}

# The last segment of the archive on the timeline: what a restore to the latest moment must have replayed.
archive_end() {
    archive=$(reader --log-level-console=off repo-ls "archive/$stanza" | grep -Ex "$version-[0-9]+" | sort -t - -k 2 -n | tail -n 1)
    [ -n "$archive" ] || refuse no-archive "the repository has no archive of PostgreSQL $version, or does not answer"
    line=$(printf '%08X' "$timeline")
    end=$(reader --log-level-console=off repo-ls --recurse --filter="/${line}[0-9A-F]{16}-" "archive/$stanza/$archive" |
        sed -n 's/^.*\/\([0-9A-F]\{24\}\)-[0-9a-f]\{40\}.*$/\1/p' | sort | tail -n 1)
    [ -n "$end" ] || refuse no-archive "the archive has no segment on timeline $timeline"
    tell fact archive-end "$end"
}

# The files of the backup. Target, timeline and set are always named: by default pgBackRest and PostgreSQL follow whatever
# timeline is the newest and end well wherever a segment is missing.
fetch() {
    tell phase fetch
    case $type in
    # Recovery does not end by itself then, so a missing segment cannot end it either.
    latest) set -- --type=standby --target-timeline="$timeline" ;;
    immediate) set -- --type=immediate --target-action=promote ;;
    time | name) set -- --type="$type" --target="$target" --target-action=promote --target-timeline="$timeline" ;;
    *) refuse order "the order has no such type: $type" ;;
    esac
    # A drill that must fail: no passphrase opens what another one sealed.
    [ "$broken" != passphrase ] || export PGBACKREST_REPO1_CIPHER_PASS=a-passphrase-that-opens-nothing
    { [ -d "$tablespaces" ] || mkdir -- "$tablespaces"; } && mkdir -- "$place/spool" "$place/lock" "$place/ahead" || refuse no-room "$place could not be made"
    if ! reader --pg1-path="$data" --set="$set" "$@" --archive-mode=off --tablespace-map-all="$tablespaces" \
        --log-level-console=info restore >"$place/restore.log" 2>&1; then
        refuse fetch "$(complaint "$place/restore.log")"
    fi
    tell fact fetched-bytes "$(du -sk -- "$data" | awk '{ print $1 * 1024 }')"
    [ "$(cat -- "$data/PG_VERSION" 2>/dev/null)" = "$version" ] || refuse version "the backup is not of PostgreSQL $version"
    [ -f "$data/backup_label" ] || refuse fetch "the restored files have no backup_label"
}

# KEY: a line of pg_controldata about what was restored.
control() { printf '%s\n' "$controldata" | sed -n "s/^$1: *//p" | head -n 1; }
# KEY SETTING: the greatest of what the backup has, what the order says, and what the WAL has asked for. Where the original's was
# raised after the backup, the WAL says so, and recovery would go no further with the backup's own.
number() {
    { control "$1"; ordered "$2"; printf '%s' "${raised:-}" | sed -n "s/^$2=//p"; } | sort -n | tail -n 1
}

# Everything that the copy is to be, on its command line: that wins over postgresql.auto.conf, which came with the backup and
# may say anything. Nothing of it acts on the world: no archiving, no subscriptions, no jobs, no listening on the network.
start() {
    controldata=$(LC_ALL=C "$bin/pg_controldata" -D "$data") || refuse fetch "pg_controldata cannot read what was restored"
    [ -n "${raised:-}" ] || tell fact system-id "$(control 'Database system identifier')"
    conf_folder=$place/conf
    [ -d "$conf_folder" ] || mkdir -- "$conf_folder"
    : >"$place/postgres.log"
    : >"$conf_folder/postgresql.conf"
    : >"$conf_folder/pg_ident.conf"
    echo 'local all postgres peer' >"$conf_folder/pg_hba.conf"
    restore_of=$name
    export restore_of stanza place data broken reads
    LC_ALL=C "$bin/postgres" -D "$data" \
        -c config_file="$conf_folder/postgresql.conf" -c hba_file="$conf_folder/pg_hba.conf" \
        -c ident_file="$conf_folder/pg_ident.conf" -c external_pid_file= -c cluster_name="seawall-restore-$name" \
        -c listen_addresses= -c unix_socket_directories="$socket" -c unix_socket_permissions=0700 -c port=5432 -c ssl=off \
        -c archive_mode=off -c archive_command= -c primary_conninfo= -c primary_slot_name= -c max_logical_replication_workers=0 \
        -c shared_preload_libraries="$(setting preload)" -c session_preload_libraries= -c local_preload_libraries= \
        -c timescaledb.max_background_workers=0 -c cron.launch_active_jobs=off \
        -c max_connections="$(number 'max_connections setting' max_connections)" \
        -c max_worker_processes="$(number 'max_worker_processes setting' max_worker_processes)" \
        -c max_wal_senders="$(number 'max_wal_senders setting' max_wal_senders)" \
        -c max_prepared_transactions="$(number 'max_prepared_xacts setting' max_prepared_transactions)" \
        -c max_locks_per_transaction="$(number 'max_locks_per_xact setting' max_locks_per_transaction)" -c wal_level=replica -c hot_standby=on \
        -c shared_buffers=64MB -c maintenance_work_mem=32MB -c work_mem=4MB -c huge_pages=off -c max_parallel_workers_per_gather=0 \
        -c max_parallel_maintenance_workers=0 -c autovacuum=off -c jit=off -c restart_after_crash=off \
        -c wal_retrieve_retry_interval=500ms -c restore_command="/usr/local/lib/seawall/restore wal $name %f %p" \
        -c recovery_target_timeline="$timeline" -c recovery_target_action=promote -c archive_cleanup_command= -c recovery_end_command= \
        -c logging_collector=off -c log_destination=stderr -c log_line_prefix='%m [%p] ' -c log_min_messages=warning \
        -c lc_messages=C -c log_timezone=UTC -c TimeZone=UTC -c log_statement=none -c log_min_duration_statement=-1 \
        >>"$place/postgres.log" 2>&1 &
    server=$!
}
lives() { kill -0 "$server" 2>/dev/null; }
# Ends the copy and waits for it. A second signal is for one that does not end.
stop_server() {
    [ -n "${server:-}" ] || return 0
    kill -INT "$server" 2>/dev/null
    waited=0
    while lives && [ "$waited" -lt 60 ]; do
        waited=$((waited + 1))
        sleep 1
    done
    kill -QUIT "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    server=
}

# What the end of a server in recovery means. PostgreSQL's own hint about backup_label is not repeated: it destroys clusters.
died() {
    why=$(grep -aE ' (FATAL|PANIC):  ' "$place/postgres.log" | grep -av 'the database system is' | tail -n 1 | sed 's/^.*\(FATAL\|PANIC\):  //')
    lost=$(awk '$2 == "absent" && length($3) == 24 { last = $3 } END { print last }' "$place/wal.log" 2>/dev/null)
    case $why in
    *'recovery ended before configured recovery target was reached'*)
        refuse target-not-reached "recovery ran out of WAL before the target; the archive has no segment ${lost:-after the last one}" ;;
    *'requested recovery stop point is before consistent recovery point'*)
        refuse target-before-backup "the target is earlier than the end of backup $set; an older backup leads there" ;;
    *'is not a child of this server'*) refuse timeline-not-reached "timeline $timeline does not contain backup $set: $why" ;;
    *'could not locate required checkpoint record'* | *'could not find redo location'*)
        refuse wal-missing "the first segment that backup $set needs could not be had" ;;
    *'WAL ends before end of online backup'*) refuse wal-missing "the WAL of backup $set itself is not whole; it lacks ${lost:-a segment}" ;;
    *'references to invalid pages'*) refuse damaged "the WAL refers to pages that the backup does not have" ;;
    *'could not restore file'*) refuse repository-lost "the repository did not give $(lost_file): $(complaint "$place/archive-get.log")" ;;
    *'Read-only file system'*)
        refuse tablespace "the WAL makes a tablespace where the original has its own ($why); a backup that was made after that leads there, and nothing was written to it" ;;
    *'could not access file'* | *'could not load library'*) refuse no-library "a library that the data needs is not installed: $why" ;;
    *'recovery aborted because of insufficient parameter settings'*) refuse settings "the copy's settings are smaller than the original's" ;;
    '') refuse died "PostgreSQL ended without a word: $(last_line "$place/postgres.log")" ;;
    *) refuse died "PostgreSQL ended: $why" ;;
    esac
}
lost_file() { awk '$2 == "failed" { last = $3 } END { print last ? last : "a segment" }' "$place/wal.log" 2>/dev/null; }

# Whether PostgreSQL has asked in vain for a segment behind the end of the archive: it has replayed everything before.
is_at_end() {
    [ -f "$place/wal.log" ] && awk -v end="${end#????????}" '
        $2 == "absent" && length($3) == 24 && (substr($3, 9) "") > (end "") { found = 1 }
        END { exit !found }' "$place/wal.log"
}
# The segment that PostgreSQL asks for again and again although the archive goes on behind it.
hole() {
    [ -f "$place/wal.log" ] || return 0
    awk -v end="${end:-}" -v limit="$absent_limit" '
        length($3) != 24 { next }
        $2 == "got" { delete asked; next }
        $2 == "absent" && ++asked[$3] >= limit && (end == "" || (substr($3, 9) "") <= (substr(end, 9) "")) { hole = $3 }
        END { print hole }' "$place/wal.log"
}
in_recovery() { echo 'select pg_is_in_recovery()' | ask postgres 2>/dev/null; }

# `SETTING=VALUE` where recovery asks for a greater one: PostgreSQL has ended, or waits to be started with it.
too_small() {
    sed -n 's/^.*DETAIL:  \([a-z_]*\) = [0-9]* is a lower setting than on the primary server, where its value was \([0-9]*\)\.$/\1=\2/p' \
        "$place/postgres.log" | tail -n 1
}
# SETTING VALUE: starts the copy again with it; it goes on where it stood.
raise() {
    raises=$((raises + 1))
    [ "$raises" -le "$raise_limit" ] || refuse settings "recovery asks for a greater $1, $2, for the ${raises}th time"
    tell fact raised "$1 to $2, as the WAL asks"
    raised="${raised:-}$1=$2
"
    stop_server
    promoted=''
    # What was asked for in vain before says nothing of how far this one gets.
    cat -- "$place/wal.log" >>"$place/wal.before.log" 2>/dev/null
    rm -f -- "$place/wal.log"
    start
}

replay() {
    tell phase replay
    raises=0
    start
    promoted=''
    deadline=$(($(now) + replay_limit_s))
    until grep -aq 'LOG:  archive recovery complete' "$place/postgres.log"; do
        small=$(too_small)
        if [ -n "$small" ]; then raise "${small%=*}" "${small#*=}"; fi
        lives || died
        [ "$(now)" -lt "$deadline" ] || refuse too-slow "replay did not end within $replay_limit_s s"
        if [ "$type" = latest ] && [ -z "$promoted" ] && is_at_end && [ "$(in_recovery)" = t ]; then
            replayed=$(echo 'select pg_last_wal_replay_lsn()' | ask postgres) || refuse died "the copy does not answer"
            tell fact replay-end "$replayed"
            echo 'select pg_promote(false)' | ask postgres >/dev/null || refuse died "the copy could not be opened for writing"
            promoted=yes
        fi
        missing=$(hole)
        [ -z "$missing" ] || refuse wal-missing "segment $missing is not in the archive, which goes on behind it; nothing after it can be restored"
        sleep 0.3
    done
}

# What was replayed, by PostgreSQL's own words, and a commit of our own.
reached() {
    tell phase reached
    if grep -aq ' failed ' "$place/wal.log" 2>/dev/null; then
        refuse repository-lost "the repository failed to give $(lost_file) while WAL was replayed"
    fi
    case $type in
    latest) [ -n "$promoted" ] && is_at_end || refuse target-not-reached "the copy was opened before the end of the archive, $end" ;;
    *)
        stopped=$(grep -a 'LOG:  recovery stopping ' "$place/postgres.log" | tail -n 1 | sed 's/^.*LOG:  //')
        [ -n "$stopped" ] || refuse target-not-reached "PostgreSQL does not say that it stopped at the target"
        tell fact stopped "$stopped"
        ;;
    esac
    waited=0
    until [ "$(in_recovery)" = f ]; do
        lives || died
        [ "$waited" -lt 60 ] || refuse target-not-reached "the copy is still in recovery"
        waited=$((waited + 1))
        sleep 0.5
    done
    last=$(sed -n 's/^.*last completed transaction was at log time //p' "$place/postgres.log" | tail -n 1)
    [ -z "$last" ] || tell fact last-commit "$last"
    # No object is made: a message in the WAL, in a transaction that is seen to have committed.
    written=$(echo "begin; select pg_current_xact_id() as x, pg_logical_emit_message(true, 'seawall', 'restored') as l \\gset
        commit; select pg_xact_status(:'x'::xid8)" | ask postgres 2>>"$place/ask.log")
    [ "$written" = committed ] || refuse no-write "a transaction could not be committed: $(last_line "$place/ask.log")"
    new=$(echo 'select left(pg_walfile_name(pg_current_wal_lsn()), 8)' | ask postgres)
    tell fact timeline "$((0x${new:-0}))"
}
