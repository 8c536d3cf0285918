#!/bin/sh
# Makes the certificates of the TLS tests in a folder: make_certs.sh DIR.
#   ca       an authority            other-ca    one that nobody trusts
#   server   localhost, 127.0.0.1    server2     two.test, *.wild.test
#   expired  localhost, of yesterday self        localhost, signed by itself
#   foreign  localhost, of other-ca  client      of a client called alice
#   revoked  client mallory          revoked-server localhost
#   sub      an authority of ca      deep        client of sub, with sub in it
# ca.crl revokes what is called so, sub.crl nothing; all.crl is both, with sub revoked, too;
# old.crl has expired, early.crl is of tomorrow, other.crl is of other-ca.
# Each is NAME.pem with NAME.key; locked.key is server.key under the password
# "secret"; chain.pem is server.pem and ca.pem.
set -e
cd "$1"

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out "$1.key"; }

authority() {
	key "$1"
	openssl req -new -x509 -key "$1.key" -out "$1.pem" -days 30 -subj "/CN=$1" \
		-addext basicConstraints=critical,CA:TRUE
}

# NAME AUTHORITY DAYS SUBJECT NAMES
issue() {
	key "$1"
	openssl req -new -key "$1.key" -subj "$4" -out "$1.csr"
	echo "subjectAltName=$5" >"$1.ext"
	openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -set_serial "0x$(openssl rand -hex 8)" \
		-days "$3" -extfile "$1.ext" -out "$1.pem"
}

# AUTHORITY FILE
revoke() { openssl ca -config "$1.cnf" -keyfile "$1.key" -cert "$1.pem" -revoke "$2"; }

# AUTHORITY FILE DAYS_OR_TIMES
list() {
	authority=$1 file=$2
	shift 2
	openssl ca -config "$authority.cnf" -keyfile "$authority.key" -cert "$authority.pem" -gencrl -out "$file" "$@"
}

{
	authority ca
	authority other-ca
	issue server ca 30 /CN=localhost DNS:localhost,IP:127.0.0.1,IP:::1
	issue server2 ca 30 /CN=two.test 'DNS:two.test,DNS:*.wild.test'
	issue expired ca -1 /CN=localhost DNS:localhost
	issue foreign other-ca 30 /CN=localhost DNS:localhost,IP:127.0.0.1
	issue client ca 30 /O=players/CN=alice DNS:alice.test
	key self
	openssl req -new -x509 -key self.key -out self.pem -days 30 -subj /CN=localhost \
		-addext subjectAltName=DNS:localhost,IP:127.0.0.1
	issue revoked ca 30 /O=players/CN=mallory DNS:mallory.test
	issue revoked-server ca 30 /CN=localhost DNS:localhost,IP:127.0.0.1
	key sub
	openssl req -new -key sub.key -subj /CN=sub -out sub.csr
	echo basicConstraints=critical,CA:TRUE >sub.ext
	openssl x509 -req -in sub.csr -CA ca.pem -CAkey ca.key -set_serial 77 -days 30 -extfile sub.ext -out sub.pem
	issue deep sub 30 /O=players/CN=deep DNS:deep.test
	cat sub.pem >>deep.pem
	for authority in ca sub other-ca; do
		: >$authority.index
		printf '[ca]\ndefault_ca = d\n[d]\ndatabase = %s.index\ndefault_md = sha256\n' $authority >$authority.cnf
	done
	revoke ca revoked.pem
	revoke ca revoked-server.pem
	list ca ca.crl -crldays 30
	list ca old.crl -crl_lastupdate 20200101000000Z -crl_nextupdate 20200201000000Z
	list ca early.crl -crl_lastupdate 20400101000000Z -crl_nextupdate 20400201000000Z
	list sub sub.crl -crldays 30
	list other-ca other.crl -crldays 30
	revoke ca sub.pem
	list ca all.crl -crldays 30
	cat sub.crl >>all.crl
	openssl pkey -in server.key -aes256 -passout pass:secret -out locked.key
	cat server.pem ca.pem >chain.pem
} >log 2>&1 || {
	cat log >&2
	exit 1
}
