#!/bin/sh
# Makes Sources/COnnxProto from schema/onnx.proto with protoc-c (Debian: protobuf-c-compiler).
#   schema/generate.sh          writes the files
#   schema/generate.sh --check  writes nothing; exit 1 if the committed files are not current
set -eu
cd "$(dirname "$0")/.."
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
protoc-c --proto_path=schema --c_out="$made" onnx.proto
for file in onnx.pb-c.c include/onnx.pb-c.h; do
  if [ "${1:-}" = --check ]; then
    cmp "$made/$(basename "$file")" "Sources/COnnxProto/$file"
  else
    cp "$made/$(basename "$file")" "Sources/COnnxProto/$file"
  fi
done
