// SPDX-License-Identifier: Apache-2.0
#pragma once
// A small interpreter for the chat_template of Hugging Face checkpoints: Jinja2 as transformers configures it, without what reads
// files or makes code, and bounded in every direction. What it does not know is an error that names the line, never a guess.

#include <map>

#include "nibble/chat/jinja_library.hpp"

namespace nibble::chat {

namespace detail {

class jinja_run {
public:
    jinja_run(const jinja_limits& limits, const std::optional<std::tm>& now) : state_(limits), builtins_(state_, now) {
        frames_.emplace_back();
        for (const auto* name : {"raise_exception", "namespace", "range", "dict"}) define(name, jinja_function{name});
        if (now) define("strftime_now", jinja_function{"strftime_now"});
    }
    void define(const std::string& name, jinja_value v) {
        if (v.depth > jinja_value_depth)
            state_.fail(errc::refused, "the variable '" + name + "' is nested deeper than " + std::to_string(jinja_value_depth) + " levels");
        frames_.back()[name] = std::move(v);
    }
    [[nodiscard]] result<std::string> run(const jinja_node& root) {
        (void)execute(root);
        if (state_.failure) return fail(std::move(*state_.failure.first));
        return std::move(out_);
    }

private:
    using type = jinja_node::type;
    using frame = std::map<std::string, jinja_value, std::less<>>;
    enum class flow { on, next, stop };
    static constexpr std::size_t macro_depth_limit = 12;
    static constexpr std::size_t evaluation_depth_limit = 400;

    /// Counts how deep the interpreter itself stands: macros call each other from inside expressions.
    struct level {
        explicit level(jinja_run& r) : run(r) {
            if (++run.depth_ > evaluation_depth_limit)
                run.state_.fail(errc::refused, "evaluation is nested deeper than " + std::to_string(evaluation_depth_limit) + " levels");
        }
        ~level() { --run.depth_; }
        level(const level&) = delete;
        level& operator=(const level&) = delete;
        jinja_run& run;
    };

    [[nodiscard]] jinja_value lookup(const std::string& name) const {
        for (auto f = frames_.size(); f-- > 0;) {
            if (f != 0 && f < bottom_) continue;  // a macro sees its own variables and the outermost ones
            if (const auto at = frames_[f].find(name); at != frames_[f].end()) return at->second;
        }
        return jinja_undefined{name};
    }
    void emit(std::string_view text) {
        if (!state_.charge(text.size())) return;
        out_ += text;
        if (out_.size() > state_.limits.output_bytes)
            state_.fail(errc::refused, "the rendered text is longer than " + std::to_string(state_.limits.output_bytes) + " bytes");
    }

    /// What a block of statements prints.
    [[nodiscard]] std::string captured(const jinja_node& body) {
        auto outer = std::exchange(out_, std::string());
        frames_.emplace_back();
        (void)execute(body);
        frames_.pop_back();
        return std::exchange(out_, std::move(outer));
    }

    [[nodiscard]] flow execute(const jinja_node& n) {
        state_.line = n.line;
        const level one(*this);
        if (!state_.step()) return flow::stop;
        switch (n.kind) {
            case type::block:
                for (const auto& child : n.children) {
                    if (const auto f = execute(*child); f != flow::on || state_.failure) return f;
                }
                return flow::on;
            case type::text:
                emit(n.s);
                return flow::on;
            case type::output: {
                const auto v = evaluate(*n.children[0]);
                emit(v.string() ? std::string_view(*v.string()) : std::string_view(builtins_.text(v)));
                return flow::on;
            }
            case type::for_loop:
                return loop(n);
            case type::if_chain: {
                std::size_t i = 0;
                for (; i + 1 < n.children.size(); i += 2) {
                    if (evaluate(*n.children[i]).truth()) return state_.failure ? flow::stop : execute(*n.children[i + 1]);
                    if (state_.failure) return flow::stop;
                }
                return i < n.children.size() ? execute(*n.children[i]) : flow::on;
            }
            case type::set:
                assign(n, evaluate(*n.children[0]));
                return flow::on;
            case type::set_block: {
                jinja_value v = captured(*n.children[0]);
                frames_.back()[n.names[0]] = n.children[1] ? filtered(*n.children[1], std::move(v)) : std::move(v);
                return flow::on;
            }
            case type::filter_block: {
                const auto v = filtered(*n.children[1], captured(*n.children[0]));
                emit(builtins_.text(v));
                return flow::on;
            }
            case type::macro:
                frames_.back()[n.s] = jinja_macro{&n};
                return flow::on;
            case type::stop:
                return flow::stop;
            case type::next:
                return flow::next;
            default:
                state_.fail(errc::malformed, "an expression stands where a statement is expected");
                return flow::stop;
        }
    }

    void assign(const jinja_node& n, jinja_value v) {
        if (state_.failure) return;
        if (!n.s.empty()) {
            const auto object = lookup(n.s);
            const auto* space = object.as<jinja_namespace>();
            if (!space) {
                state_.fail(errc::refused, "'" + n.s + "' is no namespace, so '" + n.names[0] + "' cannot be set in it");
                return;
            }
            state_.containable(v);
            if (!state_.failure) space->members->set(n.names[0], std::move(v));
            return;
        }
        bind_targets(n.names, v);
    }
    void bind_targets(const std::vector<std::string>& names, const jinja_value& v) {
        if (names.size() == 1) {
            frames_.back()[names[0]] = v;
            return;
        }
        const auto parts = builtins_.items(v);
        if (parts->size() != names.size()) {
            state_.fail(errc::refused, std::to_string(names.size()) + " names are given " + std::to_string(parts->size()) + " values");
            return;
        }
        for (std::size_t i = 0; i < names.size(); ++i) frames_.back()[names[i]] = (*parts)[i];
    }

    [[nodiscard]] flow loop(const jinja_node& n) {
        auto items = builtins_.items(evaluate(*n.children[0]));
        if (n.children[1] && !state_.failure) {
            jinja_list kept;
            for (const auto& item : *items) {
                frames_.emplace_back();
                bind_targets(n.names, item);
                if (!state_.failure && evaluate(*n.children[1]).truth()) kept.push_back(item);
                frames_.pop_back();
                if (state_.failure) return flow::stop;
            }
            items = std::make_shared<const jinja_list>(std::move(kept));
        }
        if (state_.failure) return flow::stop;
        if (items->empty()) return n.children[3] ? execute(*n.children[3]) : flow::on;
        ++loop_depth_;
        for (std::size_t i = 0; i < items->size(); ++i) {
            frames_.emplace_back();
            frames_.back()["loop"] = jinja_loop{items, i, loop_depth_};
            bind_targets(n.names, (*items)[i]);
            const auto f = state_.failure ? flow::stop : execute(*n.children[2]);
            frames_.pop_back();
            if (f == flow::stop || state_.failure) break;
        }
        --loop_depth_;
        return flow::on;
    }

    [[nodiscard]] jinja_arguments arguments(const jinja_node& n) {
        jinja_arguments a;
        const auto first_named = n.children.size() - n.names.size();
        for (std::size_t i = 1; i < n.children.size() && !state_.failure; ++i) {
            auto v = evaluate(*n.children[i]);
            if (i < first_named)
                a.positional.push_back(std::move(v));
            else
                a.named.emplace_back(n.names[i - first_named], std::move(v));
        }
        return a;
    }

    /// A chain of filters whose innermost input is v.
    [[nodiscard]] jinja_value filtered(const jinja_node& chain, jinja_value v) {
        if (chain.children[0]) v = filtered(*chain.children[0], std::move(v));
        const auto a = arguments(chain);
        return state_.failure ? jinja_value() : builtins_.filter(chain.s, v, a);
    }

    [[nodiscard]] jinja_value call_macro(const jinja_node& macro, const jinja_arguments& a) {
        if (macros_ == macro_depth_limit)
            return state_.fail(errc::refused, "macros call each other more than " + std::to_string(macro_depth_limit) + " levels deep");
        if (a.positional.size() > macro.names.size())
            return state_.fail(errc::refused, "the macro '" + macro.s + "' takes " + std::to_string(macro.names.size()) + " arguments");
        frame own;
        for (std::size_t i = 0; i < a.positional.size(); ++i) own[macro.names[i]] = a.positional[i];
        for (const auto& [name, v] : a.named) {
            if (std::find(macro.names.begin(), macro.names.end(), name) == macro.names.end())
                return state_.fail(errc::refused, "the macro '" + macro.s + "' has no parameter '" + name + "'");
            own[name] = v;
        }
        const auto outer_bottom = std::exchange(bottom_, frames_.size());
        const auto outer_loops = std::exchange(loop_depth_, 0);
        ++macros_;
        frames_.push_back(std::move(own));
        const auto n_defaults = macro.children.size() - 1;
        for (std::size_t i = 0; i < macro.names.size(); ++i) {
            auto& here = frames_.back();
            if (here.find(macro.names[i]) != here.end()) continue;
            const auto first_default = macro.names.size() - n_defaults;
            auto v = i >= first_default ? evaluate(*macro.children[1 + i - first_default]) : jinja_value(jinja_undefined{macro.names[i]});
            frames_.back()[macro.names[i]] = std::move(v);
        }
        auto outer = std::exchange(out_, std::string());
        (void)execute(*macro.children[0]);
        auto text = std::exchange(out_, std::move(outer));
        frames_.pop_back();
        --macros_;
        loop_depth_ = outer_loops;
        bottom_ = outer_bottom;
        return text;
    }

    [[nodiscard]] jinja_value call(const jinja_node& n) {
        const auto& callee = *n.children[0];
        if (callee.kind == type::member) {
            const auto object = evaluate(*callee.children[0]);
            const auto a = arguments(n);
            state_.line = n.line;
            return state_.failure ? jinja_value() : builtins_.method(object, callee.s, a);
        }
        const auto f = evaluate(callee);
        const auto a = arguments(n);
        state_.line = n.line;
        if (state_.failure) return {};
        if (const auto* macro = f.as<jinja_macro>()) return call_macro(*macro->definition, a);
        if (const auto* function = f.as<jinja_function>()) return builtins_.function(function->name, a);
        if (const auto* u = f.as<jinja_undefined>()) return state_.fail(errc::unsupported, "the function '" + u->name + "' is not known");
        return state_.fail(errc::refused, std::string(f.type_name()) + " cannot be called");
    }

    /// Text that is added to text marked as safe is escaped, even without autoescape.
    [[nodiscard]] static std::string escaped(const std::string& s) {
        std::string to;
        for (const char c : s) {
            switch (c) {
                case '&':
                    to += "&amp;";
                    break;
                case '<':
                    to += "&lt;";
                    break;
                case '>':
                    to += "&gt;";
                    break;
                case '\'':
                    to += "&#39;";
                    break;
                case '"':
                    to += "&#34;";
                    break;
                default:
                    to += c;
            }
        }
        return to;
    }

    [[nodiscard]] jinja_value arithmetic(const std::string& op, const jinja_value& a, const jinja_value& b) {
        if (op == "~") {
            auto s = builtins_.text(a);
            s += builtins_.text(b);
            state_.charge(s.size());
            return s;
        }
        if (op == "+" && a.string() && b.string()) {
            if (!state_.charge(a.string()->size() + b.string()->size())) return {};
            if (!a.markup && !b.markup) return *a.string() + *b.string();
            jinja_value sum((a.markup ? *a.string() : escaped(*a.string())) + (b.markup ? *b.string() : escaped(*b.string())));
            sum.markup = true;
            state_.charge(sum.string()->size());
            return sum;
        }
        if (op == "+" && a.list() && b.list()) {
            auto all = *a.list();
            all.insert(all.end(), b.list()->begin(), b.list()->end());
            return state_.make(std::move(all));
        }
        if (op == "*" && ((a.string() && b.integral()) || (a.integral() && b.string()))) {
            const auto& s = a.string() ? *a.string() : *b.string();
            const auto times = std::max<std::int64_t>(a.string() ? b.integer() : a.integer(), 0);
            std::string all;
            for (std::int64_t i = 0; i < times && !s.empty() && state_.charge(s.size()); ++i) all += s;
            return all;
        }
        if (!a.number() || !b.number()) {
            if (op == "%" && a.string()) return state_.unsupported("formatting with %");
            return state_.fail(errc::refused, "'" + op + "' between " + builtins_.described(a) + " and " + builtins_.described(b));
        }
        if (op == "/") return b.real() == 0 ? state_.fail(errc::refused, "a division by zero") : jinja_value(a.real() / b.real());
        if (a.integral() && b.integral()) {
            const auto x = a.integer(), y = b.integer();
            std::int64_t r = 0;
            bool overflow = false;
            if (op == "+") overflow = __builtin_add_overflow(x, y, &r);
            if (op == "-") overflow = __builtin_sub_overflow(x, y, &r);
            if (op == "*") overflow = __builtin_mul_overflow(x, y, &r);
            if (op == "//" || op == "%") {
                if (y == 0) return state_.fail(errc::refused, "a division by zero");
                if (y == -1) {
                    overflow = op == "//" && __builtin_sub_overflow(std::int64_t{0}, x, &r);
                } else {  // Python rounds down
                    const auto rest = x % y;
                    const bool down = rest != 0 && (rest < 0) != (y < 0);
                    r = op == "%" ? (down ? rest + y : rest) : x / y - (down ? 1 : 0);
                }
            }
            if (op == "**") {
                if (y < 0) return std::pow(a.real(), b.real());
                r = 1;
                for (std::int64_t i = 0; i < y && !overflow && state_.step(); ++i) overflow = __builtin_mul_overflow(r, x, &r);
            }
            return overflow ? state_.fail(errc::refused, "a number is too large") : jinja_value(r);
        }
        const auto x = a.real(), y = b.real();
        if (op == "+") return x + y;
        if (op == "-") return x - y;
        if (op == "*") return x * y;
        if (op == "**") return std::pow(x, y);
        if (y == 0) return state_.fail(errc::refused, "a division by zero");
        if (op == "//") return std::floor(x / y);
        const auto rest = std::fmod(x, y);
        return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
    }

    [[nodiscard]] jinja_value compare(const jinja_node& n) {
        auto left = evaluate(*n.children[0]);
        for (std::size_t i = 0; i < n.names.size(); ++i) {
            auto right = evaluate(*n.children[i + 1]);
            if (state_.failure) return {};
            const auto& op = n.names[i];
            bool holds = false;
            if (op == "==" || op == "!=") {
                holds = builtins_.equal(left, right) == (op == "==");
            } else if (op == "in" || op == "not in") {
                holds = builtins_.contains(right, left) == (op == "in");
            } else {
                const auto o = builtins_.order(left, right);
                holds = op == "<" ? o < 0 : op == "<=" ? o <= 0 : op == ">" ? o > 0 : o >= 0;
            }
            if (!holds) return false;
            left = std::move(right);
        }
        return true;
    }

    [[nodiscard]] jinja_value evaluate(const jinja_node& n) {
        state_.line = n.line;
        const level one(*this);
        if (!state_.step()) return {};
        const auto child = [&](std::size_t i) { return evaluate(*n.children[i]); };
        switch (n.kind) {
            case type::constant:
                return n.constant;
            case type::name:
                return lookup(n.s);
            case type::list:
            case type::tuple: {
                jinja_list all;
                for (const auto& c : n.children) all.push_back(evaluate(*c));
                auto v = state_.make(std::move(all));
                v.tuple = n.kind == type::tuple;
                return v;
            }
            case type::dict: {
                jinja_dict all;
                for (std::size_t i = 0; i + 1 < n.children.size() && !state_.failure; i += 2) {
                    const auto key = child(i);
                    if (!key.string()) return state_.unsupported("a key that is not a string");
                    if (state_.charge(all.items.size())) all.set(*key.string(), child(i + 1));
                }
                return state_.make(std::move(all));
            }
            case type::member:
                return of_member(n);
            case type::index: {
                const auto object = child(0);
                const auto at = child(1);
                state_.line = n.line;
                return state_.failure ? jinja_value() : builtins_.index(object, at);
            }
            case type::slice: {
                const auto bound = [&](std::size_t i) { return n.children[i] ? child(i) : jinja_value(jinja_none{}); };
                const auto object = child(0);
                const auto from = bound(1), to = bound(2), step = bound(3);
                return state_.failure ? jinja_value() : builtins_.slice(object, from, to, step);
            }
            case type::call:
                return call(n);
            case type::filter: {
                const auto v = child(0);
                const auto a = arguments(n);
                state_.line = n.line;
                return state_.failure ? jinja_value() : builtins_.filter(n.s, v, a);
            }
            case type::test: {
                const auto v = child(0);
                const auto a = arguments(n);
                state_.line = n.line;
                return !state_.failure && builtins_.test(n.s, v, a);
            }
            case type::negate:
            case type::plus: {
                const auto v = child(0);
                if (!v.number()) return state_.fail(errc::refused, "a sign before " + builtins_.described(v));
                if (v.integral()) return n.kind == type::plus ? v : arithmetic("-", std::int64_t{0}, v);
                return n.kind == type::plus ? v.real() : -v.real();
            }
            case type::logical_not:
                return !child(0).truth();
            case type::logical_and: {
                auto left = child(0);
                return left.truth() ? child(1) : left;
            }
            case type::logical_or: {
                auto left = child(0);
                return left.truth() ? left : child(1);
            }
            case type::binary: {
                const auto left = child(0);
                const auto right = child(1);
                state_.line = n.line;
                return state_.failure ? jinja_value() : arithmetic(n.s, left, right);
            }
            case type::compare:
                return compare(n);
            case type::choice:
                if (child(0).truth()) return child(1);
                return n.children[2] ? child(2) : jinja_value(jinja_undefined{"the missing else of an if"});
            default:
                return state_.fail(errc::malformed, "a statement stands where an expression is expected");
        }
    }
    [[nodiscard]] jinja_value of_member(const jinja_node& n) {
        const auto object = evaluate(*n.children[0]);
        state_.line = n.line;
        return state_.failure ? jinja_value() : builtins_.member(object, n.s);
    }

    jinja_state state_;
    jinja_builtins builtins_;
    std::vector<frame> frames_;
    std::size_t bottom_ = 0;  // the first frame of the macro that runs
    std::size_t macros_ = 0;
    std::size_t depth_ = 0;
    std::size_t loop_depth_ = 0;
    std::string out_;
};

}  // namespace detail

/// A parsed chat template; can be rendered any number of times.
class jinja_template {
public:
    /// Errors: malformed (syntax), unsupported (a statement that is not known), refused (beyond a limit); all name the line.
    [[nodiscard]] static result<jinja_template> parse(std::string_view text, const jinja_limits& limits = {}) {
        if (text.size() > limits.source_bytes) return fail(errc::refused, "chat template: longer than " + std::to_string(limits.source_bytes) + " bytes");
        if (!detail::utf8_valid(text)) return fail(errc::malformed, "chat template: not valid UTF-8");
        detail::jinja_failure failure;
        detail::jinja_lexer lexer(text, failure);
        auto tokens = lexer.run();
        jinja_template made;
        made.limits_ = limits;
        if (!failure) {
            detail::jinja_parser parser(std::move(tokens), limits.nesting, failure);
            made.root_ = parser.run();
        }
        if (failure) return fail(std::move(*failure.first));
        return made;
    }

    /// `variables` is an object: messages, add_generation_prompt, bos_token ... `now` is the local time that strftime_now tells; without it
    /// that function is undefined. Errors: refused (the template raised an exception, wrong types, beyond a limit), unsupported.
    [[nodiscard]] result<std::string> render(const json& variables, const std::optional<std::tm>& now = std::nullopt) const {
        detail::jinja_run run(limits_, now);
        for (const auto& [name, v] : variables.items()) run.define(name, detail::from_json(v));
        return run.run(*root_);
    }

private:
    jinja_template() = default;
    jinja_limits limits_;
    detail::jinja_tree root_;
};

}  // namespace nibble::chat
