# A Postgres server for the tests, on the port given, until standard input ends: however the tests
# die, the pipe to them closes, and nothing is left behind.
#
# Prints `ready <folder>` when it listens, on 127.0.0.1 and on a socket in the folder, with TLS: the
# folder's ca.crt has signed its certificate, which names `localhost`. User and password are `weir`.
set -eu
port=$1
# A Ctrl-C is for the tests; the server ends after them.
trap '' INT TERM HUP
umask 077

server=$(command -v postgres || ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sort -V | tail -n 1)
if [ -z "$server" ]; then
  echo "no Postgres server is installed: run scripts/test, or apt-get install postgresql"
  exit 1
fi
# What is in PATH may be a link to where the other programs are.
bin=$(dirname "$(readlink -f "$server")")
dir=$(mktemp -d "${TMPDIR:-/tmp}/weir-postgres.XXXXXX")
cd "$dir"

fail() {
  echo "$1 failed: $(tail -n 5 log | tr '\n' ' ')"
  cd /
  rm -rf "$dir"
  exit 1
}

echo weir >password
"$bin/initdb" -D data -U weir -A scram-sha-256 --pwfile=password -E UTF8 --locale=C --no-sync \
  >log 2>&1 || fail initdb

elliptic="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
{
  openssl req -x509 $elliptic -keyout ca.key -out ca.crt -subj /CN=weir-tests -days 2
  openssl req $elliptic -keyout server.key -out server.csr -subj /CN=localhost
  echo subjectAltName=DNS:localhost >extensions
  openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
    -extfile extensions -out server.crt
  openssl req -x509 $elliptic -keyout other.key -out other.crt -subj /CN=nobody -days 2
} >log 2>&1 || fail openssl
chmod 755 . && chmod 644 ./*.crt

# Two roles that are admitted with TLS only, and without it only.
{
  echo 'hostssl all tls_only 127.0.0.1/32 scram-sha-256'
  echo 'hostnossl all plain_only 127.0.0.1/32 scram-sha-256'
  echo 'host all tls_only,plain_only all reject'
  cat data/pg_hba.conf
} >hba && mv hba data/pg_hba.conf

# A crash loses what no commit has waited for: nothing else writes it out in time.
"$bin/postgres" -D data -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$dir" \
  -c fsync=off -c wal_writer_delay=10s -c max_connections=200 -c ssl=on -c ssl_cert_file="$dir/server.crt" \
  -c ssl_key_file="$dir/server.key" >log 2>&1 &
pid=$!
attempts=0
until "$bin/pg_isready" -q -h "$dir" -p "$port" -d postgres; do
  attempts=$((attempts + 1))
  if [ "$attempts" -gt 600 ] || ! kill -0 "$pid" 2>/dev/null; then
    kill -QUIT "$pid" 2>/dev/null || true
    fail postgres
  fi
  sleep 0.05
done
echo "ready $dir"

cat >/dev/null
kill -QUIT "$pid" 2>/dev/null || true
wait "$pid" 2>/dev/null || true
cd /
rm -rf "$dir"
