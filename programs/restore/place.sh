# A restore in place. The data that was there is moved aside, and nothing here ever removes it. While a restore waits to be
# accepted, nothing is archived: the way back must stay the only writer of the repository.

# Restores in place that wait, the newest last. Root's.
waiting=/etc/seawall/restores/in-place
newest() { tail -n 1 -- "$waiting" 2>/dev/null; }
kept() { printf '/var/lib/postgresql/%s/main.before-%s' "$version" "$name"; }

stop_cluster() {
    if systemctl is-active -q pgbouncer.service; then systemctl stop pgbouncer.service || fail "pgbouncer.service could not be stopped"; fi
    systemctl stop "$cluster" || fail "$cluster could not be stopped; nothing was moved"
    [ ! -e "$main/postmaster.pid" ] || fail "$main/postmaster.pid is still there after $cluster was stopped; nothing was moved"
}
# Up means that a query is answered.
start_database() {
    systemctl unmask -q "$cluster" && systemctl start "$cluster" || fail "$cluster does not start: journalctl -u $cluster"
    waited=0
    until [ "$(as_postgres psql -XAtqd postgres -c 'select not pg_is_in_recovery()' 2>/dev/null)" = t ]; do
        [ "$waited" -lt 60 ] || fail "PostgreSQL was started and answers no query after 60 s"
        waited=$((waited + 1))
        sleep 1
    done
}
start_pool() {
    if systemctl is-enabled -q pgbouncer.service 2>/dev/null; then systemctl start pgbouncer.service || fail "pgbouncer.service does not start"; fi
}
start_cluster() {
    start_database
    start_pool
}

in_place() {
    begin "$1"
    case $purpose in in-place | rehearsal) ;; *) fail "the order \`$name\` is not one for a restore in place" ;; esac
    aside=$(kept)
    [ ! -e "$aside" ] || fail "$aside is there already; nothing was changed"
    ! mountpoint -q "$main" || fail "$main is a mount point and cannot be moved aside; nothing was changed"
    only_root "$waiting" >&2 || exit
    stop_cluster
    # From here on it waits, however this ends: who comes next reads what to do.
    { cat -- "$waiting" 2>/dev/null; say "$name"; } >"$waiting.new" && sync -- "$waiting.new" && mv -T -- "$waiting.new" "$waiting" || exit
    # Not even a reboot starts what is half restored.
    systemctl mask -q "$cluster" || fail "$cluster could not be masked"
    as_postgres mv -T -- "$main" "$aside" && as_postgres mkdir -m 0700 -- "$main" || fail "$main could not be moved to $aside"
    install -d -m 0755 "$sockets" && only_root "$socket" && install -d -o postgres -g postgres -m 0700 "$socket" || exit
    as_postgres mkdir -- "$tablespaces" || fail "$tablespaces could not be made"
    # WAL may say where a tablespace is to be made: there, the data of before must stay as it is.
    systemd-run --quiet --wait --collect -p User=postgres -p ProtectSystem=strict -p ProtectHome=yes -p PrivateTmp=yes -p UMask=0077 \
        -p ReadWritePaths="$main $tablespaces $home $socket" "$0" run "$name" || {
        as_postgres tail -n 1 -- "$place/told" >&2
        fail "the restore did not get to its target. PostgreSQL is stopped; the data of before is in $aside"
    }
    [ "$purpose" != rehearsal ] || silence
    start_database
    # Clients come back when nobody has anything against it.
    hooks /var/run/postgresql || fail "what was restored runs, and $hook_why"
    # Nobody is asked about a rehearsal: what it restored goes with its server.
    [ "$purpose" != rehearsal ] || rm -f -- "$waiting"
    start_pool
    tell finished
}

# A rehearsal's PostgreSQL acts on nothing outside of its server. Its own configuration says so, over which the backup's
# ALTER SYSTEM would win, and the settings of recovery with it.
silence() {
    as_postgres sed -i -E '/^ *(archive_[a-z]+|recovery_[a-z_]+|restore_command|primary_[a-z_]+|max_logical_replication_workers|cron\.launch_active_jobs|timescaledb\.max_background_workers)[ =]/d' \
        "$main/postgresql.auto.conf" || fail "$main/postgresql.auto.conf could not be written"
    for said in archive_mode=off max_logical_replication_workers=0; do
        [ "$(as_postgres "$bin/postgres" -D "$main" -c config_file="/etc/postgresql/$version/main/postgresql.conf" -C "${said%%=*}")" = "${said#*=}" ] ||
            fail "PostgreSQL of a rehearsal must have $said, and would be started otherwise"
    done
}

# Of a rehearsal: every table and index of what runs in its place, the declared questions, and then every page.
examine() {
    begin "$1"
    [ "$purpose" = rehearsal ] || fail "\`$name\` is no rehearsal"
    as_postgres "$0" verify "$name" || exit
    stop_cluster
    as_postgres "$0" checksums "$name"
}

# Moves what is there out of the way and the data of before back.
undo() {
    begin "$1"
    [ "$(newest)" = "$name" ] || fail "\`$name\` is not the restore in place that waits; nothing was changed"
    aside=$(kept)
    if [ -d "$aside" ]; then
        stop_cluster
        undone=/var/lib/postgresql/$version/main.undone-$name
        [ ! -e "$undone" ] || fail "$undone is there already; nothing was moved"
        { [ ! -e "$main" ] || as_postgres mv -T -- "$main" "$undone"; } && as_postgres mv -T -- "$aside" "$main" ||
            fail "$aside could not be moved back to $main"
    fi
    start_cluster
    forget 1
}
# COUNT: of the restores that wait, takes the newest away.
forget() {
    head -n "-$1" -- "$waiting" >"$waiting.new" && sync -- "$waiting.new" || exit
    if [ -s "$waiting.new" ]; then mv -T -- "$waiting.new" "$waiting"; else rm -f -- "$waiting.new" "$waiting"; fi
}

# Keeps what was restored: settings of recovery go, archiving begins on the new timeline, with its history, and a full backup.
accept() {
    begin "$1"
    [ "$(newest)" = "$name" ] || fail "\`$name\` is not the restore in place that waits; nothing was changed"
    as_postgres psql -XAtq -v ON_ERROR_STOP=1 -d postgres >/dev/null <<'SQL' || fail "the settings of recovery could not be taken back; nothing else was changed"
select format('alter system reset %I', name) from pg_file_settings
where sourcefile like '%/postgresql.auto.conf'
and (name like 'recovery_target%' or name in ('restore_command', 'archive_mode', 'primary_conninfo', 'primary_slot_name', 'archive_cleanup_command', 'recovery_end_command')) \gexec
SQL
    systemctl restart "$cluster" || fail "$cluster does not start again: journalctl -u $cluster"
    start_cluster
    [ "$(as_postgres psql -XAtqd postgres -c 'show archive_mode')" = on ] || fail "archive_mode is not on, and it should be"
    # With archiving off, PostgreSQL did not queue the history of its timeline, without which nobody can restore along it, nor
    # the segments since it was opened.
    current=$(as_postgres psql -XAtqd postgres -c 'select pg_walfile_name(pg_current_wal_lsn())') || fail "PostgreSQL does not answer"
    as_postgres sh -c 'cd "$1/pg_wal" && for file in *.history "${2%????????????????}"????????????????; do
        [ -f "$file" ] && [ "$file" != "$2" ] && [ ! -e "archive_status/$file.done" ] || continue
        case $file in *.history) ;; *) [ "$(printf "%s\n" "$file" "$2" | sort | head -n 1)" = "$file" ] || continue ;; esac
        : >"archive_status/$file.ready" || exit
    done' sh "$main" "$current" || fail "the history of the timeline could not be queued"
    as_postgres psql -XAtqd postgres -c checkpoint || fail "no checkpoint could be made"
    # The first repository may have been lost with everything in it: that is why the second one was read.
    if [ "$repository" = copy ]; then
        as_postgres pgbackrest --stanza="$stanza" --lock-path=/run/postgresql/pgbackrest/accept stanza-create ||
            fail "the first repository could not be made anew: what is left below its prefix must be moved away first. \`restore accept\` can be run again"
    fi
    # The second repository may lack the end of the timeline that was left: its next backup is a full one.
    as_postgres sh -c 'cd /var/spool/seawall-copy 2>/dev/null || exit 0; printf "%s %s\n" "$(date +%s)" "a restore was accepted" >gap'
    as_postgres pgbackrest --stanza="$stanza" check || fail "a segment of WAL did not reach the repository; \`restore accept\` can be run again"
    systemctl start seawall-backup@full.service || fail "the full backup failed: journalctl -u seawall-backup@full.service. \`restore accept\` can be run again"
    rm -f -- "$waiting"
}
