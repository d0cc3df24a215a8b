#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The main job on input that ships with the project: builds nibble, packages a small, really trained language model for WebLLM, looks
# whether WebLLM would load the packages, converts it with some more schemes, verifies the results against their source, and prints what
# came out. Installs what is missing (cmake/setup.sh says what).
#   examples/demo.sh [MODEL] [OUTPUT]      a model of your own: a Hugging Face folder or a .gguf file
set -euo pipefail
cd "$(dirname "$0")/.."
model=${1:-examples/data/storyteller/storyteller-0.5m}
output=${2:-out/$(basename "${model%.gguf}")}

cmake/setup.sh
{ cmake --preset demo && cmake --build --preset demo; } >build-demo.log 2>&1 || { tail -n 40 build-demo.log >&2; exit 1; }
rm -f build-demo.log

nibble=build/demo/nibble
mkdir -p "$output"
for scheme in q4f16_1 q4f32_1 q3f16_1 q0f16; do
    "$nibble" convert "$model" -q "$scheme" -o "$output/$scheme" --overwrite --json >"$output/$scheme.convert.json"
    "$nibble" verify "$output/$scheme" --source "$model" --json >"$output/$scheme.verify.json"
done
"$nibble" convert "$model" -q q4f16_1 --fit mse -o "$output/q4f16_1-mse" --overwrite --json >"$output/q4f16_1-mse.convert.json"
"$nibble" verify "$output/q4f16_1-mse" --source "$model" --json >"$output/q4f16_1-mse.verify.json"
python3 examples/demo_table.py "$model" "$output" q4f16_1 q4f16_1-mse q4f32_1 q3f16_1 q0f16
rm -f "$output"/*.convert.json "$output"/*.verify.json

if [ -f "$model/tokenizer.json" ]; then
    printf '\nEverything that WebLLM loads, for GPUs with shader-f16 and without:\n\n'
    "$nibble" package "$model" --pair -o "$output/webllm" --overwrite
    for scheme in q4f16_1 q4f32_1; do
        "$nibble" doctor "$output/webllm/$scheme" | tail -n 1
    done
fi
