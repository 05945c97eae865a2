# CANDIDATE LIVE QUESTION: asks PostgreSQL what is wrong with a pg_hba.conf, before it goes by it.
#
# PostgreSQL reads the file only where its setting `hba_file` says. So the candidate stands there for the moment of one
# question, without a reload: every login is still judged by the rules that are loaded. Whatever the answer is, and also
# when this is stopped, the old file is back in its place at the end.
candidate=$1 live=$2 question=$3 before=$1.before
back() {
    rm -f -- "$candidate.asked"
    if [ -e "$before" ]; then mv -T -- "$before" "$live"; else rm -f -- "$live"; fi
}
if [ -e "$live" ]; then cp -a -T -- "$live" "$before" || exit 73; fi
trap back EXIT
trap 'exit 130' HUP INT TERM
cp -a -T -- "$candidate" "$candidate.asked" && mv -T -- "$candidate.asked" "$live" || exit 73
errors=$(runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d "dbname=postgres port=5432 connect_timeout=5" -c "$question") || exit
[ -z "$errors" ] || {
    echo "PostgreSQL would not take this file: $errors" >&2
    exit 1
}
