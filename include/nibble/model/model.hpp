// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a model's parameters are made of: for each MLC parameter its name, shape, role and source tensors, per architecture.
// Names and order are those of mlc_llm's loaders; a family is one header of rows, an architecture one row of `architectures`.

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nibble/core/json.hpp"
#include "nibble/core/result.hpp"
#include "nibble/core/tensor.hpp"

namespace nibble::model {

/// What a parameter is to a quantization scheme, which decides by it whether and in which layout to quantize.
enum class role : std::uint8_t {
    other,         ///< norms, biases, gates, convolutions: cast only
    linear,        ///< weight [N, K] of a Linear
    final_linear,  ///< the Linear that makes the logits
    embedding,     ///< table [V, H]
    experts        ///< stacked expert weights [E, N, K]
};

/// One parameter of the MLC model: the rows of `sources` one after another, then changed as the flags say.
struct parameter {
    std::string name;                    ///< MLC's name, with its ".weight" or ".bias"
    shape dims;                          ///< as MLC declares it
    std::vector<std::string> sources{};  ///< Hugging Face tensor names, concatenated on axis 0 (stacking is the same bytes)
    model::role kind = model::role::other;
    bool transpose = false;                  ///< the source is [K, N] (gpt2's Conv1D)
    bool plus_one = false;                   ///< one is added, in the source's own type (Gemma's norms)
    bool keep_f32 = false;                   ///< float32 whatever the model's type (gpt_neox's MLP biases)
    std::vector<std::uint32_t> row_order{};  ///< row i of the result is row row_order[i] of the concatenation; empty: as is
    bool plus_one_in_f32 = false;            ///< with plus_one: in float32 instead, rounded once to the model's type (Qwen 3.5's norms)
    bool free_rows = false;                  ///< MLC leaves dims[0] (the vocabulary) open: what the source has is right, dims[0] is config.json's
};

/// All parameters in the order in which mlc_llm's loader maps them, and the source tensors that it leaves out on purpose.
struct mapping {
    std::string model_type{};  ///< the row of `architectures` that made it
    std::vector<parameter> parameters;
    std::vector<std::string> unused;           ///< mlc_llm's explicit set: these do not count in BitsPerParam
    std::vector<std::string> unused_prefixes;  ///< whole sub-models left out (a vision tower), counted like any other tensor
    std::vector<std::string> notes;            ///< what the user should know of this mapping
};

/// A config.json whose numbers are checked as they are read. Problems are collected, so that one run reports them all;
/// a getter that meets one returns a harmless value.
class config {
public:
    config(json values, std::string file) : values_(std::move(values)), file_(std::move(file)) {}

    [[nodiscard]] const json& values() const { return values_; }
    [[nodiscard]] const std::string& file() const { return file_; }
    [[nodiscard]] const error_list& problems() const { return problems_; }

    /// From here on keys are read from the object under `key` ("": the top level); what it lacks is looked for at the top level
    /// only if `layered`.
    void enter(std::string_view key, bool layered) {
        inner_ = key;
        layered_ = layered;
    }
    /// The value of a key, or nothing if it is absent or null.
    [[nodiscard]] const json* find(std::string_view key) const {
        if (!inner_.empty()) {
            const auto scope = values_.find(inner_);
            if (scope != values_.end()) {
                const auto at = scope->find(key);
                if (at != scope->end()) return at->is_null() ? nullptr : &*at;
            }
            if (!layered_) return nullptr;
        }
        const auto at = values_.find(key);
        return at == values_.end() || at->is_null() ? nullptr : &*at;
    }
    [[nodiscard]] bool has(std::string_view key) const { return find(key) != nullptr; }
    [[nodiscard]] bool has_object(std::string_view key) const {
        const auto* v = find(key);
        return v != nullptr && v->is_object();
    }
    [[nodiscard]] std::string text(std::string_view key, std::string fallback = {}) const {
        const auto* v = find(key);
        return v != nullptr && v->is_string() ? v->get<std::string>() : fallback;
    }

    /// A dimension or count that must be there: an integer from `low` to 2^31 - 1.
    [[nodiscard]] std::uint64_t need(std::string_view key, std::uint64_t low = 1) {
        if (has(key)) return integer(key, low);
        problem(named(key) + " is missing");
        return low;
    }
    /// The same, with a value for when the key is absent or null.
    [[nodiscard]] std::uint64_t get(std::string_view key, std::uint64_t fallback, std::uint64_t low = 0) { return has(key) ? integer(key, low) : fallback; }
    /// The same, where 0 means absent too, as mlc_llm's own defaults do.
    [[nodiscard]] std::uint64_t get_nonzero(std::string_view key, std::uint64_t fallback) {
        const auto n = get(key, 0);
        return n == 0 ? fallback : n;
    }
    [[nodiscard]] bool flag(std::string_view key, bool fallback) {
        const auto* v = find(key);
        if (v == nullptr) return fallback;
        if (v->is_boolean()) return v->get<bool>();
        problem(named(key) + " is " + shown(*v) + ", expected true or false");
        return fallback;
    }
    /// The number of layers (`fallback` 0: it must be there), bounded so that a false count cannot fill the memory with names.
    [[nodiscard]] std::uint64_t layers(std::string_view key, std::uint64_t fallback = 0) {
        return bounded(key, fallback == 0 ? need(key) : get(key, fallback, 1), max_layers);
    }
    /// The number of experts of each of `n_layers` layers, bounded for the same reason.
    [[nodiscard]] std::uint64_t experts(std::string_view key, std::uint64_t n_layers) {
        return bounded(key, need(key), std::min<std::uint64_t>(max_layers, max_expert_tensors / n_layers));
    }
    /// a / b where b must divide a.
    [[nodiscard]] std::uint64_t divide(std::string_view what, std::uint64_t a, std::uint64_t b) {
        if (b != 0 && a % b == 0) return a / b;
        problem(std::string(what) + ": " + std::to_string(a) + " is not a multiple of " + std::to_string(b));
        return 1;
    }
    void problem(std::string rule, std::string remedy = "correct config.json or take it from the model's original repository") {
        problems_.push_back({errc::mismatch, std::move(rule), file_, {}, {}, std::move(remedy)});
    }

    static constexpr std::uint64_t max_layers = 4096;
    static constexpr std::uint64_t max_expert_tensors = 1 << 17;  // DeepSeek-V3 has 61 * 256

private:
    [[nodiscard]] static std::string shown(const json& v) {
        return v.is_structured() ? v.type_name() : v.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 60);
    }
    [[nodiscard]] std::string named(std::string_view key) const { return "\"" + (inner_.empty() ? std::string() : inner_ + ".") + std::string(key) + "\""; }

    std::uint64_t integer(std::string_view key, std::uint64_t low) {
        const auto* v = find(key);
        if (v->is_number_unsigned() || (v->is_number_integer() && v->get<std::int64_t>() >= 0)) {  // a JSON made by a program is signed
            const auto n = v->get<std::uint64_t>();
            if (n >= low && n <= 0x7FFFFFFF) return n;
        }
        problem(named(key) + " is " + shown(*v) + ", expected an integer from " + std::to_string(low) + " to 2147483647");
        return low;
    }
    std::uint64_t bounded(std::string_view key, std::uint64_t n, std::uint64_t high) {
        if (n <= high) return n;
        problem(named(key) + " is " + std::to_string(n) + ", more than " + std::to_string(high));
        return 1;
    }

    json values_;
    std::string file_;
    std::string inner_;  // the key of the object that is read, empty for the top level
    bool layered_ = false;
    error_list problems_;
};

/// One row of the table of architectures (model/architectures.hpp).
struct architecture {
    std::string_view model_type;  ///< as in config.json
    mapping (*map)(config&);
    bool per_tensor_fp8 = false;  ///< mlc_llm has e5m2_e5m2_f16 and e4m3_e4m3_f16* for it
};

/// "model.layers.{}.x" with the number in place of {}.
[[nodiscard]] inline std::string at(std::string_view pattern, std::uint64_t number) {
    std::string name(pattern);
    if (const auto brace = name.find("{}"); brace != std::string::npos) name.replace(brace, 2, std::to_string(number));
    return name;
}

}  // namespace nibble::model
