// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a model's parameters are made of: for each MLC parameter its name, shape, role and source tensors, per architecture.
// Names and order are those of mlc_llm's loaders; a family is one header of rows, an architecture one row of `architectures`.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
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
};

/// All parameters in mlc_llm's declaration order, and the source tensors that it leaves out on purpose.
struct mapping {
    std::vector<parameter> parameters;
    std::vector<std::string> unused;
    std::vector<std::string> unused_prefixes;  ///< whole sub-models left out (a vision tower); said to the user by `notes`
    std::vector<std::string> notes;            ///< what the user should know of this mapping

    /// A parameter that is one source tensor under its own name.
    void same(std::string name, shape dims, model::role as = role::other) { parameters.push_back({.name = name, .dims = dims, .sources = {name}, .kind = as}); }
    /// A Linear made of several sources, whose names are `prefix` + each of `parts`, one below the other.
    void fuse(std::string name, std::string_view prefix, std::initializer_list<std::string_view> parts, shape dims, model::role as = role::linear) {
        parameter p{.name = std::move(name), .dims = dims, .kind = as};
        for (const auto part : parts) p.sources.push_back(std::string(prefix).append(part));
        parameters.push_back(std::move(p));
    }
};

/// One row of the table of architectures (model/architectures.hpp).
struct architecture {
    std::string_view model_type;  ///< as in config.json
    mapping (*map)(class config&);
    bool per_tensor_fp8 = false;  ///< mlc_llm has e5m2_e5m2_f16 and e4m3_e4m3_f16* for it
};

/// A config.json whose numbers are checked as they are read. Problems are collected, so that one run reports them all;
/// a getter that meets one returns a harmless value.
class config {
public:
    config(json values, std::string file) : values_(std::move(values)), file_(std::move(file)) {}

    [[nodiscard]] const json& values() const { return values_; }
    [[nodiscard]] const std::string& file() const { return file_; }
    [[nodiscard]] const error_list& problems() const { return problems_; }

    [[nodiscard]] bool has(std::string_view key) const {
        const auto at = values_.find(key);
        return at != values_.end() && !at->is_null();
    }
    [[nodiscard]] std::string text(std::string_view key, std::string fallback = {}) const {
        return has(key) && values_[std::string(key)].is_string() ? values_[std::string(key)].get<std::string>() : fallback;
    }

    /// A dimension or count that must be there: an integer from `low` to 2^31 - 1.
    [[nodiscard]] std::uint64_t need(std::string_view key, std::uint64_t low = 1) {
        if (has(key)) return integer(key, low);
        problem("\"" + std::string(key) + "\" is missing");
        return low;
    }
    /// The same, with a value for when the key is absent or null.
    [[nodiscard]] std::uint64_t get(std::string_view key, std::uint64_t fallback, std::uint64_t low = 0) { return has(key) ? integer(key, low) : fallback; }
    [[nodiscard]] bool flag(std::string_view key, bool fallback) {
        if (!has(key)) return fallback;
        const auto& v = values_[std::string(key)];
        if (v.is_boolean()) return v.get<bool>();
        problem("\"" + std::string(key) + "\" is " + shown(v) + ", expected true or false");
        return fallback;
    }
    /// The number of layers: like need(), but bounded so that a false count cannot fill the memory with names.
    [[nodiscard]] std::uint64_t layers(std::string_view key) {
        const auto n = need(key);
        if (n <= max_layers) return n;
        problem("\"" + std::string(key) + "\" is " + std::to_string(n) + ", more than " + std::to_string(max_layers));
        return 1;
    }
    /// a / b where b must divide a.
    [[nodiscard]] std::uint64_t divide(std::string_view what, std::uint64_t a, std::uint64_t b) {
        if (b != 0 && a % b == 0) return a / b;
        problem(std::string(what) + ": " + std::to_string(a) + " is not a multiple of " + std::to_string(b));
        return 1;
    }
    void problem(std::string rule) {
        error e{errc::mismatch, std::move(rule), file_, {}, {}, "correct config.json or take it from the model's original repository"};
        problems_.push_back(std::move(e));
    }

    static constexpr std::uint64_t max_layers = 4096;

private:
    [[nodiscard]] static std::string shown(const json& v) { return v.dump().substr(0, 60); }

    std::uint64_t integer(std::string_view key, std::uint64_t low) {
        const auto& v = values_[std::string(key)];
        if (v.is_number_unsigned()) {
            const auto n = v.get<std::uint64_t>();
            if (n >= low && n <= 0x7FFFFFFF) return n;
        }
        problem("\"" + std::string(key) + "\" is " + shown(v) + ", expected an integer from " + std::to_string(low) + " to 2147483647");
        return low;
    }

    json values_;
    std::string file_;
    error_list problems_;
};

/// "model.layers.{}.x" with the number in place of {}.
[[nodiscard]] inline std::string at(std::string_view pattern, std::uint64_t number) {
    std::string name(pattern);
    if (const auto brace = name.find("{}"); brace != std::string::npos) name.replace(brace, 2, std::to_string(number));
    return name;
}

}  // namespace nibble::model
