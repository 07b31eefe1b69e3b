#!/bin/sh
# Makes what compose.yaml must not contain: a token for the admin plane and Grafana's password, in deploy/secrets/.
#
#   deploy/secrets.sh [FOLDER]
#
# Only the token's hash is kept: the token itself is shown once, here. Run it again to have new ones.
set -eu
umask 077
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"

secret() {
    head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'
}
token=$(secret)
hash=$(printf %s "$token" | sha256sum | cut -d ' ' -f 1)
cat >"$folder/gateway.toml" <<END
# The gateway's settings in the containers; \`gateway token\` makes further tokens.
[[auth.tokens]]
name = "operator"
sha256 = "$hash"
scopes = ["read", "write", "abort", "override"]
END
secret >"$folder/grafana-password"
# The containers' users read these two through a mount of the file alone; this folder stays closed to others.
chmod 644 "$folder/gateway.toml" "$folder/grafana-password"

echo "token of the admin planes, shown only now:"
echo "  export GATEWAY_ADMIN_TOKEN=$token"
echo "Grafana: user admin, password in $folder/grafana-password"
