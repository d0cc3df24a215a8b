// SPDX-License-Identifier: Apache-2.0
#pragma once
// Kernels written in C++ that reads like the shader they become. An expr<T> is a piece of shader text with a type; a mistake in types is a
// C++ compile error with a sentence. An expression is evaluated where it is used: `let` fixes a value under a name.
//
//     shader s("add");
//     auto a = s.input<f32>("a", n);
//     auto y = s.output<f32>("y", n);
//     auto i = s.let("i", s.invocation());
//     s.if_(i < s.size("n"), [&] { y[i] = a[i] + 1.0F; });

#include <array>
#include <bit>
#include <cassert>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "nibble/core/number.hpp"
#include "nibble/gpu/tree.hpp"

namespace nibble::gpu {

using u32 = std::uint32_t;
using i32 = std::int32_t;
using f32 = float;
using f16 = nibble::f16;

/// A vector type of shaders: vec<f32, 4>.
template <class T, unsigned N>
struct vec {};
using u32x2 = vec<u32, 2>;
using u32x4 = vec<u32, 4>;
using i32x4 = vec<i32, 4>;
using f32x2 = vec<f32, 2>;
using f32x4 = vec<f32, 4>;
using f16x2 = vec<f16, 2>;
using f16x4 = vec<f16, 4>;

namespace detail {

template <class T>
struct scalar_of {};
template <>
struct scalar_of<u32> {
    static constexpr scalar id = scalar::u32;
};
template <>
struct scalar_of<i32> {
    static constexpr scalar id = scalar::i32;
};
template <>
struct scalar_of<f32> {
    static constexpr scalar id = scalar::f32;
};
template <>
struct scalar_of<f16> {
    static constexpr scalar id = scalar::f16;
};
template <>
struct scalar_of<bool> {
    static constexpr scalar id = scalar::boolean;
};

template <class T>
struct type_facts {
    using element = T;
    static constexpr unsigned width = 1;
};
template <class T, unsigned N>
struct type_facts<vec<T, N>> {
    using element = T;
    static constexpr unsigned width = N;
};

template <class>
inline constexpr bool never = false;

}  // namespace detail

/// A type that shaders compute with.
template <class T>
concept shader_value = requires {
    detail::scalar_of<typename detail::type_facts<T>::element>::id;
};

/// Scalar type and width of a shader type.
template <shader_value T>
using element_of = typename detail::type_facts<T>::element;
template <shader_value T>
inline constexpr unsigned width_of = detail::type_facts<T>::width;
template <shader_value T>
inline constexpr shader_type type_of{detail::scalar_of<element_of<T>>::id, static_cast<std::uint8_t>(width_of<T>)};
/// vec<T, N>, or T itself for N = 1.
template <class T, unsigned N>
using vec_or_scalar = std::conditional_t<N == 1, T, vec<T, N>>;

class shader;

/// A value in a shader, of type T. Numbers of the same C++ type turn into one: 4u is a u32, 4 an i32, 4.0F an f32.
template <shader_value T>
class expr {
public:
    using value_type = T;

    /// A number; f16 and vectors (the same number in each component) are made from one explicitly.
    template <class L>
    requires(std::is_arithmetic_v<L>) explicit(!std::same_as<L, T>) expr(L number) : id_(bits_of(number)) {
        using element = element_of<T>;
        constexpr bool right = std::same_as<L, element> || (std::same_as<L, float> && std::same_as<element, f16>);
        static_assert(right, "nibble: a number must have the C++ type of the shader's: 4u for u32, 4 for i32, 4.0F for f32 and f16");
    }
    expr(shader* owner, node_id id) : owner_(owner), id_(id) {}

    [[nodiscard]] auto x() const { return at(0); }
    [[nodiscard]] auto y() const { return at(1); }
    [[nodiscard]] auto z() const { return at(2); }
    [[nodiscard]] auto w() const { return at(3); }
    /// Component i, a number of C++.
    [[nodiscard]] expr<element_of<T>> at(unsigned i) const;
    /// Component i, a number of the shader.
    [[nodiscard]] expr<element_of<T>> operator[](const expr<u32>& i) const;

    /// A condition of the shader is none of C++.
    template <class B>
    requires std::same_as<B, bool>
    explicit operator B() const {
        static_assert(detail::never<B>, "nibble: a shader's condition is not known in C++; write if_(condition, [&] { ... }) or select(condition, a, b)");
        return false;
    }

    /// The node, made now if this is a number that belongs to no shader yet.
    [[nodiscard]] node_id node_in(shader& s) const;
    [[nodiscard]] shader* owner() const { return owner_; }
    /// Whether this is a number that belongs to no shader yet, and that number is x.
    [[nodiscard]] bool is_number(double x) const;
    /// The number, in each component: none where it belongs to a shader.
    [[nodiscard]] std::optional<element_of<T>> number() const {
        using element = element_of<T>;
        if (owner_ != nullptr) return std::nullopt;
        if constexpr (std::same_as<element, f32>)
            return std::bit_cast<float>(id_);
        else if constexpr (std::same_as<element, f16>)
            return to_f16(std::bit_cast<float>(id_));
        else
            return static_cast<element>(id_);
    }

private:
    shader* owner_ = nullptr;
    node_id id_ = 0;

    template <class L>
    static std::uint32_t bits_of(L number) {
        if constexpr (std::same_as<L, float>)
            return std::bit_cast<std::uint32_t>(number);
        else
            return static_cast<std::uint32_t>(number);
    }
};

namespace detail {

template <class X>
concept expression = requires {
    typename X::value_type;
}
&&std::derived_from<X, expr<typename X::value_type>>;
template <class X>
concept operand = expression<X> || std::is_arithmetic_v<X>;

template <operand X>
struct operand_facts {
    using type = X;
};
template <expression X>
struct operand_facts<X> {
    using type = typename X::value_type;
};
/// The shader type of an operand; of a number, that of its C++ type.
template <operand X>
using type_in = typename operand_facts<X>::type;

template <class T, operand X>
expr<T> as(const X& x) {
    if constexpr (expression<X>)
        return static_cast<const expr<T>&>(x);
    else
        return expr<T>(x);
}

/// The shader that operands belong to; one of them at least belongs to one.
template <class... E>
shader& owner_of(const E&... e) {
    shader* found = nullptr;
    (void)((e.owner() != nullptr ? (found = e.owner(), true) : false) || ...);
    assert(found != nullptr);
    if (found == nullptr) __builtin_unreachable();  // where assert is empty, gcc would warn of a shader that is none
    return *found;
}

/// a op b of two numbers of C++.
template <op O, class T>
T folded(T a, T b) {
    if constexpr (O == op::add)
        return a + b;
    else if constexpr (O == op::subtract)
        return a - b;
    else if constexpr (O == op::multiply)
        return a * b;
    else if constexpr (O == op::divide)
        return a / b;
    else if constexpr (O == op::modulo)
        return a % b;
    else if constexpr (O == op::shift_left)
        return a << b;
    else if constexpr (O == op::shift_right)
        return a >> b;
    else if constexpr (O == op::bit_and)
        return a & b;
    else if constexpr (O == op::bit_or)
        return a | b;
    else
        return a ^ b;
}

/// The type of `a op b`: that of both, or that of the vector where the other is its scalar. void if there is none.
template <class A, class B>
struct common {
    using type = void;
};
template <class A>
struct common<A, A> {
    using type = A;
};
template <class T, unsigned N>
struct common<vec<T, N>, T> {
    using type = vec<T, N>;
};
template <class T, unsigned N>
struct common<T, vec<T, N>> {
    using type = vec<T, N>;
};
template <operand A, operand B>
using common_type = typename common<type_in<A>, type_in<B>>::type;

template <class R, class... E>
expr<R> call(function f, const E&... e);
template <class R, class A, class B>
expr<R> binary(op o, const expr<A>& a, const expr<B>& b);

template <op O, operand A, operand B>
auto arithmetic(const A& a, const B& b) {
    using type = common_type<A, B>;
    static_assert(!std::is_void_v<type>, "nibble: both operands must have one type, or be a vector and its scalar; convert one of them: convert<f32>(x)");
    if constexpr (!std::is_void_v<type>) {
        using element = element_of<type>;
        constexpr bool whole = std::same_as<element, u32> || std::same_as<element, i32>;
        constexpr bool bitwise = O == op::bit_and || O == op::bit_or || O == op::bit_xor || O == op::shift_left || O == op::shift_right || O == op::modulo;
        static_assert(!std::same_as<element, bool>, "nibble: conditions are combined by &&, || and !, not by arithmetic");
        static_assert(!bitwise || whole, "nibble: bits, shifts and remainders need u32 or i32 operands");
        const auto l = as<type_in<A>>(a);
        const auto r = as<type_in<B>>(b);
        // What a generic formula leaves behind: 32 * 4, x * 1, x + 0, x >> 0.
        if constexpr (std::same_as<type_in<A>, type_in<B>> && (std::same_as<element, u32> || (std::same_as<element, f32> && !bitwise))) {
            if (l.number() && r.number()) return expr<type>(folded<O>(*l.number(), *r.number()));
        }
        if constexpr (std::same_as<type_in<A>, type>) {
            constexpr bool zero_is_nothing = O == op::add || O == op::subtract || O == op::shift_left || O == op::shift_right || O == op::bit_or;
            if ((O == op::multiply || O == op::divide) && r.is_number(1.0)) return l;
            if (zero_is_nothing && r.is_number(0.0)) return l;
        }
        if constexpr (std::same_as<type_in<B>, type>) {
            if (O == op::multiply && l.is_number(1.0)) return r;
            if (O == op::add && l.is_number(0.0)) return r;
        }
        return binary<type>(O, l, r);
    }
}

template <op O, operand A, operand B>
expr<bool> compare(const A& a, const B& b) {
    static_assert(std::same_as<type_in<A>, type_in<B>>, "nibble: only values of one type are compared; convert one of them: convert<f32>(x)");
    static_assert(width_of<type_in<A>> == 1, "nibble: scalars are compared, not vectors");
    return binary<bool>(O, as<type_in<A>>(a), as<type_in<B>>(b));
}

template <op O, operand A, operand B>
expr<bool> logical(const A& a, const B& b) {
    constexpr bool conditions = std::same_as<type_in<A>, bool> && std::same_as<type_in<B>, bool>;
    static_assert(conditions, "nibble: && and || take conditions");
    return binary<bool>(O, as<bool>(a), as<bool>(b));
}

template <class A, class B>
concept operands = operand<A> && operand<B> &&(expression<A> || expression<B>);

}  // namespace detail

template <class A, class B>
requires detail::operands<A, B>
auto operator+(const A& a, const B& b) { return detail::arithmetic<op::add>(a, b); }
template <class A, class B>
requires detail::operands<A, B>
auto operator-(const A& a, const B& b) { return detail::arithmetic<op::subtract>(a, b); }
template <class A, class B>
requires detail::operands<A, B>
auto operator*(const A& a, const B& b) { return detail::arithmetic<op::multiply>(a, b); }
template <class A, class B>
requires detail::operands<A, B>
auto operator/(const A& a, const B& b) { return detail::arithmetic<op::divide>(a, b); }
template <class A, class B>
requires detail::operands<A, B>
auto operator%(const A& a, const B& b) { return detail::arithmetic<op::modulo>(a, b); }
template <class A, class B>
requires detail::operands<A, B>
auto operator<<(const A& a, const B& b) { return detail::arithmetic<op::shift_left>(a, b); }
template <class A, class B>
requires detail::operands<A, B>
auto operator>>(const A& a, const B& b) { return detail::arithmetic<op::shift_right>(a, b); }
template <class A, class B>
requires detail::operands<A, B>
auto operator&(const A& a, const B& b) { return detail::arithmetic<op::bit_and>(a, b); }
template <class A, class B>
requires detail::operands<A, B>
auto operator|(const A& a, const B& b) { return detail::arithmetic<op::bit_or>(a, b); }
template <class A, class B>
requires detail::operands<A, B>
auto operator^(const A& a, const B& b) { return detail::arithmetic<op::bit_xor>(a, b); }
template <class A, class B>
requires detail::operands<A, B> expr<bool>
operator<(const A& a, const B& b) { return detail::compare<op::less>(a, b); }
template <class A, class B>
requires detail::operands<A, B> expr<bool>
operator<=(const A& a, const B& b) { return detail::compare<op::less_equal>(a, b); }
template <class A, class B>
requires detail::operands<A, B> expr<bool>
operator>(const A& a, const B& b) { return detail::compare<op::greater>(a, b); }
template <class A, class B>
requires detail::operands<A, B> expr<bool>
operator>=(const A& a, const B& b) { return detail::compare<op::greater_equal>(a, b); }
template <class A, class B>
requires detail::operands<A, B> expr<bool>
operator==(const A& a, const B& b) { return detail::compare<op::equal>(a, b); }
template <class A, class B>
requires detail::operands<A, B> expr<bool>
operator!=(const A& a, const B& b) { return detail::compare<op::not_equal>(a, b); }
template <class A, class B>
requires detail::operands<A, B> expr<bool>
operator&&(const A& a, const B& b) { return detail::logical<op::both>(a, b); }
template <class A, class B>
requires detail::operands<A, B> expr<bool>
operator||(const A& a, const B& b) { return detail::logical<op::either>(a, b); }

/// Something that can be stored to: a variable, or an element of a buffer or an array.
template <shader_value T>
class place : public expr<T> {
public:
    using expr<T>::expr;
    place(const place&) = default;

    template <detail::operand X>
    const place& operator=(const X& x) const {
        store(x);
        return *this;
    }
    const place& operator=(const place& x) const {
        store(x);
        return *this;
    }
    template <detail::operand X>
    const place& operator+=(const X& x) const {
        return *this = *this + x;
    }
    template <detail::operand X>
    const place& operator*=(const X& x) const {
        return *this = *this * x;
    }

private:
    template <detail::operand X>
    void store(const X& x) const;
};

/// An element of a buffer that a kernel only reads.
template <shader_value T>
class read_only : public expr<T> {
public:
    using expr<T>::expr;
    read_only(const read_only&) = default;
    template <class X>
    const read_only& operator=(const X&) const {
        static_assert(detail::never<X>, "nibble: this buffer is only read; declare it with output<T> to store to it");
        return *this;
    }
    const read_only& operator=(const read_only&) const {
        static_assert(detail::never<T>, "nibble: this buffer is only read; declare it with output<T> to store to it");
        return *this;
    }
};

/// Elements by index: a buffer, workgroup memory or an array of one invocation.
template <shader_value T, template <class> class Element>
class elements {
public:
    elements(shader* owner, std::string name) : owner_(owner), name_(std::move(name)) {}
    template <detail::operand X>
    [[nodiscard]] Element<T> operator[](const X& i) const;

private:
    shader* owner_;
    std::string name_;
};
template <shader_value T>
using input_buffer = elements<T, read_only>;
template <shader_value T>
using output_buffer = elements<T, place>;

/// Builds a program. Names are made unique within it; every declaration is in the manifest that comes with the program.
class shader {
public:
    explicit shader(std::string_view kernel, std::string_view codec = {}) {
        program_.manifest.kernel = kernel;
        program_.manifest.codec = codec;
        blocks_.emplace_back();
    }
    shader(const shader&) = delete;
    shader& operator=(const shader&) = delete;

    // What a host gives.

    /// A line at the top of the text.
    void about(std::string line) { program_.about.push_back(std::move(line)); }
    /// A buffer that is only read: `length` elements of T.
    template <shader_value T>
    [[nodiscard]] input_buffer<T> input(std::string_view name, formula length, bool by_rows = false) {
        return {this, declare_input<T>(name, std::move(length), by_rows)};
    }
    /// A buffer that is stored to, and may be read.
    template <shader_value T>
    [[nodiscard]] output_buffer<T> output(std::string_view name, formula length, bool by_rows = false) {
        return {this, declare_output<T>(name, std::move(length), by_rows)};
    }
    /// The same for buffers whose type is known at run time only: the name that the buffer has in the text.
    template <shader_value T>
    std::string declare_input(std::string_view name, formula length, bool by_rows = false) {
        return declare<T>(name, std::move(length), access::read, by_rows);
    }
    template <shader_value T>
    std::string declare_output(std::string_view name, formula length, bool by_rows = false) {
        return declare<T>(name, std::move(length), access::read_write, by_rows);
    }
    /// A size of the call: a literal where `baked` is not 0, else a parameter.
    [[nodiscard]] expr<u32> size(std::string_view name, u32 baked = 0) {
        if (baked != 0) {
            rule(program_.manifest.fixed, name, baked);
            return expr<u32>(baked);
        }
        return parameter<u32>(name, formula::size(std::string(name)));
    }
    /// A size that the host may set when it makes the pipeline.
    [[nodiscard]] expr<u32> constant(std::string_view name, u32 value) {
        const std::string own = unique(name);
        program_.manifest.constants.push_back({own, static_cast<u32>(program_.manifest.constants.size()), value});
        return expr<u32>(this, named(own, type_of<u32>));
    }
    /// A number computed from the sizes.
    template <shader_value T>
    [[nodiscard]] expr<T> parameter(std::string_view name, formula value) {
        return parameter_node<T>(name, std::move(value));
    }
    /// A number that the host gives with each call.
    template <shader_value T>
    [[nodiscard]] expr<T> scalar(std::string_view name) {
        return parameter_node<T>(name, std::nullopt);
    }
    /// Sizes that a call must give, whether or not the text reads them.
    void sizes(std::initializer_list<std::string_view> names) {
        for (const auto n : names) program_.manifest.sizes.emplace_back(n);
    }
    /// The text is right only for multiples of `number`.
    void multiple_of(std::string_view size, u32 number) { rule(program_.manifest.multiples, size, number); }
    /// `workgroups` workgroups of `invocations` each.
    void grid(u32 invocations, formula workgroups) {
        program_.manifest.workgroup = {invocations, 1, 1};
        program_.manifest.workgroups = std::move(workgroups);
    }
    /// A call may be cut along the rows, which are the size of this name.
    void cut_rows(std::string_view size, u32 granule = 1) {
        program_.manifest.rows = size;
        program_.manifest.row_granule = granule;
    }

    // What the hardware gives.

    /// The number of this workgroup. The grid may have been padded: compare it with the number that there should be.
    [[nodiscard]] expr<u32> workgroup_index() {
        const auto id = builtin_vector("workgroup_id", builtin::workgroup_id);
        const auto count = builtin_vector("num_workgroups", builtin::num_workgroups);
        return id[0] + count[0] * (id[1] + count[1] * id[2]);
    }
    /// The number of this invocation within its workgroup.
    [[nodiscard]] expr<u32> local_index() { return hardware("local_index", builtin::local_index); }
    [[nodiscard]] expr<u32> subgroup_id() {
        program_.manifest.features.subgroup_id = true;
        return subgroup_value("subgroup_id", builtin::subgroup_id);
    }
    [[nodiscard]] expr<u32> subgroup_lane() { return subgroup_value("subgroup_lane", builtin::subgroup_lane); }
    [[nodiscard]] expr<u32> subgroup_size() { return subgroup_value("subgroup_size", builtin::subgroup_size); }
    [[nodiscard]] expr<u32> num_subgroups() {
        program_.manifest.features.subgroup_id = true;
        return subgroup_value("num_subgroups", builtin::num_subgroups);
    }

    // Memory.

    /// `count` elements that a workgroup shares.
    template <shader_value T>
    [[nodiscard]] elements<T, place> shared(std::string_view name, u32 count) {
        const std::string own = unique(name);
        use<T>();
        program_.shared.push_back({own, type_of<T>, count});
        program_.manifest.workgroup_bytes += std::uint64_t{count} * width_of<T> * bytes_of(type_of<T>.of);
        return {this, own};
    }
    /// `count` elements, zero, of each invocation.
    template <shader_value T>
    [[nodiscard]] elements<T, place> array(std::string_view name, u32 count) {
        const std::string own = unique(name);
        use<T>();
        statement s;
        s.what = statement::kind::array, s.name = own, s.type = type_of<T>, s.count = count;
        emit(std::move(s));
        return {this, own};
    }
    /// A variable.
    template <shader_value T, detail::operand X>
    [[nodiscard]] place<T> var(std::string_view name, const X& start) {
        static_assert(std::same_as<detail::type_in<X>, T>, "nibble: a variable starts with a value of its type; convert it: convert<f32>(x)");
        return place<T>(this, declare_local<T>(statement::kind::variable, name, detail::as<T>(start)));
    }
    /// A value under a name.
    template <detail::expression X>
    [[nodiscard]] expr<detail::type_in<X>> let(std::string_view name, const X& value) {
        using type = detail::type_in<X>;
        return expr<type>(this, declare_local<type>(statement::kind::let, name, value));
    }

    // Control.

    template <class Then>
    void if_(const expr<bool>& condition, Then&& then) {
        statement s;
        s.what = statement::kind::branch, s.a = condition.node_in(*this), s.body = block(then);
        emit(std::move(s));
    }
    template <class Then, class Else>
    void if_(const expr<bool>& condition, Then&& then, Else&& otherwise) {
        statement s;
        s.what = statement::kind::branch, s.a = condition.node_in(*this), s.body = block(then), s.other = block(otherwise);
        emit(std::move(s));
    }
    /// for (u32 name = from; name < to; name += step) body(name)
    template <detail::operand A, detail::operand B, detail::operand C, class Body>
    void for_(std::string_view name, const A& from, const B& to, const C& step, Body&& body) {
        constexpr bool whole = std::same_as<detail::type_in<A>, u32> && std::same_as<detail::type_in<B>, u32> && std::same_as<detail::type_in<C>, u32>;
        static_assert(whole, "nibble: a loop counts in u32");
        statement s;
        s.what = statement::kind::loop, s.name = unique(name), s.type = type_of<u32>;
        s.a = detail::as<u32>(from).node_in(*this), s.b = detail::as<u32>(to).node_in(*this), s.c = detail::as<u32>(step).node_in(*this);
        const expr<u32> counter(this, named(s.name, s.type));
        s.body = block([&] { body(counter); });
        emit(std::move(s));
    }
    void barrier() { emit_plain(statement::kind::barrier); }
    void return_() { emit_plain(statement::kind::leave); }
    void comment(std::string line) {
        statement s;
        s.name = std::move(line);
        emit(std::move(s));
    }

    /// The program, complete. The shader is empty afterwards.
    [[nodiscard]] program finish() {
        assert(blocks_.size() == 1);
        program_.body = std::move(blocks_.back());
        return std::move(program_);
    }

    // For expressions.

    node_id add(node n) {
        program_.nodes.push_back(std::move(n));
        return static_cast<node_id>(program_.nodes.size() - 1);
    }
    node_id named(const std::string& name, shader_type type) {
        node n;
        n.what = op::name, n.type = type, n.name = name;
        return add(std::move(n));
    }
    node_id literal(shader_type type, std::uint32_t bits) {
        node n;
        n.type = {type.of, 1}, n.bits = bits;
        const node_id one = add(n);
        if (type.width == 1) return one;
        node v;
        v.what = op::make, v.type = type, v.arguments[0] = one, v.n_arguments = 1;
        return add(std::move(v));
    }
    void emit(statement s) { blocks_.back().push_back(std::move(s)); }
    template <shader_value T>
    void use() {
        if (std::same_as<element_of<T>, f16>) program_.manifest.features.f16 = true;
    }
    [[nodiscard]] feature_set& features() { return program_.manifest.features; }

private:
    program program_;
    std::vector<std::vector<statement>> blocks_;
    std::vector<std::pair<std::string, unsigned>> names_;

    static void rule(std::vector<size_rule>& rules, std::string_view size, u32 number) {
        for (const auto& known : rules) {
            if (known.size == size) return;
        }
        rules.push_back({std::string(size), number});
    }
    std::string unique(std::string_view name) {
        for (auto& [known, count] : names_) {
            if (known == name) return unique(known + "_" + std::to_string(++count));
        }
        names_.emplace_back(name, 0U);
        return std::string(name);
    }
    template <shader_value T>
    std::string declare(std::string_view name, formula length, gpu::access access, bool by_rows) {
        static_assert(!std::same_as<element_of<T>, bool>, "nibble: a buffer holds numbers, not conditions");
        use<T>();
        const std::string own = unique(name);
        program_.manifest.bindings.push_back({own, type_of<T>.of, width_of<T>, access, std::move(length), by_rows});
        return own;
    }
    template <shader_value T>
    expr<T> parameter_node(std::string_view name, std::optional<formula> value) {
        static_assert(width_of<T> == 1 && !std::same_as<T, f16> && !std::same_as<T, bool>, "nibble: a parameter is a u32, i32 or f32");
        for (const auto& p : program_.manifest.parameters) {
            if (p.name == name) return expr<T>(this, named("params." + p.name, type_of<T>));
        }
        program_.manifest.parameters.push_back({std::string(name), type_of<T>.of, std::move(value)});
        return expr<T>(this, named("params." + std::string(name), type_of<T>));
    }
    template <shader_value T>
    node_id declare_local(statement::kind kind, std::string_view name, const expr<T>& start) {
        use<T>();
        statement s;
        s.what = kind, s.name = unique(name), s.type = type_of<T>, s.a = start.node_in(*this);
        const node_id id = named(s.name, s.type);
        emit(std::move(s));
        return id;
    }
    template <class Body>
    std::vector<statement> block(Body&& body) {
        blocks_.emplace_back();
        body();
        auto done = std::move(blocks_.back());
        blocks_.pop_back();
        return done;
    }
    void emit_plain(statement::kind kind) {
        statement s;
        s.what = kind;
        emit(std::move(s));
    }
    expr<u32> hardware(const char* name, builtin which) {
        program_.uses[static_cast<std::size_t>(which)] = true;
        return expr<u32>(this, named(name, type_of<u32>));
    }
    expr<u32> subgroup_value(const char* name, builtin which) {
        program_.manifest.features.subgroups = true;
        return hardware(name, which);
    }
    std::array<expr<u32>, 3> builtin_vector(const char* name, builtin which) {
        const std::string base = name;
        const auto part = [&](const char* suffix) { return hardware((base + suffix).c_str(), which); };
        return {part(".x"), part(".y"), part(".z")};
    }
};

template <shader_value T>
node_id expr<T>::node_in(shader& s) const {
    assert(owner_ == nullptr || owner_ == &s);
    return owner_ != nullptr ? id_ : s.literal(type_of<T>, id_);
}

template <shader_value T>
bool expr<T>::is_number(double x) const {
    using element = element_of<T>;
    const auto own = number();
    if (!own) return false;
    if constexpr (std::same_as<element, f16>)
        return static_cast<double>(to_f32(*own)) == x;
    else
        return static_cast<double>(*own) == x;
}

template <shader_value T>
expr<element_of<T>> expr<T>::at(unsigned i) const {
    static_assert(width_of<T> > 1, "nibble: a scalar has no components");
    assert(owner_ != nullptr && i < width_of<T>);
    node n;
    n.what = op::component, n.type = type_of<element_of<T>>, n.bits = i, n.arguments[0] = id_, n.n_arguments = 1;
    return {owner_, owner_->add(std::move(n))};
}

template <shader_value T>
expr<element_of<T>> expr<T>::operator[](const expr<u32>& i) const {
    static_assert(width_of<T> > 1, "nibble: a scalar has no components");
    auto& s = detail::owner_of(*this, i);
    node n;
    n.what = op::index, n.type = type_of<element_of<T>>, n.arguments = {i.node_in(s), node_in(s)}, n.n_arguments = 2;
    return {&s, s.add(std::move(n))};
}

template <shader_value T>
template <detail::operand X>
void place<T>::store(const X& x) const {
    static_assert(std::same_as<detail::type_in<X>, T>, "nibble: what is stored must have the type of its place; convert it: convert<f16>(x)");
    if constexpr (std::same_as<detail::type_in<X>, T>) {
        auto& s = detail::owner_of(*this);
        statement to;
        to.what = statement::kind::assign, to.a = this->node_in(s), to.b = detail::as<T>(x).node_in(s);
        s.emit(std::move(to));
    }
}

template <shader_value T, template <class> class Element>
template <detail::operand X>
Element<T> elements<T, Element>::operator[](const X& i) const {
    static_assert(std::same_as<detail::type_in<X>, u32>, "nibble: an index is a u32");
    node n;
    n.what = op::index, n.type = type_of<T>, n.name = name_, n.n_arguments = 1;
    if constexpr (std::same_as<detail::type_in<X>, u32>) n.arguments[0] = detail::as<u32>(i).node_in(*owner_);
    return Element<T>(owner_, owner_->add(std::move(n)));
}

namespace detail {

template <class R, class A, class B>
expr<R> binary(op o, const expr<A>& a, const expr<B>& b) {
    auto& s = owner_of(a, b);
    node n;
    n.what = o, n.type = type_of<R>, n.arguments = {a.node_in(s), b.node_in(s)}, n.n_arguments = 2;
    return {&s, s.add(std::move(n))};
}

template <class R, class... E>
expr<R> build(op o, const E&... e) {
    auto& s = owner_of(e...);
    node n;
    n.what = o, n.type = type_of<R>, n.arguments = {e.node_in(s)...}, n.n_arguments = sizeof...(E);
    return {&s, s.add(std::move(n))};
}

template <class R, class... E>
expr<R> call(function f, const E&... e) {
    auto& s = owner_of(e...);
    s.template use<R>();
    node n;
    n.what = op::call, n.type = type_of<R>, n.function = f, n.arguments = {e.node_in(s)...}, n.n_arguments = sizeof...(E);
    return {&s, s.add(std::move(n))};
}

template <class A, class... B>
inline constexpr bool one_type = (std::same_as<A, B> && ...);

/// A function of arguments of one type, which is floating.
template <function F, operand A, operand... B>
auto floating(const A& a, const B&... b) {
    using type = type_in<A>;
    static_assert(one_type<type, type_in<B>...>, "nibble: the arguments must have one type; convert them: convert<f32>(x)");
    constexpr bool real = std::same_as<element_of<type>, f32> || std::same_as<element_of<type>, f16>;
    static_assert(real, "nibble: this function takes f32 or f16");
    return call<type>(F, as<type>(a), as<type>(b)...);
}
template <function F, operand A, operand... B>
auto numeric(const A& a, const B&... b) {
    using type = type_in<A>;
    static_assert(one_type<type, type_in<B>...>, "nibble: the arguments must have one type; convert them: convert<f32>(x)");
    return call<type>(F, as<type>(a), as<type>(b)...);
}

}  // namespace detail

template <detail::expression A>
auto operator-(const A& a) {
    return detail::build<detail::type_in<A>>(op::negate, a);
}
inline expr<bool> operator!(const expr<bool>& a) { return detail::build<bool>(op::logical_not, a); }

/// By value, as the language converts: to a whole number by cutting.
template <shader_value To, detail::operand X>
expr<To> convert(const X& x) {
    using from = detail::type_in<X>;
    static_assert(width_of<To> == width_of<from>, "nibble: a conversion keeps the number of components");
    if constexpr (std::same_as<To, from>) {
        return detail::as<To>(x);
    } else {
        const auto e = detail::as<from>(x);
        detail::owner_of(e).template use<To>();
        return detail::build<To>(op::convert, e);
    }
}
/// The same bits under another type of the same width.
template <shader_value To, detail::expression X>
expr<To> bitcast(const X& x) {
    using from = detail::type_in<X>;
    constexpr bool four_bytes = !std::same_as<element_of<To>, f16> && !std::same_as<element_of<from>, f16>;
    static_assert(width_of<To> == width_of<from> && four_bytes, "nibble: a bit cast is between u32, i32 and f32 of one width");
    if constexpr (std::same_as<To, from>)
        return x;
    else
        return detail::build<To>(op::bitcast, x);
}
/// A vector of four, of two, or of one in all components.
template <detail::expression X, std::size_t N>
auto vec_of(const std::array<X, N>& components) {
    if constexpr (N == 1)
        return components[0];
    else
        return std::apply([](const auto&... c) { return detail::build<vec<detail::type_in<X>, N>>(op::make, c...); }, components);
}
template <detail::expression X>
auto vec4(const X& x, const X& y, const X& z, const X& w) {
    return detail::build<vec<detail::type_in<X>, 4>>(op::make, x, y, z, w);
}
template <detail::expression X>
auto vec2(const X& x, const X& y) {
    return detail::build<vec<detail::type_in<X>, 2>>(op::make, x, y);
}
template <shader_value To, detail::operand X>
expr<To> splat(const X& x) {
    static_assert(std::same_as<element_of<To>, detail::type_in<X>>, "nibble: a vector is filled with its own scalar; convert it: convert<f32>(x)");
    if constexpr (width_of<To> == 1)
        return detail::as<To>(x);
    else
        return detail::build<To>(op::make, detail::as<element_of<To>>(x));
}
/// condition ? a : b; both are evaluated.
template <detail::operand A, detail::operand B>
auto select(const expr<bool>& condition, const A& a, const B& b) {
    using type = detail::type_in<A>;
    static_assert(std::same_as<type, detail::type_in<B>>, "nibble: both sides of select must have one type; convert one of them: convert<f32>(x)");
    return detail::build<type>(op::select, condition, detail::as<type>(a), detail::as<type>(b));
}

template <detail::operand A, detail::operand B>
auto dot(const A& a, const B& b) {
    using type = detail::type_in<A>;
    static_assert(std::same_as<type, detail::type_in<B>> && width_of<type> > 1, "nibble: dot takes two vectors of one type");
    return detail::call<element_of<type>>(function::dot, detail::as<type>(a), detail::as<type>(b));
}
template <detail::operand A, detail::operand B, detail::operand C>
auto fma(const A& a, const B& b, const C& c) {
    return detail::floating<function::fma>(a, b, c);
}
template <class A, class B>
requires detail::operands<A, B>
auto min(const A& a, const B& b) { return detail::numeric<function::min>(a, b); }
template <class A, class B>
requires detail::operands<A, B>
auto max(const A& a, const B& b) { return detail::numeric<function::max>(a, b); }
template <detail::expression A, detail::operand B, detail::operand C>
auto clamp(const A& a, const B& low, const C& high) {
    return detail::numeric<function::clamp>(a, low, high);
}
template <detail::expression A>
auto abs(const A& a) {
    return detail::numeric<function::abs>(a);
}
template <detail::expression A>
auto exp(const A& a) {
    return detail::floating<function::exp>(a);
}
template <detail::expression A>
auto log(const A& a) {
    return detail::floating<function::log>(a);
}
template <detail::expression A>
auto tanh(const A& a) {
    return detail::floating<function::tanh>(a);
}
template <detail::expression A>
auto sqrt(const A& a) {
    return detail::floating<function::sqrt>(a);
}
template <detail::expression A>
auto inverse_sqrt(const A& a) {
    return detail::floating<function::inverse_sqrt>(a);
}
template <detail::expression A>
auto floor(const A& a) {
    return detail::floating<function::floor>(a);
}
/// To the nearest whole number, ties to even.
template <detail::expression A>
auto round_even(const A& a) {
    return detail::floating<function::round_even>(a);
}
template <class A, class B>
requires detail::operands<A, B>
auto pow(const A& a, const B& b) { return detail::floating<function::pow>(a, b); }
template <detail::expression A>
auto sin(const A& a) {
    return detail::floating<function::sin>(a);
}
template <detail::expression A>
auto cos(const A& a) {
    return detail::floating<function::cos>(a);
}
/// Two f16 in a u32, the first in the low half, as f32.
inline expr<f32x2> unpack_half2(const expr<u32>& bits) { return detail::call<f32x2>(function::unpack_half2, bits); }
/// c + the four products of signed bytes of a and b.
inline expr<i32> dot_packed_i8(const expr<u32>& a, const expr<u32>& b) {
    detail::owner_of(a, b).features().int8_dot = true;
    return detail::call<i32>(function::dot_packed_i8, a, b);
}
/// Over the active invocations of a subgroup.
template <detail::expression A>
auto subgroup_add(const A& a) {
    a.owner()->features().subgroups = true;
    return detail::numeric<function::subgroup_add>(a);
}
template <detail::expression A>
auto subgroup_max(const A& a) {
    a.owner()->features().subgroups = true;
    return detail::numeric<function::subgroup_max>(a);
}
template <detail::expression A>
auto subgroup_min(const A& a) {
    a.owner()->features().subgroups = true;
    return detail::numeric<function::subgroup_min>(a);
}

}  // namespace nibble::gpu
