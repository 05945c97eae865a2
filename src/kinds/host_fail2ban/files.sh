# What fail2ban's files come to: `loads` prints the configuration that it would load, `catches` a line for each jail with the address that its
# filter finds in the line of a failed login, and `remember` keeps both for as long as nothing changes that they are made of.
# Arguments: loads|catches|remember JOURNAL [JAIL FILTER LINE]... In a line, {} is the beginning of sshd's newest login in the journal:
# so the filter is tried on how this host's sshd really writes. Without a login the jail is left out.
verb=$1 journal=$2
shift 2
folder=/var/lib/seawall/fail2ban
umask 077

seen=
newest_login() {
    seen=$(journalctl -q --no-pager -o short -n 1 --grep='^Accepted ' "$journal")
    case $seen in *': Accepted '*) seen=${seen%%: Accepted *} ;; *) seen= ;; esac
}
loads() { fail2ban-client -d; }
catches() {
    while [ $# -ge 3 ]; do
        case $3 in
        '{}'*) line=${seen:+"$seen${3#??}"} ;;
        *) line=$3 ;;
        esac
        if [ -n "$line" ]; then echo "$1 $(fail2ban-regex -o ip "$line" "$2")"; fi
        shift 3
    done
}
# Everything that the answers are made of: fail2ban's configuration and code, the Python below it, logs that come and go, the questions,
# and how sshd writes, but for the time and the process. A file is told by its size and the time of its last change, which only the kernel sets.
digest() {
    {
        find -L /etc/fail2ban /usr/lib/python3/dist-packages/fail2ban /usr/bin/fail2ban-client /usr/bin/fail2ban-regex \
            -name __pycache__ -prune -o -printf '%p %s %C@\n'
        ls -dL /usr/bin/python3* /var/log/fail2ban.log /var/log/postgresql/postgresql-*.log
        printf '%s\n' "${seen#???}" | tr -s '0-9 ' '0000000000 '
        printf '%s\n' "$@"
    } 2>/dev/null | sha256sum
}
remember() {
    mkdir -p "$folder" && now=$(digest "$@") && said=$("$what" "$@") && [ "$(digest "$@")" = "$now" ] || return
    printf '%s\n%s\n' "$now" "$said" >"$folder/$what.new" && mv -f -- "$folder/$what.new" "$folder/$what"
}

if [ "$verb" = remember ]; then
    # What cannot be remembered is asked again: no reason to fail.
    for what in loads catches; do
        remember "$@"
        newest_login
    done 2>/dev/null
    exit 0
fi
if [ "$verb" = catches ]; then newest_login; fi
if [ "$(head -n 1 -- "$folder/$verb" 2>/dev/null)" = "$(digest "$@")" ]; then
    tail -n +2 -- "$folder/$verb"
    exit
fi
"$verb" "$@"
