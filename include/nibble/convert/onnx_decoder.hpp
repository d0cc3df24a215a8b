// SPDX-License-Identifier: Apache-2.0
#pragma once
// A checkpoint's decoder as an ONNX graph for Transformers.js: inputs, outputs and cache shapes as its loader wants them, attention as
// ONNX Runtime's GroupQueryAttention, and no node that its WebAssembly build lacks (GatherBlockQuantized is one: a tied embedding is looked
// up in the quantized output layer by plain operators).

#include <deque>

#include "nibble/convert/onnx_weights.hpp"
#include "nibble/convert/produce.hpp"
#include "nibble/model/facts.hpp"

namespace nibble::convert {

/// A dtype of Transformers.js: the suffix of its file, the type of activations, and the bits of weights (0: plain ones).
struct onnx_dtype {
    std::string_view name;
    std::string_view suffix;
    onnx::element activations;
    unsigned bits;
};
inline constexpr std::array onnx_dtypes{
    onnx_dtype{"fp32", "", onnx::element::f32, 0},         onnx_dtype{"fp16", "_fp16", onnx::element::f16, 0},
    onnx_dtype{"q8", "_quantized", onnx::element::f32, 8}, onnx_dtype{"q4", "_q4", onnx::element::f32, 4},
    onnx_dtype{"q4f16", "_q4f16", onnx::element::f16, 4},  onnx_dtype{"q2", "_q2", onnx::element::f32, 2},
    onnx_dtype{"q2f16", "_q2f16", onnx::element::f16, 2},
};
[[nodiscard]] constexpr const onnx_dtype* find_onnx_dtype(std::string_view name) {
    for (const auto& d : onnx_dtypes)
        if (d.name == name) return &d;
    return nullptr;
}
[[nodiscard]] inline std::string onnx_dtype_names() {
    std::string text;
    for (const auto& d : onnx_dtypes) text += (text.empty() ? "" : ", ") + std::string(d.name);
    return text;
}

/// The weights of a checkpoint as a graph asks for them. What is missing or of another shape is collected in problems().
class checkpoint_weights {
public:
    explicit checkpoint_weights(source::checkpoint checkpoint) {
        plan_.model = std::move(checkpoint);
        index_ = plan_.model.by_name();
    }
    checkpoint_weights(const checkpoint_weights&) = delete;
    checkpoint_weights& operator=(const checkpoint_weights&) = delete;

    [[nodiscard]] const source::checkpoint& checkpoint() const { return plan_.model; }
    [[nodiscard]] bool has(const std::string& tensor) const { return index_.contains(tensor); }
    [[nodiscard]] error_list& problems() { return plan_.problems; }
    [[nodiscard]] const std::vector<std::string>& notes() const { return plan_.notes; }

    /// A matrix [n, k], or a vector as a matrix [n, 1], made of the rows of tensors one after another.
    [[nodiscard]] matrix_source matrix(const std::string& name, shape dims, std::vector<std::string> tensors, bool plus_one = false) {
        for (const auto& t : tensors) used_.insert(t);
        model::parameter p{.name = name, .dims = dims, .sources = std::move(tensors)};
        p.plus_one = p.plus_one_in_f32 = plus_one;
        auto& planned = parameters_.emplace_back(planned_parameter{std::move(p), 0, {}});
        detail::find_sources(planned, plan_.model, index_, plan_);
        return {planned.rows(), planned.columns(), [this, &planned] { return std::make_unique<reader>(plan_, planned); },
                [this, &planned]() -> result<void> {
                    for (const auto i : planned.sources)
                        if (auto same = plan_.model.files[plan_.model.tensors[i].file]->check_unchanged(); !same) return same;
                    return {};
                },
                planned.of.sources.front()};
    }
    /// Tensors that no matrix was made of.
    [[nodiscard]] std::vector<const source::tensor*> unused() const {
        std::vector<const source::tensor*> list;
        for (const auto& t : plan_.model.tensors)
            if (!used_.contains(t.name)) list.push_back(&t);
        return list;
    }

private:
    class reader : public matrix_reader {
    public:
        reader(const plan& p, const planned_parameter& of) : rows_(p, of), columns_(of.columns()) {}
        result<void> rows(std::uint64_t begin, std::uint64_t n, float* out) override {
            for (std::uint64_t done = 0; done < n;) {
                auto run = rows_.rows(begin + done, n - done);
                if (!run) return pass(run);
                const auto values = run->n_rows * columns_;
                visit_float(run->type, [&]<class T>() {
                    if constexpr (sizeof(T) == 1) {
                        for (std::uint64_t i = 0; i < values; ++i) out[i] = to_f32(load<T>(run->data + i));
                    } else {
                        cpu::cast_row<cpu::default_arch>(reinterpret_cast<const T*>(run->data), values, out);
                    }
                });
                out += values;
                done += run->n_rows;
            }
            return {};
        }

    private:
        row_reader rows_;
        std::uint64_t columns_;
    };

    plan plan_;
    std::unordered_map<std::string_view, std::size_t> index_;
    std::unordered_set<std::string> used_;
    std::deque<planned_parameter> parameters_;
};

/// How a decoder's graph is made.
struct onnx_decoder_options {
    const onnx_dtype* dtype = nullptr;
    std::uint64_t block = 32;
    bool symmetric = true;
    std::int64_t accuracy_level = 0;
    std::uint64_t positions = 0;  ///< of the rope tables
};

/// Builds the graph of one decoder.
class decoder_graph {
public:
    decoder_graph(const model::decoder_facts& facts, checkpoint_weights& weights, const onnx_decoder_options& options,
                  std::shared_ptr<detail::parallel> threads)
        : d_(facts), w_(weights), o_(options), threads_(std::move(threads)), half_(options.dtype->activations == onnx::element::f16) {}

    [[nodiscard]] onnx::graph build() && {
        declare_inputs();
        count_keys();
        std::string residual = embedding();
        std::string delta;
        for (std::uint64_t i = 0; i < d_.sizes.layers; ++i) {
            layer_ = model::at("model.layers.{}.", i);
            auto h = delta.empty() ? norm(residual, "input_layernorm") : norm_of_sum(residual, delta, "input_layernorm");
            delta = attention(h, i);
            if (d_.sandwich) {
                delta = norm(delta, "post_attention_layernorm");
                h = norm_of_sum(residual, delta, "pre_feedforward_layernorm");
            } else {
                h = norm_of_sum(residual, delta, "post_attention_layernorm");
            }
            delta = mlp(h);
            if (d_.sandwich) delta = norm(delta, "post_feedforward_layernorm");
        }
        layer_ = "model.";
        logits(norm_of_sum(residual, delta, "norm"));
        return std::move(g_);
    }

private:
    using name = std::string;

    static constexpr const char* batch = "batch_size";
    [[nodiscard]] onnx::element type() const { return o_.dtype->activations; }
    [[nodiscard]] std::int64_t heads() const { return static_cast<std::int64_t>(d_.sizes.heads); }
    [[nodiscard]] std::int64_t kv_heads() const { return static_cast<std::int64_t>(d_.sizes.kv_heads); }
    [[nodiscard]] std::int64_t head_dim() const { return static_cast<std::int64_t>(d_.sizes.head_dim); }
    /// Residuals that need the range of f32 stay f32 in a graph of f16.
    [[nodiscard]] bool widened() const { return half_ && d_.wide_residual; }
    [[nodiscard]] onnx::element residual_type() const { return widened() ? onnx::element::f32 : type(); }

    void declare_inputs() {
        g_.input("input_ids", onnx::element::i64, {batch, "sequence_length"});
        g_.input("attention_mask", onnx::element::i64, {batch, "total_sequence_length"});
        g_.input("num_logits_to_keep", onnx::element::i64, {});
        g_.output("logits", type(), {batch, "logits_length", static_cast<std::int64_t>(vocabulary())});
        // The loader takes the sizes of an empty cache from here: heads and their width must be numbers.
        for (std::uint64_t i = 0; i < d_.sizes.layers; ++i) {
            for (const char* part : {".key", ".value"}) {
                g_.input(model::at("past_key_values.{}", i) + part, type(), {batch, kv_heads(), "past_sequence_length", head_dim()});
                g_.output(model::at("present.{}", i) + part, type(), {batch, kv_heads(), "total_sequence_length", head_dim()});
            }
        }
    }
    /// What attention is told of the mask: the last valid key of each sequence, and how many keys there are.
    void count_keys() {
        const auto one = g_.int64s("one", {1});
        const auto valid = g_.add("ReduceSum", {"attention_mask", one}, "mask/sum", {{"keepdims", std::int64_t{0}}});
        last_key_ = cast(g_.add("Sub", {valid, one}, "mask/sub"), onnx::element::i32, "mask/seqlens_k");
        const auto shape = g_.add("Shape", {"attention_mask"}, "mask/shape");
        const auto total = g_.add("Gather", {shape, g_.int64("one_scalar", 1)}, "mask/total64", {{"axis", std::int64_t{0}}});
        n_keys_ = cast(total, onnx::element::i32, "mask/total_seq_len");
    }

    name cast(const name& x, onnx::element to, const name& out) { return g_.add("Cast", {x}, out, {{"to", static_cast<std::int64_t>(to)}}); }
    name narrowed(const name& x) { return widened() ? cast(x, type(), x + "_f16") : x; }
    name widened(const name& x) { return widened() ? cast(x, residual_type(), x + "_f32") : x; }
    name unsqueezed(const name& x) { return g_.add("Unsqueeze", {x, g_.int64s("last_axis", {-1})}, x + "_u"); }

    // Weights

    [[nodiscard]] name tensor(const name& local) const { return d_.prefix + local; }
    [[nodiscard]] name embedding_name() const { return tensor("model.embed_tokens.weight"); }
    /// Rows of the embedding: the checkpoint's, if it has more than config.json says.
    [[nodiscard]] std::uint64_t vocabulary() const {
        const auto& all = w_.checkpoint().tensors;
        const auto at = std::find_if(all.begin(), all.end(), [&](const auto& t) { return t.name == embedding_name(); });
        return at != all.end() && at->dims.rank() == 2 ? at->dims[0] : d_.sizes.vocab;
    }
    [[nodiscard]] matrix_source output_matrix() {
        return w_.matrix("lm_head.weight", {vocabulary(), d_.sizes.hidden}, {d_.tied ? embedding_name() : tensor("lm_head.weight")});
    }
    name vector(const name& local, std::uint64_t n, std::vector<name> tensors, bool plus_one, onnx::element as) {
        auto c = plain_constant(local, w_.matrix(local, {n}, std::move(tensors), plus_one), as);
        c.dims = {n};
        return g_.constant(std::move(c));
    }
    /// Inputs of MatMulNBits for a matrix; made once for each name.
    std::vector<name> quantized(const name& local, const std::function<matrix_source()>& source) {
        std::vector<name> names{local + "_Q" + std::to_string(o_.dtype->bits), local + "_scales"};
        if (!o_.symmetric) names.push_back(local + "_zero_points");
        if (!g_.has_constant(names[0])) {
            for (auto& c : nbits_constants(local, source(), {o_.dtype->bits, o_.block, o_.symmetric}, type(), threads_)) g_.constant(std::move(c));
        }
        return names;
    }
    name product(const name& x, const name& local, std::uint64_t n, std::uint64_t k, const std::function<matrix_source()>& source, const name& out) {
        if (o_.dtype->bits == 0) return g_.add("MatMul", {x, g_.constant(turned_constant(local, source(), type()))}, out);
        std::vector<name> inputs{x};
        for (auto& in : quantized(local, source)) inputs.push_back(std::move(in));
        std::vector<onnx::attribute> attributes{{"K", static_cast<std::int64_t>(k)},
                                                {"N", static_cast<std::int64_t>(n)},
                                                {"bits", std::int64_t{o_.dtype->bits}},
                                                {"block_size", static_cast<std::int64_t>(o_.block)}};
        if (o_.accuracy_level != 0) attributes.insert(attributes.begin() + 2, {"accuracy_level", o_.accuracy_level});
        return g_.add("MatMulNBits", std::move(inputs), out, std::move(attributes), onnx::microsoft);
    }
    /// A Linear of this layer, made of the rows of `parts`.
    name linear(const name& x, const name& module, std::vector<std::string> parts, std::uint64_t n, std::uint64_t k, bool biased) {
        const auto local = layer_ + module;
        const auto of = [&](const char* kind) {
            std::vector<name> tensors;
            for (const auto& p : parts) tensors.push_back(tensor(layer_ + p + kind));
            return tensors;
        };
        auto y = product(
            x, local + ".weight", n, k,
            [&] {
                return w_.matrix(local + ".weight", {n, k}, of(".weight"));
            },
            local + "/out");
        if (biased) y = g_.add("Add", {y, vector(local + ".bias", n, of(".bias"), false, type())}, local + "/out_b");
        return y;
    }

    // Parts of a layer

    name norm_weight(const name& module, std::uint64_t n, onnx::element as) {
        return vector(layer_ + module + ".weight", n, {tensor(layer_ + module + ".weight")}, d_.norm_plus_one, as);
    }
    /// x / sqrt(mean(x^2) + epsilon) * weight. Only a sum can be given to the operator that onnx.checker lets pass (SimplifiedLayerNormalization
    /// is in ONNX's own domain, which does not know it): x + x, whose norm is the same with four times the epsilon, bit for bit.
    name rms_norm(const name& x, const name& weight, const name& out) {
        return g_.add("SkipSimplifiedLayerNormalization", {x, x, weight}, out, {{"epsilon", 4 * static_cast<float>(d_.norm_epsilon)}}, onnx::microsoft);
    }
    name norm(const name& x, const name& module) { return rms_norm(x, norm_weight(module, d_.sizes.hidden, residual_type()), layer_ + module + "/out"); }
    /// The norm of residual + delta, which becomes the residual.
    name norm_of_sum(name& residual, const name& delta, const name& module) {
        const auto out = layer_ + module + "/out";
        const bool last = layer_ == "model.";
        std::vector<name> outputs{out};
        if (!last) outputs = {out, "", "", out + "_sum"};
        g_.add(onnx::node{"SkipSimplifiedLayerNormalization",
                          {residual, delta, norm_weight(module, d_.sizes.hidden, residual_type())},
                          outputs,
                          {{"epsilon", static_cast<float>(d_.norm_epsilon)}},
                          onnx::microsoft,
                          {}});
        residual = out + "_sum";
        return out;
    }

    name attention(const name& h, std::uint64_t i) {
        const auto& s = d_.sizes;
        const std::vector<std::string> parts = d_.qkv_fused ? std::vector<std::string>{"self_attn.qkv_proj"}
                                                            : std::vector<std::string>{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
        name q = linear(narrowed(h), "self_attn.qkv_proj", parts, s.qkv(), s.hidden, d_.qkv_biased);
        name k;
        name v;
        if (d_.qk_norm) {
            const auto sizes = g_.int64s("qkv_sizes", {static_cast<std::int64_t>(s.q()), static_cast<std::int64_t>(s.kv()), static_cast<std::int64_t>(s.kv())});
            const auto split = layer_ + "self_attn/";
            g_.add(onnx::node{"Split", {q, sizes}, {split + "q", split + "k", split + "v"}, {{"axis", std::int64_t{-1}}}, {}, {}});
            q = head_norm(split + "q", "self_attn.q_norm", s.q());
            k = head_norm(split + "k", "self_attn.k_norm", s.kv());
            v = split + "v";
        }
        const auto past = model::at("past_key_values.{}", i);
        const auto present = model::at("present.{}", i);
        const bool local = d_.windows[i] != 0 && d_.has_local_rope;
        const auto cosines = rope_table(local, true);
        const auto sines = rope_table(local, false);
        std::vector<onnx::attribute> attributes{{"do_rotary", std::int64_t{1}},
                                                {"kv_num_heads", kv_heads()},
                                                {"num_heads", heads()},
                                                {"rotary_interleaved", std::int64_t{0}},
                                                {"scale", static_cast<float>(d_.attention_scale)}};
        if (d_.windows[i] != 0) attributes.push_back({"local_window_size", static_cast<std::int64_t>(d_.windows[i])});
        if (d_.attention_softcap != 0) attributes.push_back({"softcap", static_cast<float>(d_.attention_softcap)});
        const auto out = g_.add(onnx::node{"GroupQueryAttention",
                                           {q, k, v, past + ".key", past + ".value", last_key_, n_keys_, cosines, sines},
                                           {layer_ + "self_attn/out", present + ".key", present + ".value"},
                                           std::move(attributes),
                                           onnx::microsoft,
                                           {}});
        return widened(linear(out, "self_attn.o_proj", {"self_attn.o_proj"}, s.hidden, s.q(), d_.output_biased));
    }
    /// A norm over each head's values.
    name head_norm(const name& x, const name& module, std::uint64_t width) {
        const auto by_head = g_.add("Reshape", {x, g_.int64s("by_head", {0, -1, head_dim()})}, x + "_heads");
        const auto normed = rms_norm(by_head, norm_weight(module, d_.sizes.head_dim, type()), x + "_norm");
        return g_.add("Reshape", {normed, g_.int64s("of_" + std::to_string(width), {0, -1, static_cast<std::int64_t>(width)})}, x + "_normed");
    }
    name rope_table(bool local, bool cosine) {
        const auto table = std::string(cosine ? "cos_cache" : "sin_cache") + (d_.has_local_rope ? local ? "_local" : "_global" : "");
        if (g_.has_constant(table)) return table;
        const auto& rope = local ? d_.local_rope : d_.rope;
        auto frequencies = model::rope_frequencies(rope, d_.rotary_dim, o_.positions);
        const auto half = frequencies.size();
        const auto n_bytes = o_.positions * half * detail::bytes_of(type());
        auto make = [=, frequencies = std::move(frequencies), positions = o_.positions, as = type(),
                     factor = rope.attention_factor](const onnx::sink& to) -> result<void> {
            std::vector<float> row(half);
            std::vector<std::byte> bytes(half * detail::bytes_of(as));
            for (std::uint64_t p = 0; p < positions; ++p) {
                for (std::size_t i = 0; i < half; ++i) {
                    const double angle = static_cast<double>(static_cast<float>(p) * frequencies[i]);
                    row[i] = static_cast<float>((cosine ? std::cos(angle) : std::sin(angle)) * factor);
                }
                detail::cast_to(as, row.data(), half, bytes.data());
                if (auto written = to(bytes); !written) return written;
            }
            return {};
        };
        return g_.constant({table, type(), {o_.positions, half}, n_bytes, std::move(make)});
    }

    name mlp(const name& wide) {
        const auto& s = d_.sizes;
        const auto h = narrowed(wide);
        name gate;
        name up;
        if (d_.qkv_fused) {
            const auto both = linear(h, "mlp.gate_up_proj", {"mlp.gate_up_proj"}, 2 * s.intermediate, s.hidden, d_.mlp_biased);
            const auto width = static_cast<std::int64_t>(s.intermediate);
            gate = g_.add(onnx::node{
                "Split", {both, g_.int64s("gate_up_sizes", {width, width})}, {layer_ + "mlp/gate", layer_ + "mlp/up"}, {{"axis", std::int64_t{-1}}}, {}, {}});
            up = layer_ + "mlp/up";
        } else {
            gate = linear(h, "mlp.gate_proj", {"mlp.gate_proj"}, s.intermediate, s.hidden, d_.mlp_biased);
            up = linear(h, "mlp.up_proj", {"mlp.up_proj"}, s.intermediate, s.hidden, d_.mlp_biased);
        }
        const auto gated = g_.add("Mul", {activated(gate), up}, layer_ + "mlp/gated");
        return widened(linear(gated, "mlp.down_proj", {"mlp.down_proj"}, s.hidden, s.intermediate, d_.mlp_biased));
    }
    name activated(const name& x) {
        if (d_.act == model::activation::silu) return g_.add("Mul", {x, g_.add("Sigmoid", {x}, layer_ + "mlp/sigmoid")}, layer_ + "mlp/silu");
        return g_.add("Gelu", {x}, layer_ + "mlp/gelu", {{"approximate", std::string(d_.act == model::activation::gelu_tanh ? "tanh" : "none")}});
    }

    // The ends

    name embedding() {
        name x;
        if (d_.tied && o_.dtype->bits != 0) {
            x = shared_embedding();
        } else {
            const auto local = std::string("model.embed_tokens.weight");
            x = g_.add("Gather",
                       {g_.constant(plain_constant(local, w_.matrix(local, {vocabulary(), d_.sizes.hidden}, {embedding_name()}), type())), "input_ids"},
                       "embed/out");
        }
        x = widened(x);
        if (d_.embedding_scale == 1) return x;
        const std::vector scale{static_cast<float>(d_.embedding_scale)};
        if (residual_type() == onnx::element::f32) return g_.add("Mul", {x, g_.numbers("embed_scale", onnx::element::f32, {}, scale)}, "embed/scaled");
        return g_.add("Mul", {x, g_.numbers("embed_scale", onnx::element::f16, {}, std::vector{to_f16(scale[0])})}, "embed/scaled");
    }
    /// Rows of the quantized output layer, decoded by plain operators.
    name shared_embedding() {
        const auto in = quantized("lm_head.weight", [&] { return output_matrix(); });
        const auto hidden = static_cast<std::int64_t>(d_.sizes.hidden);
        const auto block = static_cast<std::int64_t>(o_.block);
        const std::int64_t bits = o_.dtype->bits;
        const auto blocks = (hidden + block - 1) / block;
        const auto rows_of = [&](const name& packed, std::int64_t width, const name& out) {
            const auto flat = g_.add("Reshape", {packed, g_.int64s(out + "_shape", {static_cast<std::int64_t>(vocabulary()), width})}, out + "_flat");
            return cast(g_.add("Gather", {flat, "input_ids"}, out, {{"axis", std::int64_t{0}}}), onnx::element::i32, out + "_i32");
        };
        auto codes = unpacked(rows_of(in[0], blocks * block * bits / 8, "embed/rows"), bits, "embed/codes");
        codes = g_.add("Reshape", {codes, g_.int64s("embed/by_block", {0, 0, blocks, block})}, "embed/blocks");
        name zero;
        if (o_.symmetric) {
            zero = g_.numbers("embed/zero", onnx::element::i32, {}, std::vector<std::int32_t>{1 << (bits - 1)});
        } else {
            const auto width = (blocks * bits + 7) / 8;
            zero = unpacked(rows_of(in[2], width, "embed/zeros"), bits, "embed/zero_codes");
            zero = g_.add("Reshape", {zero, g_.int64s("embed/zero_shape", {0, 0, width * 8 / bits})}, "embed/zero_flat");
            if (width * 8 / bits != blocks) zero = cut(zero, blocks, "embed/zero_cut");
            zero = unsqueezed(zero);
        }
        const auto centred = cast(g_.add("Sub", {codes, zero}, "embed/centred"), type(), "embed/values");
        const auto scales = unsqueezed(g_.add("Gather", {in[1], "input_ids"}, "embed/scales", {{"axis", std::int64_t{0}}}));
        auto x =
            g_.add("Reshape", {g_.add("Mul", {centred, scales}, "embed/scaled_blocks"), g_.int64s("embed/row_shape", {0, 0, blocks * block})}, "embed/out");
        if (blocks * block != hidden) x = cut(x, hidden, "embed/cut");
        return x;
    }
    /// Codes of `bits` bits out of whole bytes: [.., n] becomes [.., n, 8 / bits].
    name unpacked(const name& bytes, std::int64_t bits, const name& out) {
        if (bits == 8) return bytes;
        const auto base = g_.numbers("embed/base", onnx::element::i32, {}, std::vector<std::int32_t>{1 << bits});
        std::vector<name> codes;
        name rest = bytes;
        for (std::int64_t i = 0; i < 8 / bits; ++i) {
            const auto part = out + "_" + std::to_string(i);
            if (i + 1 == 8 / bits) {
                codes.push_back(unsqueezed(g_.add("Identity", {rest}, part)));
                break;
            }
            const auto higher = g_.add("Div", {rest, base}, part + "_higher");
            codes.push_back(unsqueezed(g_.add("Sub", {rest, g_.add("Mul", {higher, base}, part + "_whole")}, part)));
            rest = higher;
        }
        return g_.add("Concat", codes, out, {{"axis", std::int64_t{-1}}});
    }
    name cut(const name& x, std::int64_t width, const name& out) {
        return g_.add("Slice", {x, g_.int64s("zero_start", {0}), g_.int64s(out + "_end", {width}), g_.int64s("axis_2", {2})}, out);
    }

    void logits(const name& final) {
        // The last num_logits_to_keep positions; of 0 all.
        const auto start = g_.add("Reshape", {g_.add("Neg", {"num_logits_to_keep"}, "keep/negative"), g_.int64s("one_value", {1})}, "keep/start");
        const auto end = g_.int64s("to_the_end", {std::numeric_limits<std::int64_t>::max()});
        const auto kept = narrowed(g_.add("Slice", {final, start, end, g_.int64s("one", {1})}, "keep/hidden"));
        const name out = d_.logit_softcap == 0 ? "logits" : "lm_head/out";
        if (o_.dtype->bits == 0 && d_.tied) {
            g_.add("MatMul", {kept, g_.add("Transpose", {"model.embed_tokens.weight"}, "lm_head/turned", {{"perm", std::vector<std::int64_t>{1, 0}}})}, out);
        } else {
            product(
                kept, "lm_head.weight", vocabulary(), d_.sizes.hidden, [&] { return output_matrix(); }, out);
        }
        if (d_.logit_softcap == 0) return;
        const auto cap = static_cast<float>(d_.logit_softcap);
        const auto c = half_ ? g_.numbers("logit_softcap", type(), {}, std::vector{to_f16(cap)}) : g_.numbers("logit_softcap", type(), {}, std::vector{cap});
        const auto squeezed = g_.add("Tanh", {g_.add("Div", {out, c}, "lm_head/divided")}, "lm_head/tanh");
        g_.add("Mul", {squeezed, c}, "logits");
    }

    const model::decoder_facts& d_;
    checkpoint_weights& w_;
    onnx_decoder_options o_;
    std::shared_ptr<detail::parallel> threads_;
    bool half_;
    onnx::graph g_;
    name layer_, last_key_, n_keys_;
};

}  // namespace nibble::convert
