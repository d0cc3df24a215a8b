// SPDX-License-Identifier: Apache-2.0
#pragma once
// The index of an MLC weight folder (tensor-cache.json, before 2025-09 ndarray-cache.json): named byte planes in numbered shards.
// Packing order, JSON bytes and number formats are those of tvm.contrib.tvmjs.dump_tensor_cache.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nibble/core/json.hpp"
#include "nibble/core/python_json.hpp"
#include "nibble/core/tensor.hpp"

namespace nibble::shard {

/// The names in use for the types of records.
struct dtype_name {
    encoding type;
    std::string_view name;
};
inline constexpr std::array dtype_names{dtype_name{encoding::u32, "uint32"},          dtype_name{encoding::f16, "float16"},
                                        dtype_name{encoding::f32, "float32"},         dtype_name{encoding::bf16, "bfloat16"},
                                        dtype_name{encoding::f8_e5m2, "float8_e5m2"}, dtype_name{encoding::f8_e4m3, "float8_e4m3fn"}};

[[nodiscard]] constexpr std::string_view dtype_text(encoding type) {
    for (const auto& d : dtype_names) {
        if (d.type == type) return d.name;
    }
    return "?";
}

/// Bytes that a value of this type takes in a shard: f32 is stored as bf16 ("f32-to-bf16").
[[nodiscard]] constexpr std::uint64_t stored_bytes(encoding type) { return type == encoding::f32 ? 2 : info(type).block_bytes; }

/// A stored array of a shard.
struct record {
    std::string name;
    shape dims;
    encoding type = encoding::u32;
    std::uint64_t n_bytes = 0;  ///< stored
    std::uint64_t offset = 0;   ///< in its shard
    bool raw = false;           ///< format "raw" (values as they are) rather than "f32-to-bf16"; differs for f32 only
};

/// The same for a record, whose format may be "raw".
[[nodiscard]] constexpr std::uint64_t stored_bytes(const record& r) { return r.raw ? info(r.type).block_bytes : stored_bytes(r.type); }

/// A shard and its records.
struct shard_file {
    std::string path;  ///< params_shard_N.bin
    std::uint64_t n_bytes = 0;
    std::vector<record> records;
    std::string md5;  ///< 32 hex digits of the whole file; empty until known
};

/// An index: what stands in each shard.
struct manifest {
    std::uint64_t n_parameters = 0;  ///< "ParamSize"
    double parameter_bytes = 0;      ///< "ParamBytes": f32 counts 4 bytes a value here
    double bits_per_parameter = 0;   ///< "BitsPerParam": against the number of values in the source
    std::vector<shard_file> shards;
};

inline constexpr std::uint64_t default_shard_bytes = 32u << 20;

/// Assigns records to shards in the order they are added. A record of half the limit or more, when it does not fit, becomes a
/// shard of its own at once, and what was pending keeps waiting for a later number.
class packer {
public:
    explicit packer(std::uint64_t limit = default_shard_bytes) : limit_(limit) {}

    /// Where a record was put is known only after finish().
    void add(record r) {
        if (pending_bytes_ + r.n_bytes >= limit_) {
            if (2 * r.n_bytes >= limit_) {
                r.offset = 0;
                emit({std::move(r)});
                return;
            }
            flush();
        }
        r.offset = pending_bytes_;
        pending_bytes_ += r.n_bytes;
        pending_.push_back(std::move(r));
    }
    /// The shards that are complete so far, in their order.
    [[nodiscard]] const std::vector<shard_file>& emitted() const { return shards_; }
    [[nodiscard]] std::vector<shard_file> finish() {
        flush();
        return std::move(shards_);
    }

private:
    void flush() {
        if (pending_bytes_ > 0) emit(std::move(pending_));
        pending_.clear();
        pending_bytes_ = 0;
    }
    void emit(std::vector<record> records) {
        shard_file s;
        s.path = "params_shard_" + std::to_string(shards_.size()) + ".bin";
        for (const auto& r : records) s.n_bytes += r.n_bytes;
        s.records = std::move(records);
        shards_.push_back(std::move(s));
    }

    std::uint64_t limit_;
    std::uint64_t pending_bytes_ = 0;
    std::vector<record> pending_;
    std::vector<shard_file> shards_;
};

/// Whether tensor-cache-b16.json goes with the folder: where any record is float32.
[[nodiscard]] inline bool has_f32(const manifest& m) {
    for (const auto& s : m.shards) {
        for (const auto& r : s.records) {
            if (r.type == encoding::f32) return true;
        }
    }
    return false;
}

/// The index's text, as Python's json.dump(..., indent=4) writes it. `b16` gives the variant in which float32 records are declared
/// as the bfloat16 that they are stored as.
[[nodiscard]] inline std::string to_json(const manifest& m, bool b16 = false) {
    std::string out = "{\n    \"metadata\": {\n        \"ParamSize\": " + std::to_string(m.n_parameters) +
                      ",\n        \"ParamBytes\": " + python_float(m.parameter_bytes) + ",\n        \"BitsPerParam\": " + python_float(m.bits_per_parameter) +
                      "\n    },\n    \"records\": [";
    bool first_shard = true;
    for (const auto& s : m.shards) {
        out += first_shard ? "\n" : ",\n";
        first_shard = false;
        out += "        {\n            \"dataPath\": " + python_string(s.path) +
               ",\n            \"format\": \"raw-shard\",\n            \"nbytes\": " + std::to_string(s.n_bytes) + ",\n            \"records\": [";
        bool first = true;
        for (const auto& r : s.records) {
            const bool as_b16 = b16 && r.type == encoding::f32;
            out += first ? "\n" : ",\n";
            first = false;
            out += "                {\n                    \"name\": " + python_string(r.name) + ",\n                    \"shape\": [";
            for (std::size_t d = 0; d < r.dims.rank(); ++d) out += (d == 0 ? "\n" : ",\n") + std::string(24, ' ') + std::to_string(r.dims[d]);
            out += (r.dims.rank() == 0 ? "]" : "\n                    ]");
            out += ",\n                    \"dtype\": \"" + std::string(as_b16 ? "bfloat16" : dtype_text(r.type)) + "\",\n                    \"format\": \"" +
                   (as_b16 || r.raw ? "raw" : "f32-to-bf16") + "\",\n                    \"nbytes\": " + std::to_string(r.n_bytes) +
                   ",\n                    \"byteOffset\": " + std::to_string(r.offset) + "\n                }";
        }
        out += s.records.empty() ? "]" : "\n            ]";
        out += ",\n            \"md5sum\": \"" + s.md5 + "\"\n        }";
    }
    out += m.shards.empty() ? "]\n}" : "\n    ]\n}";
    return out;
}

/// The index files of a complete folder, names and contents: under the name that WebLLM up to 0.2.79 reads too, if `legacy`.
[[nodiscard]] inline std::vector<std::pair<std::string, std::string>> index_files(const manifest& m, bool legacy) {
    std::vector<std::pair<std::string, std::string>> files;
    for (const bool b16 : {false, true}) {
        if (b16 && !has_f32(m)) continue;
        const std::string end = b16 ? "-cache-b16.json" : "-cache.json";
        files.emplace_back("tensor" + end, to_json(m, b16));
        if (legacy) files.emplace_back("ndarray" + end, files.back().second);
    }
    return files;
}

}  // namespace nibble::shard
