// SPDX-License-Identifier: Apache-2.0
#pragma once
// A message put together from pieces whose sizes are known before their bytes: protobuf writes a message's length before the message,
// and weights are neither held in memory nor made twice for that.

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "nibble/core/file.hpp"
#include "nibble/onnx/protobuf.hpp"

namespace nibble::onnx {

/// Takes the next bytes of an output.
using sink = std::function<result<void>(bytes_view)>;
/// Gives exactly the bytes that were promised to a sink, in order.
using producer = std::function<result<void>(const sink&)>;

/// A message or a file in the making.
class assembly {
public:
    [[nodiscard]] std::uint64_t n_bytes() const { return n_bytes_; }

    /// Fields written by f(pbf_writer&).
    template <class F>
    void fields(F&& f) {
        if (pieces_.empty() || !std::holds_alternative<std::string>(pieces_.back())) pieces_.emplace_back(std::string());
        auto& text = std::get<std::string>(pieces_.back());
        const auto before = text.size();
        pbf_writer writer(text);
        f(writer);
        n_bytes_ += text.size() - before;
    }
    /// Bytes [begin, end) of a file as they are.
    void copy(const std::shared_ptr<const file>& from, std::uint64_t begin, std::uint64_t end) {
        if (begin == end) return;
        if (!pieces_.empty()) {  // neighbours are one piece
            if (auto* last = std::get_if<span>(&pieces_.back()); last != nullptr && last->from == from && last->end == begin) {
                last->end = end;
                n_bytes_ += end - begin;
                return;
            }
        }
        pieces_.emplace_back(span{from, begin, end});
        n_bytes_ += end - begin;
    }
    /// n bytes that are made when they are written.
    void make(std::uint64_t n, producer f) {
        pieces_.emplace_back(made{n, std::move(f)});
        n_bytes_ += n;
    }
    /// Padding to a multiple of `alignment`.
    void align(std::uint64_t alignment) {
        if (const auto over = n_bytes_ % alignment; over != 0) append(std::string(alignment - over, '\0'));
    }
    /// The tag and length of a field of n bytes, which follow.
    void open(std::uint32_t number, std::uint64_t n) {
        std::string head;
        protozero::add_varint_to_buffer(&head, (std::uint64_t{number} << 3) | 2u);
        protozero::add_varint_to_buffer(&head, n);
        append(std::move(head));
    }
    /// A field that is another message.
    void message(std::uint32_t number, assembly inner) {
        open(number, inner.n_bytes());
        const auto others = inner.n_bytes() - inner.n_text();
        for (auto& piece : inner.pieces_) {
            if (auto* text = std::get_if<std::string>(&piece))
                append(std::move(*text));
            else
                pieces_.push_back(std::move(piece));
        }
        n_bytes_ += others;
    }

    /// Writes all pieces. Errors: those of the sink, of the files and of the producers; mismatch, where a producer breaks its promise.
    [[nodiscard]] result<void> write(const sink& to) const {
        std::vector<std::byte> scratch;
        for (const auto& piece : pieces_) {
            if (const auto* text = std::get_if<std::string>(&piece)) {
                if (auto w = to(std::as_bytes(std::span(*text))); !w) return w;
            } else if (const auto* s = std::get_if<span>(&piece)) {
                for (std::uint64_t at = s->begin; at < s->end; at += stretch) {
                    auto bytes = s->from->bytes(at, std::min(stretch, s->end - at), scratch);
                    if (!bytes) return pass(bytes);
                    if (auto w = to(*bytes); !w) return w;
                }
            } else {
                const auto& m = std::get<made>(piece);
                std::uint64_t left = m.n;
                const sink counted = [&](bytes_view bytes) -> result<void> {
                    if (bytes.size() > left) return fail(errc::mismatch, "more bytes were made than announced");
                    left -= bytes.size();
                    return to(bytes);
                };
                if (auto w = m.f(counted); !w) return w;
                if (left != 0) return fail(errc::mismatch, std::to_string(left) + " bytes fewer were made than announced");
            }
        }
        return {};
    }

private:
    static constexpr std::uint64_t stretch = 1 << 22;
    struct span {
        std::shared_ptr<const file> from;
        std::uint64_t begin, end;
    };
    struct made {
        std::uint64_t n;
        producer f;
    };

    void append(std::string text) {
        n_bytes_ += text.size();
        if (!pieces_.empty()) {
            if (auto* last = std::get_if<std::string>(&pieces_.back())) {
                *last += text;
                return;
            }
        }
        pieces_.emplace_back(std::move(text));
    }
    [[nodiscard]] std::uint64_t n_text() const {
        std::uint64_t n = 0;
        for (const auto& piece : pieces_) {
            if (const auto* text = std::get_if<std::string>(&piece)) n += text->size();
        }
        return n;
    }

    std::vector<std::variant<std::string, span, made>> pieces_;
    std::uint64_t n_bytes_ = 0;
};

}  // namespace nibble::onnx
