// SPDX-License-Identifier: Apache-2.0
#pragma once
// A checkpoint as its file formats see it: named tensors as (encoding, shape, bytes), and a configuration. No floats, no codecs.

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "nibble/core/file.hpp"
#include "nibble/core/json.hpp"
#include "nibble/core/tensor.hpp"

namespace nibble::source {

/// One tensor of a checkpoint under its Hugging Face name.
struct tensor {
    std::string name;
    encoding type = encoding::f32;
    shape dims;
    std::uint32_t file = 0;    ///< index into checkpoint::files
    std::uint64_t offset = 0;  ///< first byte in that file
    std::uint64_t n_bytes = 0;
    std::string stored_type{};               ///< the format's own name of a type that has no encoding here; then no weight can be made of it
    bool plus_one_stored = false;            ///< GGUF keeps Gemma's norms with 1 already added
    std::vector<std::uint32_t> row_order{};  ///< GGUF permutes Llama's q and k: row i of the model is stored row row_order[i]
};

/// Where a checkpoint's bytes are, and what its config.json says.
struct checkpoint {
    std::vector<std::shared_ptr<const file>> files;
    std::vector<tensor> tensors;  ///< in the order in which mlc_llm's loader walks them (file by file, by first appearance)
    json config;
    std::string config_file;         ///< for messages; a GGUF's own path where the configuration comes from its metadata
    std::string format;              ///< "safetensors" or "gguf"
    error_list problems;             ///< faults that do not keep the headers from being read, to be reported together
    std::vector<std::string> notes;  ///< choices made, for the user

    /// Index by name; names are unique.
    [[nodiscard]] std::unordered_map<std::string_view, std::size_t> by_name() const {
        std::unordered_map<std::string_view, std::size_t> index;
        index.reserve(tensors.size());
        for (std::size_t i = 0; i < tensors.size(); ++i) index.emplace(tensors[i].name, i);
        return index;
    }

    /// Bytes [begin, end) of a tensor, mapped or in `scratch`. Errors: as file::bytes, with the tensor's name.
    [[nodiscard]] result<bytes_view> bytes(const tensor& t, std::uint64_t begin, std::uint64_t end, std::vector<std::byte>& scratch) const {
        auto view = files[t.file]->bytes(t.offset + begin, end - begin, scratch);
        if (!view) return fail(std::move(view.error()).in_tensor(t.name));
        return view;
    }
};

/// How a checkpoint is read.
struct open_options {
    file_access access = file_access::map;
    bool follow_links = false;     ///< allow symbolic links that leave the checkpoint's folder (a Hugging Face cache is allowed as it is)
    std::string weights{};         ///< one weight file to take instead of looking in the folder (mlc_llm's --source)
    std::string weights_folder{};  ///< the folder of the weights and their index, where it is not that of config.json
};

}  // namespace nibble::source
