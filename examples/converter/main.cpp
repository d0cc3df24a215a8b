// SPDX-License-Identifier: Apache-2.0
// A converter of one's own: `converter MODEL OUT` reads a Hugging Face folder or a .gguf file, gives parameters the names of another
// framework, chooses for each how it is stored, writes MLC shards with their index, and reads them back.
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/convert/parameter.hpp"
#include "nibble/source/open.hpp"

namespace {

// [policy]
/// What names begin with in Hugging Face's models, and here.
constexpr std::pair<std::string_view, std::string_view> prefixes[] = {
    {"model.layers.", "decoder.blocks."},
    {"model.embed_tokens.", "decoder.tokens."},
    {"model.norm.", "decoder.final_norm."},
    {"lm_head.", "decoder.logits."},
};

/// How a tensor is stored: the first rule whose part is in its name.
struct rule {
    std::string_view part;
    std::size_t codec;
    nibble::fit fit = nibble::fit::absmax;
    double least_error, most_error;  ///< that we expect of it, relative to the weights
};
constexpr rule rules[] = {
    {"norm", nibble::codec_index<nibble::q0f16>, {}, 0, 1e-3},
    {"embed_tokens", nibble::codec_index<nibble::q0f16>, {}, 0, 1e-3},
    {"down_proj", nibble::codec_index<nibble::q4f16_1>, nibble::fit::mse, 0.05, 0.11},  // the one that suffers most from three bits
    {"mlp.", nibble::codec_index<nibble::q3f16_1>, nibble::fit::mse, 0.12, 0.22},
    {"", nibble::codec_index<nibble::q4f16_1>, nibble::fit::absmax, 0.06, 0.13},
};
// [/policy]

const rule& rule_of(std::string_view name) {
    const rule* r = rules;
    while (name.find(r->part) == name.npos) ++r;
    return *r;
}

std::string renamed(const std::string& name) {
    for (const auto& [from, to] : prefixes) {
        if (name.starts_with(from)) return std::string(to) + name.substr(from.size());
    }
    return name;
}

// [write]
nibble::result<void> convert(const nibble::source::checkpoint& model, const std::string& where) {
    auto out = nibble::shard::writer::open(where, {.overwrite = true});
    if (!out) return nibble::pass(out);
    for (const auto& tensor : model.tensors) {
        const auto values = nibble::convert::read_values(model, tensor);
        if (!values) return nibble::fail(values.error());
        const auto& how = rule_of(tensor.name);
        auto written = nibble::convert::write_parameter(*out, renamed(tensor.name), tensor.dims, *values, how.codec, {.fit = how.fit});
        if (!written) return written;
    }
    auto done = out->finish();  // only now is there a folder of that name
    if (!done) return nibble::pass(done);
    std::printf("%s: %zu shards, %.2f bits a parameter\n", where.c_str(), done->shards.size(), done->bits_per_parameter);
    return {};
}
// [/write]

/// Reads the folder back: every parameter must be there, and as near to its source as its rule says.
nibble::result<void> check(const nibble::source::checkpoint& model, const std::string& where) {
    const auto folder = nibble::shard::open_folder(where);
    if (!folder) return nibble::fail(folder.error());
    if (!folder->problems.empty()) return nibble::fail(folder->problems.front());
    if (const auto wrong = nibble::shard::check_md5(*folder); !wrong.empty()) return nibble::fail(wrong.front());
    std::map<std::string, nibble::convert::stored_parameter> stored;
    for (auto& p : nibble::convert::stored_parameters(*folder)) stored.emplace(p.name, p);
    for (const auto& tensor : model.tensors) {
        const auto at = stored.find(renamed(tensor.name));
        if (at == stored.end()) return nibble::fail(nibble::error{nibble::errc::missing, "it was not written", where, renamed(tensor.name), {}, {}});
        const auto values = nibble::convert::read_values(model, tensor);
        const auto back = nibble::convert::read_parameter(*folder, at->second);
        if (!values) return nibble::fail(values.error());
        if (!back) return nibble::fail(back.error());
        double wrong = 0, all = 0;
        const auto k = tensor.dims.columns();
        for (std::uint64_t n = 0; n < tensor.dims.rows(); ++n) {
            for (std::uint64_t i = 0; i < k; ++i) {  // rows are stored in whole groups
                const auto value = static_cast<double>((*values)[n * k + i]);
                wrong += std::pow(static_cast<double>((*back)[n * (back->size() / tensor.dims.rows()) + i]) - value, 2);
                all += value * value;
            }
        }
        const auto& how = rule_of(tensor.name);
        const double error = all == 0 ? 0 : std::sqrt(wrong / all);
        std::printf("%-45s %-16s %.4f\n", at->first.c_str(), nibble::convert::codec_label(at->second.codec).c_str(), error);
        if (!(error >= how.least_error && error <= how.most_error))
            return nibble::fail(nibble::error{nibble::errc::mismatch, "its error is " + std::to_string(error), where, at->first, {}, {}});
    }
    return {};
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return std::fputs("usage: converter MODEL OUT\n", stderr), 2;
    const auto model = nibble::source::open_checkpoint(argv[1]);
    nibble::error_list problems;
    if (!model) problems.push_back(model.error());
    if (model) problems = model->problems;
    if (problems.empty()) {
        if (auto done = convert(*model, argv[2]); !done) problems.push_back(done.error());
    }
    if (problems.empty()) {
        if (auto good = check(*model, argv[2]); !good) problems.push_back(good.error());
    }
    for (const auto& p : problems) std::fprintf(stderr, "converter: %s\n", p.message().c_str());
    return problems.empty() ? 0 : 1;
}
