# This server's own authority, for `issuer=private`.

# Days. Short, because the timer renews it: a key that leaks is worth nothing soon.
private_days=90
# Days. Clients pin it, so it must outlive the server.
authority_days=3650

# BEFORE LINES: the lines as one, each after a prefix, as openssl.cnf wants lists.
listed_as() { printf '%s\n' "$2" | sed "s/^/$1/" | paste -s -d , | sed 's/,/, /g'; }
# How both certificates are made.
authority_cnf() {
    cat <<END
[req]
prompt = no
distinguished_name = subject
[subject]
CN = $(setting common_name)
[authority_name]
CN = Seawall private CA
OU = $(setting common_name)
[authority]
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
# It can sign for these domains and for nothing else, so that trusting it is no risk to anybody's other connections.
nameConstraints = critical, $(listed_as 'permitted;DNS:' "$(settings domain)"), excluded;IP:0.0.0.0/0.0.0.0, excluded;IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0
[server]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $(listed_as DNS: "$(settings name)")
END
}
# What a person does who wants a new one.
how_to_renounce() {
    say "remove $ca and $root/issued/private${copy:+ here and $copy in the bucket} for a new CA, whose $tls/ca.crt every client then needs"
}
# FILE: a new key in it.
new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>&1; }
# The authority's own certificate, made once.
sign_itself() {
    sed 's/^distinguished_name = .*/distinguished_name = authority_name/' "$work/openssl.cnf" >"$work/authority.cnf" &&
        openssl req -x509 -new -config "$work/authority.cnf" -extensions authority -key "$ca/ca.key" -sha256 \
            -set_serial "0x$(openssl rand -hex 16)" -days "$authority_days" -out "$work/ca.crt" 2>&1
}
order_private() {
    authority_cnf >"$work/openssl.cnf"
    install -d -m 0700 -- "$ca" || return 1
    # Never by itself: every client has pinned it.
    if [ ! -s "$ca/ca.key" ] && [ -s "$ca/ca.crt" ]; then
        say "the private CA's key $ca/ca.key is gone, and nobody can make the same one again. Put it back; or $(how_to_renounce)" | tee "$work/said"
        return 1
    fi
    if [ ! -s "$ca/ca.key" ]; then
        new_key "$work/ca.key" && place "$work/ca.key" "$ca/ca.key" 0600 root || return 1
    fi
    if [ ! -s "$ca/ca.crt" ]; then
        sign_itself && place "$work/ca.crt" "$ca/ca.crt" 0600 root || return 1
    fi
    new=$work/new
    mkdir -p -- "$new" && cp -- "$ca/ca.crt" "$new/ca.crt" && new_key "$new/server.key" &&
        openssl req -new -config "$work/openssl.cnf" -key "$new/server.key" -out "$work/server.csr" 2>&1 &&
        openssl x509 -req -in "$work/server.csr" -CA "$ca/ca.crt" -CAkey "$ca/ca.key" -sha256 -days "$private_days" \
            -set_serial "0x$(openssl rand -hex 16)" -extfile "$work/openssl.cnf" -extensions server -out "$new/server.crt" 2>&1 || return 1
    openssl verify -CAfile "$ca/ca.crt" "$new/server.crt" 2>&1 || {
        say "the private CA of this server may not sign for these names: $(how_to_renounce)" | tee "$work/said"
        return 1
    }
    accept "$new"
}
