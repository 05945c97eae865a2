# WAL for PostgreSQL in recovery, and what became of each question.

# NAME FILE PATH: one file of WAL, and what became of the question. pgBackRest's failures are all below 126, which PostgreSQL
# takes for "there is no such file" and promotes: here they end recovery.
wal() {
    file=$2 path=$3
    if [ "$broken" = segment ] && [ "$file" = "$(cat -- "$place/hidden" 2>/dev/null)" ]; then
        absent
    fi
    ahead=$place/ahead
    # Read ahead meanwhile: it is whole, or it is not there under its name.
    waited=0
    while [ -d "$ahead/$file.busy" ] && [ "$waited" -lt "$ahead_wait_ds" ]; do
        waited=$((waited + 1))
        sleep 0.1
    done
    if [ -f "$ahead/$file" ] && mv -T -- "$ahead/$file" "$path"; then got ahead; fi
    tried=0
    while :; do
        reader --pg1-path="$data" --no-archive-async --log-level-console=info archive-get "$file" "$path" >"$place/archive-get.new" 2>&1
        status=$?
        mv -T -- "$place/archive-get.new" "$place/archive-get.log"
        case $status in
        0) got ;;
        1) absent ;;
        esac
        tried=$((tried + 1))
        [ "$tried" -lt "$wal_tries" ] || break
        sleep "$wal_pause_s"
    done
    printf '%s failed %s %s\n' "$(now)" "$file" "$status" >>"$place/wal.log"
    exit 255
}

# [WORD]: PostgreSQL has the file.
got() {
    printf '%s got %s%s\n' "$(now)" "$file" "${1:+ $1}" >>"$place/wal.log"
    read_ahead
    answered=yes
    exit 0
}
# The repository says that it does not have the file.
absent() {
    printf '%s absent %s\n' "$(now)" "$file" >>"$place/wal.log"
    answered=yes
    exit 1
}

# Fetches the segments behind the one that PostgreSQL has now, beside its replay: each costs a round trip to S3. Not pgBackRest's
# asynchronous archive-get, which goes astray before 2.59 where a timeline ends. Whatever fails here leaves nothing, and is met and
# told when PostgreSQL itself asks for the file. A segment of another size than 16 MB is not counted on.
read_ahead() {
    case $file in *[!0-9A-F]*) return ;; esac
    [ "${#file}" = 24 ] && [ "$(stat -c %s -- "$data/$path" 2>/dev/null)" = 16777216 ] || return
    next=$file
    for _ in $ahead_segments; do
        behind "$next"
        [ ! -e "$ahead/$next" ] && mkdir -- "$ahead/$next.busy" 2>/dev/null || continue
        {
            reader --pg1-path="$data" --no-archive-async --log-level-console=off archive-get "$next" "$ahead/$next.new" &&
                mv -T -- "$ahead/$next.new" "$ahead/$next"
            rm -f -- "$ahead/$next.new"
            rmdir -- "$ahead/$next.busy"
        } </dev/null >/dev/null 2>&1 &
    done
}
# FILE: sets `next` to the segment behind it: 256 of them in each 4 GB of WAL.
behind() {
    low=$((0x${1#????????????????} + 1)) high=${1%????????}
    high=$((0x${high#????????} + low / 256))
    next=$(printf '%.8s%08X%08X' "$1" "$high" "$((low % 256))")
}
