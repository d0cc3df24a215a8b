// SPDX-License-Identifier: Apache-2.0
#pragma once
// The wire format of ONNX files: the one door to protozero. Reading is strict: each field's wire type, length and varints are checked,
// and what breaks a rule is known by its byte in the file. Field numbers are those of onnx/onnx.proto (IR version 10 to 13).

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include <protozero/pbf_reader.hpp>
#include <protozero/pbf_writer.hpp>

#include "nibble/core/bytes.hpp"
#include "nibble/core/result.hpp"

namespace nibble::onnx {

using protozero::pbf_writer;

/// Numbers of the fields that are read or written here.
namespace field {
namespace model {
enum : std::uint32_t { ir_version = 1, producer_name = 2, producer_version = 3, domain = 4, graph = 7, opset_import = 8, functions = 25 };
}
namespace opset {
enum : std::uint32_t { domain = 1, version = 2 };
}
namespace graph {
enum : std::uint32_t { node = 1, name = 2, initializer = 5, input = 11, output = 12, value_info = 13, sparse_initializer = 15 };
}
namespace node {
enum : std::uint32_t { input = 1, output = 2, name = 3, op_type = 4, attribute = 5, domain = 7 };
}
namespace attribute {
enum : std::uint32_t { name = 1, f = 2, i = 3, s = 4, t = 5, g = 6, floats = 7, ints = 8, strings = 9, tensors = 10, graphs = 11, type = 20 };
}
namespace tensor {
enum : std::uint32_t {
    dims = 1,
    data_type = 2,
    segment = 3,
    float_data = 4,
    int32_data = 5,
    string_data = 6,
    int64_data = 7,
    name = 8,
    raw_data = 9,
    double_data = 10,
    uint64_data = 11,
    external_data = 13,
    data_location = 14
};
}
namespace entry {  // of external_data
enum : std::uint32_t { key = 1, value = 2 };
}
namespace value_info {
enum : std::uint32_t { name = 1, type = 2 };
}
namespace type {
enum : std::uint32_t { tensor = 1 };
}
namespace tensor_type {
enum : std::uint32_t { element = 1, shape = 2 };
}
namespace shape {
enum : std::uint32_t { dim = 1, dim_value = 1, dim_param = 2 };
}
}  // namespace field

/// Values of AttributeProto.type.
enum class attribute_type : std::uint32_t {
    undefined = 0,
    f = 1,
    i = 2,
    s = 3,
    tensor = 4,
    graph = 5,
    floats = 6,
    ints = 7,
    strings = 8,
    tensors = 9,
    graphs = 10
};

/// A rule of the wire format that bytes broke; caught where a reader begins.
struct wire_fault {
    std::string rule;
    std::uint64_t at;  ///< byte in the file
};

/// The fields of one message, one after another: `while (m.next()) switch (m.number())`. Every getter throws wire_fault.
class message {
public:
    /// `at`: where these bytes are in the file.
    message(bytes_view bytes, std::uint64_t at) : reader_(reinterpret_cast<const char*>(bytes.data()), bytes.size()), bytes_(bytes), at_(at) {}

    [[nodiscard]] bool next() {
        field_begin_ = position();
        return guarded([&] { return reader_.next(); });
    }
    [[nodiscard]] std::uint32_t number() const { return reader_.tag(); }
    /// Byte in the file where the current field begins, with its tag.
    [[nodiscard]] std::uint64_t begin() const { return at_ + field_begin_; }
    /// Byte in the file of what is read next: after a getter or skip(), the end of the field.
    [[nodiscard]] std::uint64_t end() const { return at_ + position(); }

    [[nodiscard]] std::uint64_t varint() {
        need(protozero::pbf_wire_type::varint, "a number");
        return guarded([&] { return reader_.get_uint64(); });
    }
    [[nodiscard]] std::int64_t integer() { return static_cast<std::int64_t>(varint()); }
    [[nodiscard]] float f32() {
        need(protozero::pbf_wire_type::fixed32, "a 32-bit number");
        return guarded([&] { return reader_.get_float(); });
    }
    [[nodiscard]] bytes_view bytes() {
        need(protozero::pbf_wire_type::length_delimited, "a length and bytes");
        const auto view = guarded([&] { return reader_.get_view(); });
        return {reinterpret_cast<const std::byte*>(view.data()), view.size()};
    }
    [[nodiscard]] std::string text() {
        const auto view = bytes();
        return {reinterpret_cast<const char*>(view.data()), view.size()};
    }
    [[nodiscard]] message inner() {
        const auto view = bytes();
        return {view, at_ + static_cast<std::uint64_t>(view.data() - bytes_.data())};
    }
    /// Calls f(value) for each of a repeated number, packed or single.
    template <class F>
    void varints(F&& f) {
        if (reader_.wire_type() == protozero::pbf_wire_type::varint) {
            f(varint());
            return;
        }
        const auto view = bytes();
        const char* from = reinterpret_cast<const char*>(view.data());
        const char* const last = from + view.size();
        while (from != last) f(guarded([&] { return protozero::decode_varint(&from, last); }));
    }
    /// The same for f32.
    template <class F>
    void floats(F&& f) {
        if (reader_.wire_type() == protozero::pbf_wire_type::fixed32) {
            f(f32());
            return;
        }
        const auto view = bytes();
        if (view.size() % 4 != 0) throw wire_fault{"packed 32-bit numbers take " + std::to_string(view.size()) + " bytes", begin()};
        for (std::size_t i = 0; i < view.size(); i += 4) f(load<float>(view.data() + i));
    }
    void skip() {
        guarded([&] { reader_.skip(); });
    }
    /// Skips an element of a repeated field of numbers of `width` bytes (0: varints) and tells how many it holds.
    [[nodiscard]] std::uint64_t count(std::size_t width) {
        if (reader_.wire_type() != protozero::pbf_wire_type::length_delimited) {
            skip();
            return 1;
        }
        const auto view = bytes();
        if (width != 0) return view.size() / width;
        std::uint64_t n = 0;
        for (const auto b : view) n += (b & std::byte{0x80}) == std::byte{0} ? 1 : 0;
        return n;
    }
    [[noreturn]] void fault(std::string rule) const { throw wire_fault{std::move(rule), begin()}; }

private:
    [[nodiscard]] std::uint64_t position() const { return bytes_.size() - reader_.length(); }

    void need(protozero::pbf_wire_type wanted, std::string_view what) const {
        if (reader_.wire_type() == wanted) return;
        fault("field " + std::to_string(number()) + " has wire type " + std::to_string(static_cast<unsigned>(reader_.wire_type())) + ", " + std::string(what) +
              " is expected");
    }
    template <class F>
    std::invoke_result_t<F> guarded(F&& f) const {
        try {
            return f();
        } catch (const protozero::varint_too_long_exception&) {
            throw wire_fault{"a number has more than 10 bytes", begin()};
        } catch (const protozero::unknown_pbf_wire_type_exception&) {
            throw wire_fault{"a field has a wire type that proto3 does not know (a group, or damaged bytes)", begin()};
        } catch (const protozero::end_of_buffer_exception&) {
            throw wire_fault{"a field is longer than what is left of its message", begin()};
        } catch (const protozero::invalid_tag_exception&) {
            throw wire_fault{"a field has a number that cannot be", begin()};
        } catch (const protozero::exception& e) {
            throw wire_fault{e.what(), begin()};
        }
    }

    protozero::pbf_reader reader_;
    bytes_view bytes_;
    std::uint64_t at_;
    std::uint64_t field_begin_ = 0;
};

}  // namespace nibble::onnx
