// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the printers of both shading languages share: after declarations and type names, the two are the same text.

#include <bit>
#include <charconv>
#include <string>
#include <string_view>

#include "nibble/gpu/tree.hpp"

namespace nibble::gpu::detail {

/// A decimal number that reads back as the same float, with a point.
inline std::string float_text(float x) {
    std::array<char, 32> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), x);
    std::string text(digits.data(), end.ptr);
    if (text.find_first_of(".e") == std::string::npos) text += ".0";
    return text;
}

/// How tightly an operator binds; operands that bind less tightly get parentheses. Only sums and products are ranked: where
/// shifts, bits and comparisons meet anything else, both languages or their readers want parentheses.
constexpr int rank_of(op o) {
    switch (o) {
        case op::literal:
        case op::name:
        case op::index:
        case op::component:
        case op::convert:
        case op::bitcast:
        case op::make:
        case op::select:
        case op::call:
            return 9;
        case op::negate:
        case op::logical_not:
            return 8;
        case op::multiply:
        case op::divide:
        case op::modulo:
            return 7;
        case op::add:
        case op::subtract:
            return 6;
        case op::less:
        case op::less_equal:
        case op::greater:
        case op::greater_equal:
        case op::equal:
        case op::not_equal:
            return 4;
        default:
            return 3;
    }
}

constexpr std::string_view sign_of(op o) {
    switch (o) {
        case op::add:
            return "+";
        case op::subtract:
            return "-";
        case op::multiply:
            return "*";
        case op::divide:
            return "/";
        case op::modulo:
            return "%";
        case op::shift_left:
            return "<<";
        case op::shift_right:
            return ">>";
        case op::bit_and:
            return "&";
        case op::bit_or:
            return "|";
        case op::bit_xor:
            return "^";
        case op::less:
            return "<";
        case op::less_equal:
            return "<=";
        case op::greater:
            return ">";
        case op::greater_equal:
            return ">=";
        case op::equal:
            return "==";
        case op::not_equal:
            return "!=";
        case op::both:
            return "&&";
        case op::either:
            return "||";
        default:
            return "?";
    }
}

/// Prints the body of a program. A Dialect says what differs:
///   type(shader_type)                            name of a type
///   literal(shader_type, bits)                   a number
///   function(node)                               name of a called function
///   bitcast(to, from, argument)  select(type, condition, a, b)
///   let(type, name)  variable(type, name)  array(type, name, count)  counter(name)   the left side of a declaration
///   barrier()                                    the statement
template <class Dialect>
class body_printer {
public:
    body_printer(const program& p, const Dialect& dialect) : program_(p), dialect_(dialect) {}

    [[nodiscard]] std::string text() {
        print(program_.body, 1);
        return std::move(out_);
    }
    [[nodiscard]] std::string expression(node_id id) const { return shown(program_.nodes[id]); }

private:
    const program& program_;
    const Dialect& dialect_;
    std::string out_;

    void line(int depth, const std::string& text) { out_ += std::string(static_cast<std::size_t>(depth) * 4, ' ') + text + "\n"; }

    void print(const std::vector<statement>& block, int depth) {
        for (const auto& s : block) {
            switch (s.what) {
                case statement::kind::let:
                    line(depth, dialect_.let(s.type, s.name) + " = " + expression(s.a) + ";");
                    break;
                case statement::kind::variable:
                    line(depth, dialect_.variable(s.type, s.name) + " = " + expression(s.a) + ";");
                    break;
                case statement::kind::array:
                    line(depth, dialect_.array(s.type, s.name, s.count) + ";");
                    break;
                case statement::kind::assign:
                    print_assign(s, depth);
                    break;
                case statement::kind::branch:
                    line(depth, "if (" + expression(s.a) + ") {");
                    print(s.body, depth + 1);
                    if (!s.other.empty()) {
                        line(depth, "} else {");
                        print(s.other, depth + 1);
                    }
                    line(depth, "}");
                    break;
                case statement::kind::loop: {
                    const std::string step = expression(s.c);
                    line(depth, "for (" + dialect_.counter(s.name) + " = " + expression(s.a) + "; " + s.name + " < " + inside(s.b, 5) + "; " + s.name +
                                    (step == "1u" ? "++" : " += " + step) + ") {");
                    print(s.body, depth + 1);
                    line(depth, "}");
                    break;
                }
                case statement::kind::barrier:
                    line(depth, dialect_.barrier());
                    break;
                case statement::kind::leave:
                    line(depth, "return;");
                    break;
                case statement::kind::comment:
                    line(depth, "// " + s.name);
                    break;
            }
        }
    }

    /// a = a + b is written a += b.
    void print_assign(const statement& s, int depth) {
        const std::string to = expression(s.a);
        const node& value = program_.nodes[s.b];
        if (value.what == op::add && expression(value.arguments[0]) == to) return line(depth, to + " += " + expression(value.arguments[1]) + ";");
        line(depth, to + " = " + expression(s.b) + ";");
    }

    /// In parentheses if it binds less tightly than `rank`.
    [[nodiscard]] std::string inside(node_id id, int rank) const {
        const node& n = program_.nodes[id];
        return rank_of(n.what) < rank ? "(" + shown(n) + ")" : shown(n);
    }
    [[nodiscard]] std::string list(const node& n) const {
        std::string text;
        for (std::size_t i = 0; i < n.n_arguments; ++i) text += (i == 0 ? "" : ", ") + expression(n.arguments[i]);
        return text;
    }

    [[nodiscard]] std::string shown(const node& n) const {
        switch (n.what) {
            case op::literal:
                return dialect_.literal(n.type, n.bits);
            case op::name:
                return n.name;
            case op::index:
                return (n.n_arguments == 2 ? inside(n.arguments[1], 9) : n.name) + "[" + expression(n.arguments[0]) + "]";
            case op::component:
                return inside(n.arguments[0], 9) + "." + "xyzw"[n.bits];
            case op::negate:
                return "-" + inside(n.arguments[0], 9);
            case op::logical_not:
                return "!" + inside(n.arguments[0], 9);
            case op::convert:
            case op::make:
                return std::string(dialect_.type(n.type)) + "(" + list(n) + ")";
            case op::bitcast:
                return dialect_.bitcast(n.type, program_.nodes[n.arguments[0]].type, expression(n.arguments[0]));
            case op::select:
                return dialect_.select(n.type, expression(n.arguments[0]), inside(n.arguments[1], 3), inside(n.arguments[2], 3));
            case op::call:
                return dialect_.call(n, list(n));
            default:
                break;
        }
        // Of sums and products, the left operand may rank the same; all others stand in parentheses unless they bind at once.
        const int rank = rank_of(n.what);
        const bool ranked = rank == 6 || rank == 7;
        const bool chain = n.what == program_.nodes[n.arguments[0]].what && (rank == 3 && n.what != op::shift_left && n.what != op::shift_right);
        const int left = ranked ? rank : chain ? 3 : rank == 4 ? 6 : is_logical(n.what) ? 4 : 8;
        const int right = ranked ? rank + 1 : rank == 4 ? 6 : is_logical(n.what) ? 4 : 8;
        return inside(n.arguments[0], left) + " " + std::string(sign_of(n.what)) + " " + inside(n.arguments[1], right);
    }
    static constexpr bool is_logical(op o) { return o == op::both || o == op::either; }
};

inline std::string comment_lines(const std::vector<std::string>& lines) {
    std::string text;
    for (const auto& l : lines) text += "// " + l + "\n";
    return text;
}

}  // namespace nibble::gpu::detail
