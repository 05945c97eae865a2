# What is wanted, and whether something is that.

# Reads the configuration. The first name is the one that an order's files are called by.
wish() {
    configured
    issuer=$(setting issuer) issued=$root/issued/$(setting issuer)
    wanted=$(settings name | sort -u) first=$(setting name)
    [ -n "$issuer" ] && [ -n "$first" ] || fail "$conf names no issuer or no name"
}
# PATH: the names in a certificate, one a line.
names_in() { openssl x509 -in "$1" -noout -ext subjectAltName 2>/dev/null | tr ',' '\n' | sed -n 's/^ *DNS://p' | sort -u; }
fingerprint() { openssl x509 -noout -fingerprint -sha256 2>/dev/null; }
# PATH: whether less than a third of a certificate's own lifetime is left. One that cannot be read is due.
due() {
    begin=$(date -d "$(openssl x509 -in "$1" -noout -startdate | sed 's/^[^=]*=//')" +%s) || return 0
    end=$(date -d "$(openssl x509 -in "$1" -noout -enddate | sed 's/^[^=]*=//')" +%s) || return 0
    [ $(((end - $(date +%s)) * 3)) -lt $((end - begin)) ]
}
# AUTHORITY PATH: whether a certificate leads to an authority by its own chain, whoever else is trusted here.
verified() { openssl verify -no-CApath -no-CAstore -partial_chain -CAfile "$1" -untrusted "$2" "$2" >/dev/null 2>&1; }
# FOLDER: whether what an issuer gave can be used: the key fits, the names are those that are wanted, it is not due.
good() {
    [ -s "$1/server.crt" ] && [ -s "$1/server.key" ] && [ -s "$1/ca.crt" ] || return 1
    [ "$(openssl x509 -in "$1/server.crt" -noout -pubkey 2>&1)" = "$(openssl pkey -in "$1/server.key" -pubout 2>&1)" ] || return 1
    [ "$(names_in "$1/server.crt")" = "$wanted" ] || return 1
    ! due "$1/server.crt" || return 1
    verified "$1/ca.crt" "$1/server.crt" || return 1
    [ "$issuer" != private ] || { [ -s "$ca/ca.key" ] && cmp -s -- "$ca/ca.crt" "$1/ca.crt"; }
}
# FROM TO MODE GROUP: whole or not at all, also after a power cut.
place() {
    install -o root -g "$4" -m "$3" -- "$1" "$2.new" && sync -- "$2.new" && mv -T -f -- "$2.new" "$2" && sync -- "${2%/*}"
}
# FOLDER: takes over what an issuer gave.
accept() {
    install -d -m 0700 -- "$root/issued" "$issued" || return 1
    for part in ca.crt server.key server.crt; do
        place "$1/$part" "$issued/$part" 0600 root || return 1
    done
}
