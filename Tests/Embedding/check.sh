#!/bin/bash
# Builds the example app and looks at what it brings along.
#   check.sh MODEL.qm      prints the libraries that it links, its size with the Swift runtime
#                          linked in, and the time of one start with load and run
# Fails if it links anything but the Swift standard library, the C and C++ runtime and zlib, or if
# the dependencies of the tools are fetched.
set -euo pipefail
cd "$(dirname "$0")"
model=$(realpath "${1:?usage: check.sh MODEL.qm}")

swift build -c release --quiet
app=$(swift build -c release --show-bin-path)/EmbeddingExample
echo "links:"
ldd "$app" | awk '{print $1}' | sed 's,.*/,,' | sort | sed 's/^/  /'
foreign=$(ldd "$app" | awk '{print $1}' | sed 's,.*/,,' | grep -vE \
  '^(linux-vdso|ld-linux.*|lib(swift.*|dispatch|BlocksRuntime|c|m|z|gcc_s|stdc\+\+))\.so' || true)
if [ -n "$foreign" ]; then
  echo "links what an app must not need: $foreign" >&2
  exit 1
fi
if ldd "$app" | grep -q libFoundation; then
  echo "links Foundation" >&2
  exit 1
fi
if [ -e .build/checkouts/swift-argument-parser ]; then
  echo "fetches swift-argument-parser, which only the tools need" >&2
  exit 1
fi
"$app" "$model"

swift build -c release --quiet --static-swift-stdlib --scratch-path .build/static
static=$(swift build -c release --static-swift-stdlib --scratch-path .build/static --show-bin-path)
stripped=$(mktemp)
trap 'rm -f "$stripped"' EXIT
strip -o "$stripped" "$static/EmbeddingExample"
echo "stripped, with the Swift runtime inside: $(($(stat -c %s "$stripped") / 1024)) KiB"
chmod +x "$stripped"
runs=20
start=$(date +%s%N)
for _ in $(seq $runs); do "$stripped" "$model" >/dev/null; done
echo "start, load and one run: $((($(date +%s%N) - start) / runs / 1000)) µs"
