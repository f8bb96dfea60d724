#!/bin/sh
# The clients that PROTOCOL.md shows, as they stand there, against roverd: examples.sh HOST:PORT
set -u

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=

# example LANGUAGE prints the client in it.
example() { sed -n "/^\`\`\`$1\$/,/^\`\`\`\$/{/^\`\`\`/d;p}" "$(dirname "$0")/../PROTOCOL.md"; }

# drives COMMAND wants a client to get an ack for each of its ten commands or so, and nothing else.
drives() {
	"$@" >"$dir/said" 2>&1
	code=$?
	if [ $code != 0 ] || [ "$(grep -c ack "$dir/said")" -lt 5 ] || grep -q error "$dir/said"; then
		echo "examples: $*: exit code $code: $(cat "$dir/said")" >&2
		failed=yes
	fi
}

example python >"$dir/drive.py"
{ echo 'const WebSocket = require("ws");'; example js; echo 'drive(process.argv[2]);'; } >"$dir/drive.js"
drives /usr/bin/python3 "$dir/drive.py" "ws://$1/"
drives node "$dir/drive.js" "ws://$1/"

[ -z "$failed" ] || exit 1
echo "ok the examples of PROTOCOL.md"
