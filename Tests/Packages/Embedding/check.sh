#!/bin/bash
# Builds the app of the README and looks at what it brings along.
#   check.sh             runs it; prints the libraries that it links
#   check.sh --static    also its size with the Swift runtime inside, and the time of a start
# Fails if it is not the README's, links anything but the Swift standard library, the C and C++
# runtime and zlib, or if the dependencies of the tools are fetched for it.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "check.sh: $1" >&2; exit 1; }

if ! awk '/^```swift/ { inside = 1; next } /^```/ { if (inside) exit } inside' "$root/README.md" \
  | diff - "$root/Tests/Packages/Embedding/Sources/EmbeddingExample/main.swift"; then
  fail "the README and Sources/EmbeddingExample/main.swift differ"
fi

"$(cd "$root" && swift build -c release --show-bin-path)/qconvert" \
  "$root/fixtures/models/digits_mlp/model.onnx" "$work/out.qm" --bits 8 \
  --samples "$root/fixtures/models/digits_mlp/calib" --quiet > /dev/null

cd "$root/Tests/Packages/Embedding"
swift build -c release --quiet
app=$(swift build -c release --show-bin-path)/EmbeddingExample
if [ -e .build/checkouts/swift-argument-parser ]; then
  fail "swift-argument-parser, which only the tools need, was fetched"
fi
libraries=$(ldd "$app" | awk '{ print $1 }' | sed 's,.*/,,' | sort)
echo "links" $libraries
# libswift_* are the standard library and what it is made of; libdispatch runs its concurrency.
foreign=$(grep -vE \
  '^(linux-vdso|ld-linux.*|lib(swift.*|dispatch|BlocksRuntime|c|m|z|gcc_s|stdc\+\+))\.so' \
  <<< "$libraries" || true)
[ -z "$foreign" ] || fail "links $foreign"
class=$(cd "$work" && "$app")
[[ $class =~ ^[0-9]$ ]] || fail "found '$class', expected a digit"

[ "${1:-}" = --static ] || exit 0
swift build -c release --quiet --static-swift-stdlib --scratch-path .build/static
folder=$(swift build -c release --static-swift-stdlib --scratch-path .build/static --show-bin-path)
strip -o "$work/app" "$folder/EmbeddingExample"
echo "stripped, with the Swift runtime inside: $(($(stat -c %s "$work/app") / 1024)) KiB"
cd "$work"
runs=50
start=$(date +%s%N)
for _ in $(seq $runs); do ./app > /dev/null; done
echo "start, load and one run: $((($(date +%s%N) - start) / runs / 1000)) µs"
