#!/bin/sh
# managed by Seawall ({{ address }}); changes here are undone by the next apply
# systemd runs this when a unit failed, with the unit's name. It keeps the last {{ keep }} failures of each unit, one JSON
# object a line, in {{ folder }}: when, how it ended, and what it printed last. `seawall status` shows the newest.
LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
umask 077

unit=${1:-}
# The name becomes part of a path.
case $unit in '' | */* | *[!A-Za-z0-9@:._-]*) exit 64 ;; esac
folder={{ folder }}
mkdir -p -- "$folder" || exit 73

# systemd tells the handler how the run ended; started by hand, it has to ask.
ask() { systemctl show --property="$1" --value -- "$unit"; }
result=${MONITOR_SERVICE_RESULT:-$(ask Result)}
status=${MONITOR_EXIT_STATUS:-$(ask ExecMainStatus)}
run=${MONITOR_INVOCATION_ID:-$(ask InvocationID)}
case $run in '' | *[!0-9a-f]*) run=none ;; esac

# A JSON string from a line that may hold anything.
text() { iconv -c -f UTF-8 -t UTF-8 | tr -d '\000-\010\013-\037\177' | sed 's/[\\"]/\\&/g; s/\t/\\t/g; s/.*/"&"/'; }
journalctl --sync 2>/dev/null
lines=$(journalctl -q --no-pager -o cat -n {{ lines }} "_SYSTEMD_INVOCATION_ID=$run" | cut -b 1-{{ width }} | text | paste -s -d ,)

# Two runs of this at once must not lose a line.
exec 9>"$folder/.lock" && flock 9 || exit 75
file=$folder/$unit.jsonl
{
    tail -n {{ keep - 1 }} -- "$file" 2>/dev/null
    printf '{"at":%d,"result":%s,"status":%s,"lines":[%s]}\n' "$(date +%s)" \
        "$(printf '%s\n' "$result" | text)" "$(printf '%s\n' "$status" | text)" "$lines"
} >"$file.new" && sync -- "$file.new" && mv -T -- "$file.new" "$file"
