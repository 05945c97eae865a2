# Puts back what a guarded change found: files first, then the services take them up. Stored on the host's disk before
# the change and run by a timer that a reboot does not lose, or at once by the change itself when a step fails.
# Set before: id state, and the functions of `folders.sh`; the calls of `again` and `finished` follow.
LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
umask 077
dir=$state/deadman/$id before=$state/preimages/$id journal=$state/journal/$id.jsonl report=$dir/report
# One of two decides, once: this, or the login that proved the change. A decision that was cut short is gone on with.
# Where it stays, whoever said so may have been cut off before the timer was gone.
ln -s reverted "$dir/decision" 2>/dev/null || [ "$(readlink "$dir/decision")" = reverted ] || {
    forget_timer
    exit 0
}
[ ! -e "$dir/finished" ] || exit 0
# Steps that still run would change again what is put back here.
[ "${1:-}" = inside ] || systemctl stop "seawall-apply-$id.service" 2>/dev/null
true >"$report"
# N: the file or folder of step N as it was; in a user's folder as that user.
back() {
    target=$(cat "$before/$1.path") new=${target%/*}/.seawall-back-$1
    who=$(keeper "$target") || {
        echo "$who"
        return 77
    }
    if [ "$who" = root ]; then set -- "$1"; else set -- "$1" as "$who"; fi
    kept=$before/$1
    shift
    if [ -e "$kept.absent" ]; then
        if "$@" test -d "$target" && "$@" test ! -L "$target"; then "$@" rmdir -- "$target"; else "$@" rm -f -- "$target"; fi
    elif [ -e "$kept.access" ]; then
        read -r owner mode <"$kept.access" || return
        [ "$who" != root ] || { [ ! -L "$target" ] && chown -h -- "$owner" "$target"; } || return
        "$@" chmod -- "$mode" "$target"
    elif [ "$who" != root ]; then
        if [ -L "$kept.before" ]; then
            as "$who" ln -sfT -- "$(readlink -- "$kept.before")" "$target"
        else
            facts=$(stat -c '%a %s' -- "$kept.before") &&
                theirs "$who" "$target" "$(id -gn -- "$who")" "${facts% *}" "${facts#* }" <"$kept.before"
        fi
    else
        cp -a -T -- "$kept.before" "$new" && { [ -L "$new" ] || sync -- "$new"; } && mv -T -- "$new" "$target"
    fi || {
        status=$?
        [ "$who" != root ] || rm -f -- "$new"
        return "$status"
    }
}
# shellcheck disable=SC2012 # the names are numbers, of our own making
for n in $(ls -- "$before" 2>/dev/null | sed -n 's/\.path$//p' | sort -rn); do
    if back "$n" >>"$dir/output" 2>&1; then how=back; else how=failed; fi
    printf '%s %s\n' "$how" "$(cat "$before/$n.path")" >>"$report"
done
sync
# SECONDS ARGV...
again() {
    limit=$1
    shift
    if timeout -k 5 "$limit" "$@" >>"$dir/output" 2>&1 </dev/null; then how=ran; else how=failed; fi
    printf '%s %s\n' "$how" "$*" >>"$report"
}
finished() {
    printf '{"at":"%s","event":"reverted"}\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>"$journal"
    true >"$dir/finished"
    sync
    if [ "$(head -n 1 "$state/lock/holder" 2>/dev/null)" = "$id" ]; then rm -rf -- "$state/lock"; fi
    forget_timer
}
