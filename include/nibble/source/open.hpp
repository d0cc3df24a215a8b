// SPDX-License-Identifier: Apache-2.0
#pragma once
// The list of checkpoint formats: one entry for each, tried by the name of what is given.

#include "nibble/source/folder.hpp"

namespace nibble::source {

/// Opens whatever checkpoint `where` names: a .gguf file, a .safetensors file, or a Hugging Face folder.
[[nodiscard]] inline result<checkpoint> open_checkpoint(const std::string& where, const open_options& options = {}) { return open_folder(where, options); }

}  // namespace nibble::source
