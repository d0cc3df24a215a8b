// SPDX-License-Identifier: Apache-2.0
#pragma once
// An MLC weight folder written record by record, for converters that decide themselves what goes into it. The same records in the same
// order give the shards and the index that mlc_llm makes of them.

#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "nibble/core/md5.hpp"
#include "nibble/shard/manifest.hpp"
#include "nibble/shard/output.hpp"

namespace nibble::shard {

/// How a folder is written.
struct writer_options {
    std::uint64_t shard_bytes = default_shard_bytes;
    bool overwrite = false;    ///< replace a finished conversion
    bool legacy_index = true;  ///< write ndarray-cache.json beside tensor-cache.json, for WebLLM up to 0.2.79
};

/// The folder appears with finish(), as a whole. Where that is not reached, as after an error, nothing is left behind. In memory are the
/// records of the shard that is being filled.
class writer {
public:
    /// Errors: as output_folder::open.
    [[nodiscard]] static result<writer> open(const std::string& where, const writer_options& options = {}) {
        auto folder = output_folder::open(where, options.overwrite);
        if (!folder) return pass(folder);
        writer w(std::make_unique<state>(std::move(*folder), options));
        if (auto cleared = w.state_->folder.clear_work(); !cleared) return pass(cleared);
        return w;
    }

    /// Adds a record. `values` are its elements in memory, little-endian; f32 is stored as bf16, as everywhere in these folders. `n_values` is how
    /// many values of the model the record stands for; of a parameter with several records (codes and scales) one has them all, the
    /// others 0. Errors: refused (the name is taken, or there is no value), unsupported (a type that has no name in the index), mismatch
    /// (bytes that the shape does not describe), no_space, io.
    [[nodiscard]] result<void> add(std::string name, encoding type, const shape& dims, bytes_view values, std::uint64_t n_values) {
        auto& s = *state_;
        const auto refuse = [&](errc code, std::string rule) { return fail(error{code, std::move(rule), s.folder.final_path().string(), name, {}, {}}); };
        if (dtype_text(type) == "?") return refuse(errc::unsupported, "the folder has no records of type " + std::string(info(type).name));
        if (const auto n = checked_bytes(dims, type); n != values.size())
            return refuse(errc::mismatch, std::to_string(values.size()) + " bytes are no " + std::string(dtype_text(type)) + " " + dims.text());
        if (values.empty()) return refuse(errc::refused, "a record needs at least one value, its shape is " + dims.text());
        if (!s.names.insert(name).second) return refuse(errc::refused, "the folder has a record of this name already");

        record r{name, dims, type, dims.elements() * stored_bytes(type), 0, false};
        s.done.n_parameters += 1;
        s.done.parameter_bytes += static_cast<double>(values.size());
        s.n_values += n_values;
        auto& stored = s.waiting[std::move(name)];
        stored.resize(r.n_bytes);
        if (type == encoding::f32) {
            for (std::uint64_t i = 0; i < dims.elements(); ++i) store(stored.data() + 2 * i, f32_to_shard_bf16(load<float>(values.data() + 4 * i)));
        } else {
            std::memcpy(stored.data(), values.data(), values.size());
        }
        s.packing.add(std::move(r));
        return write_shards(s.packing.emitted());
    }

    /// Writes what is pending and the index, and gives the folder its name; returns what the index says. Errors: no_space, io. Nothing may
    /// be added afterwards.
    [[nodiscard]] result<manifest> finish() {
        auto& s = *state_;
        s.done.shards = s.packing.finish();
        if (auto written = write_shards(s.done.shards); !written) return pass(written);
        for (std::size_t i = 0; i < s.done.shards.size(); ++i) s.done.shards[i].md5 = s.sums[i];
        if (s.n_values != 0) s.done.bits_per_parameter = s.done.parameter_bytes * 8 / static_cast<double>(s.n_values);
        std::vector<std::string> shards;
        for (const auto& f : s.done.shards) shards.push_back(f.path);
        std::vector<std::string> indices;
        for (const auto& [name, text] : index_files(s.done, s.options.legacy_index)) {
            if (auto written = s.folder.write_file(name, text); !written) return pass(written);
            indices.push_back(name);
        }
        if (auto published = s.folder.publish(shards, indices); !published) return pass(published);
        s.published = true;
        return s.done;
    }

private:
    struct state {
        state(output_folder f, const writer_options& o) : folder(std::move(f)), options(o), packing(o.shard_bytes) {}
        state(const state&) = delete;
        state& operator=(const state&) = delete;
        ~state() {
            if (!published) folder.abandon();
        }

        output_folder folder;
        writer_options options;
        packer packing;
        manifest done;
        std::uint64_t n_values = 0;
        std::unordered_set<std::string> names;
        std::unordered_map<std::string, std::vector<std::byte>> waiting;  ///< by the name of a record whose shard is not written yet
        std::vector<std::string> sums;                                    ///< md5 of the shards that are written
        bool published = false;
    };

    explicit writer(std::unique_ptr<state> s) : state_(std::move(s)) {}

    /// Writes those of the shards that are not written yet.
    result<void> write_shards(const std::vector<shard_file>& shards) {
        auto& s = *state_;
        while (s.sums.size() < shards.size()) {
            const auto& f = shards[s.sums.size()];
            auto out = output_file::create(s.folder.work(), f.path, f.n_bytes);
            if (!out) return pass(out);
            md5 sum;
            for (const auto& r : f.records) {
                const auto at = s.waiting.find(r.name);
                sum.update(at->second);
                if (auto written = out->write(at->second); !written) return written;
                s.waiting.erase(at);
            }
            if (auto finished = out->finish(); !finished) return finished;
            s.sums.push_back(sum.hex());
        }
        return {};
    }

    std::unique_ptr<state> state_;
};

}  // namespace nibble::shard
