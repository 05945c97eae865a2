# A drill that this server runs by itself: it chooses as an operator's would, and leaves what came of it in a file of root's.

results=/var/lib/seawall/drills
# Between two looks at a drill that runs.
drill_look_s=2

# Lines of `backup label|size|first segment` and then the timeline. The newest good backup of the cluster that runs here, along the
# timeline that it is on: what somebody else has put into the archive is not followed.
choose() {
    as_postgres pgbackrest --config=/etc/pgbackrest/restore.conf --config-include-path=/etc/pgbackrest/restore.conf.d \
        --stanza="$(setting stanza)" --log-level-file=off --log-level-console=off --log-level-stderr=off info --output=json |
        as_postgres psql -XAtq -v ON_ERROR_STOP=1 -d postgres 3<&0 2>/dev/null <<'SQL'
set default_transaction_read_only = on;
\set info `cat <&3`
select b->>'label', (b->'info'->>'size')::bigint, b->'archive'->>'start', (select timeline_id from pg_control_checkpoint())
from jsonb_array_elements(:'info'::jsonb->0->'backup') b
where not coalesce((b->>'error')::boolean, false)
and (b->'database'->>'id')::int = (select max((d->>'id')::int) from jsonb_array_elements(:'info'::jsonb->0->'db') d
    where d->>'system-id' = (select system_identifier::text from pg_control_system()))
order by (b->'timestamp'->>'stop')::bigint desc limit 1
SQL
}

# Lines `NAME=VALUE` of the settings that the cluster runs with and that a copy must not have smaller.
numbers() {
    as_postgres psql -XAtq -F = -d postgres -c "select name, setting from pg_settings where name in
        ('max_connections', 'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions', 'max_locks_per_transaction')" 2>/dev/null
}

# TEXT: a moment of PostgreSQL's as seconds; nothing for nothing.
seconds_of() { [ -z "$1" ] || date -u -d "$1" +%s 2>/dev/null; }
# FACT: what was told of it last.
fact() { printf '%s\n' "$said" | sed -n "s/^[0-9]* fact $1 //p" | tail -n 1; }
# PHASE: the second in which it began.
phase() { printf '%s\n' "$said" | awk -v phase="$1" '$2 == "phase" && $3 == phase { print $1 }' | tail -n 1; }
# SECONDS LIMIT: whether a limit that is set was passed.
past() { [ -n "$1" ] && [ -n "$2" ] && [ "$1" -gt "$2" ]; }

# BREAK: one drill; `break` is what is broken on purpose, or nothing. It sets `passed` and writes what came of it.
one_drill() {
    began=$(now) id=drill-$(date -u +%Y%m%d-%H%M%S)${1:+-broken}
    code='' why='' said='' set='' size='' first='' timeline=''
    IFS='|' read -r set size first timeline <<CHOSEN
$(choose)
CHOSEN
    if [ -z "$set" ] || [ -z "$timeline" ]; then
        code=restore-no-backup why="there is no good backup, or the repository or PostgreSQL does not answer"
    else
        {
            printf '# A drill by the schedule; %s reads it.\n' "$0"
            printf '%s\n' purpose=drill set="$set" timeline="$timeline" type=latest target= bytes="$size"
            numbers
            [ -z "$1" ] || printf '%s\n' break="$1" hide="$first"
            grep '^check-[0-9]*-[a-z]*=' "$conf"
        } >"$orders/.$id.new"
        chgrp postgres "$orders/.$id.new" && chmod 0640 "$orders/.$id.new" && mv -T -- "$orders/.$id.new" "$orders/$id.conf" || exit
        systemctl start "seawall-restore@$id.service"
        while systemctl is-active -q "seawall-restore@$id.service"; do sleep "$drill_look_s"; done
        said=$(runuser -u postgres -- cat -- "$home/$id/told" 2>/dev/null)
        case $(printf '%s\n' "$said" | tail -n 1) in
        *' finished') ;;
        *)
            code=$(printf '%s\n' "$said" | sed -n 's/^[0-9]* failed \([a-z-]*\).*/\1/p' | head -n 1)
            why=$(printf '%s\n' "$said" | sed -n 's/^[0-9]* failed [a-z-]* //p' | head -n 1)
            code=${code:-died} why=${why:-it ended without a word}
            ;;
        esac
        (drop "$id") >/dev/null 2>&1
        if [ -e "$home/$id" ] || pgrep -f "seawall-restore-$id( |:|\$)" >/dev/null; then
            code=${code:-drill-not-removed} why=${why:-"the copy could not be removed"}
        fi
    fi
    heartbeat=$(seconds_of "$(fact heartbeat)") commit=$(seconds_of "$(fact last-commit)") serves=$(phase look)
    lost='' serve='' trust='' fetch=''
    oldest=$heartbeat
    [ -z "$commit" ] || [ -z "$heartbeat" ] || [ "$commit" -ge "$heartbeat" ] || oldest=$commit
    [ -z "$oldest" ] || lost=$((began - oldest))
    [ -z "$serves" ] || serve=$((serves - began)) trust=$(($(printf '%s\n' "$said" | tail -n 1 | cut -d ' ' -f 1) - began))
    [ -z "$(phase fetch)" ] || [ -z "$(phase replay)" ] || fetch=$(($(phase replay) - $(phase fetch)))
    if [ -z "$code" ]; then
        before=$(values "$results/last" heartbeat 2>/dev/null)
        if [ -z "$lost" ] || [ -z "$commit" ] || [ -z "$serve" ]; then
            code=drill-not-measured why="the loss or the time was not measured"
        elif past "$lost" "$(setting rpo)"; then
            code=drill-rpo why="$lost s would be lost, and the objective is $(setting rpo) s"
        elif past "$serve" "$(setting rto)"; then
            code=drill-rto why="the copy was open after $serve s, and the objective is $(setting rto) s"
        elif [ -n "$before" ] && [ "$heartbeat" -le "$before" ]; then
            code=drill-not-fresh why="the copy is no newer than that of the drill before"
        fi
    fi
    passed=yes
    [ -z "$code" ] || passed=no
    kept=$results/last${1:+-broken}
    printf '%s\n' id="$id" broken="$1" began="$began" passed="$passed" code="$code" "why=$(printf '%s' "$why" | tr -d '\000-\037')" \
        lost="$lost" heartbeat="$heartbeat" serve="$serve" trust="$trust" fetch="$fetch" bytes="$(fact bytes)" >"$kept.new"
    chmod 0600 "$kept.new" && sync -- "$kept.new" && mv -T -- "$kept.new" "$kept" || exit
    say "$id: ${code:-passed}${why:+: $why}"
}

# As root, by the timer: one drill, and in each quarter of a year one more that must fail.
drill() {
    configured
    only_root "$orders" >&2 && only_root "$results" >&2 || exit
    install -d -m 0700 "$results" && install -d -g postgres -m 0750 "$orders" || exit
    runuser -u postgres -- mkdir -p -m 0700 -- "$home" || exit
    one_drill ''
    [ "$passed" = yes ] || exit 1
    quarter=$(date -u +%Y)-$((($(date -u +%-m) + 2) / 3))
    [ "$(cat -- "$results/quarter" 2>/dev/null)" != "$quarter" ] || return 0
    one_drill segment
    case $passed:$code in
    no:wal-missing | no:target-not-reached) say "that was wanted: a missing segment was noticed" ;;
    *)
        say "a drill with a missing segment should have failed for it, and did not: what passed before proves nothing" >&2
        exit 1
        ;;
    esac
    printf '%s\n' "$quarter" >"$results/quarter.new" && mv -T -- "$results/quarter.new" "$results/quarter"
}
