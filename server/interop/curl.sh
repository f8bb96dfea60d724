#!/bin/sh
# curl against roverd: curl.sh HOST:PORT
set -u

url=http://$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=

# want WHAT GOT WANT
want() {
	[ "$2" = "$3" ] || { echo "curl: $1: got $2, want $3" >&2; failed=yes; }
}

get() { curl --silent --show-error --max-time 20 "$@"; }
# out FORMAT ARGS..., for what curl tells besides the body
out() { format=$1; shift; get --output /dev/null --write-out "$format" "$@"; }

get --output "$dir/page" "$url/"
grep -q '<title>' "$dir/page" || { echo "curl: the page has no title" >&2; failed=yes; }
size=$(wc -c <"$dir/page")
want 'GET /' "$(out '%{http_code} %{http_version} %{size_download} %{content_type}' "$url/")" "200 1.1 $size text/html; charset=utf-8"

get --compressed --dump-header "$dir/head" --output "$dir/inflated" "$url/"
cmp "$dir/page" "$dir/inflated" >&2 || failed=yes
want 'the encoding of GET / --compressed' "$(tr -d '\r' <"$dir/head" | sed -n 's/^content-encoding: *//Ip')" gzip

want 'HEAD /' "$(get --head "$url/" | tr -d '\r' | sed -n '1s/^HTTP[^ ]* //p; s/^content-length: *//Ip' | tr '\n' ' ')" "200 OK $size "
want 'HEAD /, then GET / on the same connection' "$(out '%{http_code} %{num_connects} ' --head "$url/" --next \
	--silent --output /dev/null --write-out '%{http_code} %{num_connects} %{size_download}' "$url/")" "200 1 200 0 $size"

etag=$(get --head "$url/" | tr -d '\r' | sed -n 's/^etag: *//Ip')
want 'GET / that has it already' "$(out '%{http_code} %{size_download}' --header "If-None-Match: $etag" "$url/")" '304 0'

want 'four paths on one connection' "$(out '%{http_code} %{num_connects} ' \
	"$url/" --output /dev/null "$url/app.js" --output /dev/null "$url/state" --output /dev/null "$url/healthz")" '200 1 200 0 200 0 200 0 '
want 'GET /nowhere' "$(out '%{http_code}' "$url/nowhere")" 404
want 'GET /ws' "$(out '%{http_code}' "$url/ws")" 426
want 'POST, and then GET' "$(out '%{http_code} ' --data body "$url/state" --next \
	--silent --output /dev/null --write-out '%{http_code}' "$url/state")" '405 200'
want 'POST of a megabyte, for which curl expects 100 Continue' \
	"$(head -c 1200000 /dev/zero | out '%{http_code}' --data-binary @- "$url/state")" 405

get --http1.0 --output "$dir/old" "$url/"
cmp "$dir/page" "$dir/old" >&2 || failed=yes
want 'HTTP/1.0' "$(out '%{http_code} %{num_connects} ' --http1.0 "$url/" --output /dev/null "$url/")" '200 1 200 1 '
want 'the state' "$(get "$url/state" | grep -c '"op":"state"')" 1

[ -z "$failed" ] || exit 1
curl --version | sed -n '1s/^\([^ ]* [^ ]*\).*/ok \1/p'
