# What became of a guarded change, and with `keep` the word that it stays. Set before: id state ask. Prints `none`, `armed`,
# `kept` or `reverted`; after `reverted` what was put back, and `reverting` while that is not finished.
LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
dir=$state/deadman/$id
[ -d "$dir" ] || { echo none; exit; }
case $ask in
keep)
    if ln -s kept "$dir/decision" 2>/dev/null; then
        sync
        if [ "$(head -n 1 "$state/lock/holder" 2>/dev/null)" = "$id" ]; then rm -rf -- "$state/lock"; fi
        forget_timer
    fi
    ;;
revert) /bin/sh "$dir/revert" ;;
esac
case $(readlink "$dir/decision") in
kept) echo kept ;;
reverted) if [ -e "$dir/finished" ]; then echo reverted && cat "$dir/report"; else echo reverting; fi ;;
*) echo armed ;;
esac
