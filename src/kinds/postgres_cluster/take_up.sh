# VERSION VERB PORT FILE BEFORE CHANGED: starts, restarts or reloads the cluster and waits until somebody can log in anew; its unit
# hides a start that failed, and a reload that went wrong looks like one. If nobody can, BEFORE takes the place of FILE
# again, or nothing does where there was none and something was CHANGED; the status is 85 when PostgreSQL is well with that.
version=$1 verb=$2 port=$3 file=$4 before=$5 changed=$6
unit=postgresql@$version-main.service
log=/var/log/postgresql/postgresql-$version-main.log

ask() { runuser -u postgres -- psql -h /var/run/postgresql -p "$port" -XAtq -d postgres -c "$1" 2>&1; }

# What PostgreSQL has written last. As postgres, whose the folder is: a link there leads no further than he gets.
written() { timeout 10 runuser -u postgres -- tail -c 16384 -- "$log" | tail -n 20; }

# Waits until the cluster takes connections where everybody looks for it. One that says it is ready and is not to be had there listens
# elsewhere, and would be waited for in vain.
answers() {
    until runuser -u postgres -- pg_isready -q -p "$port"; do
        pg_ctlcluster "$version" main status >/dev/null || return
        case $(runuser -u postgres -- sed -n 8p "/var/lib/postgresql/$version/main/postmaster.pid" 2>/dev/null) in
        ready*) elsewhere=$((elsewhere + 1)) ;;
        esac
        [ "$elsewhere" -lt 25 ] || return 1
        sleep 0.2
    done
}

# A session that begins now, with all that sessions begin with. The checkpoint wakes the checkpointer, which else forgets
# `archive_timeout` until its next turn.
login() {
    for _ in 1 2 3; do
        said=$(ask "$1") && return
        sleep 0.5
    done
    return 1
}

# Has it read its files again and waits until it has, five seconds at most: with a broken file it never says so, and
# `pg_reload_conf()` says true.
reload() {
    loaded=$(ask 'select pg_conf_load_time()') || loaded=''
    systemctl reload "$unit" || return
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ "$(ask 'select pg_conf_load_time()')" = "$loaded" ] || return 0
        sleep 0.5
    done
}

# Takes up what is on disk, or says in $why what keeps it from that.
take_up() {
    if [ "$1" = reload ]; then
        reload || { why="PostgreSQL could not be reloaded" && return 1; }
        login 'select 1' || { why="nobody can log in any more: $(printf '%s\n' "$said" | tail -n 1)" && return 1; }
    else
        elsewhere=0
        if ! systemctl "$1" "$unit" || ! answers; then
            why="PostgreSQL runs, and does not listen in /var/run/postgresql on port $port"
            [ "$elsewhere" -lt 25 ] || return 1
            written
            why="PostgreSQL did not start: $(written | grep -E 'PANIC:|FATAL:' | tail -n 1)"
            return 1
        fi
        login checkpoint || { why="PostgreSQL runs, and nobody can log in: $(printf '%s\n' "$said" | tail -n 1)" && return 1; }
    fi
}

# Our settings as they were.
put_back() {
    only_root "$file" || return
    if [ -f "$before" ]; then
        rewritten "$file" cat "$before"
    else
        rm -f -- "$file"
    fi
}

if [ "$verb" = restart ]; then
    # A stop waits for the archiver, so before a restart archiving must not be failing.
    stuck=$(ask "select last_failed_wal from pg_stat_archiver where last_failed_time > coalesce(last_archived_time, '-infinity') and current_setting('archive_mode') <> 'off' and current_setting('archive_command') not in ('', '(disabled)')") || stuck=''
    if [ -n "$stuck" ]; then
        echo "WAL segment $stuck cannot be archived, and a stop would wait for it: PostgreSQL was not restarted"
        exit 75
    fi
fi
if take_up "$verb"; then
    rm -f -- "$before"
    exit 0
fi
if [ -z "$changed" ] && [ ! -f "$before" ]; then
    echo "$why"
    exit 69
fi
because="$why${changed:+ (changed: $changed)}"
put_back || exit
[ "$verb" = reload ] || verb=restart
if take_up "$verb"; then
    rm -f -- "$before"
    echo "$because. The settings of before were put back, and PostgreSQL is well with them"
    exit 85
fi
echo "$because. The settings of before were put back, and with them: $why"
exit 69
