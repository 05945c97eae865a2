# What is there and what is served, one fact a line. Arguments: ISSUER TARGET CREDENTIALS PASS [UNIT PORT]...
# TARGET is empty where no copy is wanted. Prints no secret and no key.
root=/etc/seawall tls=/etc/seawall/tls state=/var/lib/seawall/certificate
issuer=$1 target=$2 credentials=$3 pass=$4
shift 4
for path in "$root" "$tls" "$tls/server.crt" "$tls/server.key" "$tls/ca.crt" "$root/ca" "$root/ca/ca.key"; do
    if access=$(stat -c '%a %U:%G' -- "$path" 2>/dev/null); then echo "access $path $access"; fi
done
command -v openssl >/dev/null || { echo "openssl missing"; exit; }
# Everything about a certificate at once: a start of openssl costs more than all that it says.
facts() {
    subject='' signer='' begin='' end='' names='' key=''
    while IFS= read -r line; do
        case $line in
        subject=*) subject=${line#*=} ;;
        issuer=*) signer=${line#*=} ;;
        notBefore=*) begin=${line#*=} ;;
        notAfter=*) end=${line#*=} ;;
        *DNS:*) names=$line ;;
        -----*) key=$key$line ;;
        *' '*) ;;
        *) key=$key$line ;;
        esac
    done <<TEXT
$(openssl x509 -noout -subject -issuer -nameopt RFC2253 -startdate -enddate -ext subjectAltName -pubkey 2>/dev/null)
TEXT
}
who() { printf '%s' "$subject, signed by $signer" | tr -d '\000-\037'; }
# The first certificate of a text.
first() {
    body=${1#*-----BEGIN CERTIFICATE-----}
    printf '%s' "${body%%-----END CERTIFICATE-----*}"
}
now=$(date +%s)
crt=$tls/server.crt ours=
if [ -s "$crt" ]; then
    ours=$(first "$(cat -- "$crt")")
    for record in "$root"/issued/*/server.crt; do
        if cmp -s -- "$record" "$crt"; then record=${record%/*} && echo "issuer ${record##*/}"; fi
    done
    facts <"$crt"
    echo "is $(who)"
    printf '%s\n' "$names" | tr ',' '\n' | sed -n 's/^ *DNS:/name /p' | sort -u
    if [ -n "$key" ] && [ "$key" = "$(openssl pkey -in "$tls/server.key" -pubout 2>/dev/null | tr -d '\n')" ]; then echo "key fits"; fi
    if cmp -s -- "$root/issued/$issuer/ca.crt" "$tls/ca.crt" && openssl verify -no_check_time -no-CApath -no-CAstore \
        -partial_chain -CAfile "$tls/ca.crt" -untrusted "$crt" "$crt" >/dev/null 2>&1; then echo "authority fits"; fi
    begin=$(date -d "$begin" +%s) end=$(date -d "$end" +%s)
    echo "days $(((end - now) / 86400))"
    if [ $(((end - now) * 3)) -lt $((end - begin)) ]; then echo "due yes"; fi
fi
if [ -s "$root/ca/ca.crt" ]; then
    facts <"$root/ca/ca.crt"
    echo "authority_days $((($(date -d "$end" +%s) - now) / 86400))"
fi
while [ $# -ge 2 ]; do
    seen=$(timeout 4 openssl s_client -starttls postgres -connect "127.0.0.1:$2" </dev/null 2>&1)
    case $seen in
    *'BEGIN CERTIFICATE'*)
        if [ -n "$ours" ] && [ "$(first "$seen")" = "$ours" ]; then
            echo "serves $1 the certificate"
        else
            # Not over a pipe: what it finds would stay behind in its own shell.
            facts <<TEXT
$seen
TEXT
            echo "serves $1 another: $(who)"
        fi
        ;;
    *'connect:errno='*) echo "serves $1 nothing" ;;
    *) echo "serves $1 no TLS" ;;
    esac
    shift 2
done
if [ -n "$target" ]; then
    if [ ! -s "$credentials" ] || [ ! -s "$pass" ]; then
        echo "copy waits"
    elif [ "$(cat -- "$state/stored" 2>/dev/null)" = "$({ printf '%s\n' "$target" && sha256sum <"$pass" && cd "$root" && find issued ca acme -type f -exec sha256sum {} + 2>/dev/null | sort; } | sha256sum)" ]; then
        echo "copy stored"
    else
        echo "copy missing"
    fi
    if [ -s "$state/uncopied" ]; then echo "uncopied $(head -n 1 "$state/uncopied")"; fi
fi
if [ -s "$state/failures" ]; then
    tail -n 1 "$state/failures" | { read -r at why && echo "failed $(date -u -d "@$at" '+%Y-%m-%d %H:%M UTC'): $why"; }
fi
# Names with where their records are to lead; the passwords in the same files stay there.
for account in "$root"/acme/acme-dns/*.json; do
    domain=${account##*/}
    leads_to=$(tr -d '\000-\037' <"$account" 2>/dev/null | sed -n 's/.*"fulldomain" *: *"\([^"]*\)".*/\1/p')
    if [ -n "$leads_to" ]; then echo "cname _acme-challenge.${domain%.json} $leads_to"; fi
done 2>/dev/null
exit 0
