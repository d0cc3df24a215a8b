// SPDX-License-Identifier: Apache-2.0
#pragma once
// The syntax of chat templates: Jinja2 3.1 with trim_blocks, lstrip_blocks, loop controls and {% generation %}, as Hugging Face
// transformers configures it. Text becomes tokens, tokens become a tree whose depth is bounded, so that no input can overflow the stack.

#include <algorithm>
#include <array>
#include <initializer_list>
#include <optional>

#include "nibble/chat/jinja_value.hpp"
#include "nibble/core/result.hpp"

namespace nibble::chat::detail {

/// The first thing that went wrong; later ones are consequences.
struct jinja_failure {
    std::optional<error> first;
    [[nodiscard]] explicit operator bool() const { return first.has_value(); }
    void set(errc code, std::size_t line, std::string rule) {
        if (!first) first = error{code, "chat template, line " + std::to_string(line) + ": " + std::move(rule), {}, {}, {}, {}};
    }
};

// --- Tokens

struct jinja_token {
    enum class type { text, block_begin, block_end, variable_begin, variable_end, name, string, integer, real, op, end };
    type kind = type::end;
    std::string text;
    std::size_t line = 1;
};

class jinja_lexer {
public:
    jinja_lexer(std::string_view source, jinja_failure& failure) : failure_(failure) {
        for (std::size_t i = 0; i < source.size(); ++i) {  // newlines of all systems are one character, and the last one is dropped
            if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
            source_ += source[i] == '\r' ? '\n' : source[i];
        }
        if (!source_.empty() && source_.back() == '\n') source_.pop_back();
        text_ = source_;
    }

    [[nodiscard]] std::vector<jinja_token> run() {
        while (at_ < text_.size() && !failure_) {
            auto tag = text_.find('{', at_);
            while (tag != text_.npos && (tag + 1 >= text_.size() || std::string_view("{%#").find(text_[tag + 1]) == std::string_view::npos))
                tag = text_.find('{', tag + 1);
            if (tag == text_.npos) {
                add_text(text_.substr(at_));
                break;
            }
            const char kind = text_[tag + 1];
            const auto before = text_.substr(at_, tag - at_);
            const char sign = tag + 2 < text_.size() ? text_[tag + 2] : '\0';
            add_text(kept(before, kind, sign));
            advance(tag + 2 + ((sign == '-' || sign == '+') ? 1 : 0));
            if (sign == '+' && kind == '{') --at_;  // only a plus before the expression
            if (kind == '#')
                comment();
            else if (kind == '%' && starts_raw())
                raw();
            else
                tag_body(kind);
        }
        push(jinja_token::type::end, "");
        return std::move(tokens_);
    }

private:
    void push(jinja_token::type kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
    void add_text(std::string_view text) {
        if (!text.empty()) push(jinja_token::type::text, std::string(text));
    }
    /// Moves on, counting lines, and notes whether the next text begins a line.
    void advance(std::size_t to) {
        line_ += static_cast<std::size_t>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_), text_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
        if (to > at_) line_begins_ = text_[to - 1] == '\n';
        at_ = to;
    }
    /// What is left of the text before a tag: `-` takes all white space, lstrip_blocks the indentation of a block or comment.
    [[nodiscard]] std::string_view kept(std::string_view text, char kind, char sign) const {
        if (sign == '-') return strip_right(text);
        if (sign == '+' || kind == '{') return text;
        const auto newline = text.rfind('\n');
        const auto begin = newline == text.npos ? 0 : newline + 1;
        if (begin == 0 && !line_begins_) return text;
        return strip_left(text.substr(begin)).empty() ? text.substr(0, begin) : text;
    }
    [[nodiscard]] bool follows(std::string_view what) const { return text_.substr(at_).starts_with(what); }
    void skip_space() { advance(text_.size() - strip_left(text_.substr(at_)).size()); }
    /// Reads the end of a tag ("%}", "-%}", "+%}" ...) and the white space that it takes along.
    [[nodiscard]] bool close(char mark) {
        const char plain[] = {mark, '}', '\0'}, minus[] = {'-', mark, '}', '\0'}, plus[] = {'+', mark, '}', '\0'};
        if (follows(minus)) {
            advance(at_ + 3);
            skip_space();
        } else if (mark != '}' && follows(plus)) {
            advance(at_ + 3);
        } else if (follows(plain)) {
            advance(at_ + 2);
            if (mark != '}' && follows("\n")) advance(at_ + 1);
        } else {
            return false;
        }
        return true;
    }

    void comment() {
        auto end = text_.find("#}", at_);
        if (end == text_.npos) return failure_.set(errc::malformed, line_, "a comment {# is never closed");
        if (end > at_ && (text_[end - 1] == '-' || text_[end - 1] == '+')) --end;
        advance(end);
        (void)close('#');
    }

    [[nodiscard]] static bool word_at(std::string_view rest, std::string_view word) {
        rest = strip_left(rest);
        return rest.starts_with(word) && (strip_left(rest.substr(word.size())).starts_with("%}") || strip_left(rest.substr(word.size())).starts_with("-%}"));
    }
    [[nodiscard]] bool starts_raw() const { return word_at(text_.substr(at_), "raw"); }
    void raw() {
        advance(text_.find("%}", at_) + 2);
        if (text_[at_ - 3] == '-') skip_space();
        for (auto tag = text_.find("{%", at_); tag != text_.npos; tag = text_.find("{%", tag + 1)) {
            const char sign = tag + 2 < text_.size() ? text_[tag + 2] : '\0';
            const auto inner = tag + 2 + ((sign == '-' || sign == '+') ? 1 : 0);
            if (!word_at(text_.substr(inner), "endraw")) continue;
            add_text(kept(text_.substr(at_, tag - at_), '%', sign));
            auto end = text_.find("%}", inner);
            if (text_[end - 1] == '-') --end;
            advance(end);
            (void)close('%');
            return;
        }
        failure_.set(errc::malformed, line_, "{% raw %} is never closed");
    }

    void tag_body(char kind) {
        using type = jinja_token::type;
        const auto opened = line_;
        const char mark = kind == '{' ? '}' : '%';
        push(kind == '{' ? type::variable_begin : type::block_begin, "");
        std::size_t open_braces = 0;
        while (!failure_) {
            skip_space();
            if (at_ >= text_.size()) return failure_.set(errc::malformed, opened, kind == '{' ? "{{ is never closed" : "{% is never closed");
            if (open_braces == 0) {
                const auto end_line = line_;
                if (close(mark)) {
                    tokens_.push_back({kind == '{' ? type::variable_end : type::block_end, "", end_line});
                    return;
                }
            }
            const char c = text_[at_];
            if (is_name_start(c)) {
                name();
            } else if (c >= '0' && c <= '9') {
                number();
            } else if (c == '\'' || c == '"') {
                string(c);
            } else {
                static constexpr std::array<std::string_view, 27> operators{"//", "**", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "[", "]",
                                                                            "(",  ")",  "{",  "}",  "<",  ">",  "=", ".", ":", "|", ",", ";", "?"};
                const auto found = std::find_if(operators.begin(), operators.end(), [&](std::string_view o) { return follows(o); });
                if (found == operators.end())
                    return failure_.set(errc::malformed, line_,
                                        "the character '" + std::string(text_.substr(at_, utf8_length(c))) + "' has no meaning in an expression");
                if (*found == "(" || *found == "[" || *found == "{") ++open_braces;
                if (*found == ")" || *found == "]" || *found == "}") {
                    if (open_braces == 0) return failure_.set(errc::malformed, line_, "'" + std::string(*found) + "' closes nothing");
                    --open_braces;
                }
                push(type::op, std::string(*found));
                advance(at_ + found->size());
            }
        }
    }

    [[nodiscard]] static bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
    [[nodiscard]] static bool is_digit(char c) { return c >= '0' && c <= '9'; }
    [[nodiscard]] char peek(std::size_t ahead) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
    void name() {
        std::size_t n = 1;
        while (is_name_start(peek(n)) || is_digit(peek(n))) ++n;
        push(jinja_token::type::name, std::string(text_.substr(at_, n)));
        advance(at_ + n);
    }
    void number() {
        std::size_t n = 0;
        std::string digits;
        const auto run = [&] {
            while (is_digit(peek(n)) || (peek(n) == '_' && is_digit(peek(n + 1)))) {
                if (peek(n) != '_') digits += peek(n);
                ++n;
            }
        };
        run();
        bool real = false;
        if (peek(n) == '.' && is_digit(peek(n + 1))) {
            real = true;
            digits += '.';
            ++n;
            run();
        }
        const std::size_t sign = peek(n + 1) == '+' || peek(n + 1) == '-' ? 1 : 0;
        if ((peek(n) == 'e' || peek(n) == 'E') && is_digit(peek(n + 1 + sign))) {
            real = true;
            digits += 'e';
            if (sign != 0) digits += peek(n + 1);
            n += 1 + sign;
            run();
        }
        push(real ? jinja_token::type::real : jinja_token::type::integer, digits);
        advance(at_ + n);
    }
    /// Python's unicode-escape.
    void string(char quote) {
        const auto opened = line_;
        std::string value;
        std::size_t i = at_ + 1;
        for (; i < text_.size() && text_[i] != quote; ++i) {
            if (text_[i] != '\\') {
                value += text_[i];
                continue;
            }
            if (++i >= text_.size()) break;
            static constexpr std::string_view from = "\\'\"abfnrtv", to = "\\'\"\a\b\f\n\r\t\v";
            const char e = text_[i];
            if (const auto k = from.find(e); k != from.npos) {
                value += to[k];
            } else if (e == '\n') {  // the line goes on
            } else if (e >= '0' && e <= '7') {
                std::uint32_t c = 0;
                std::size_t n = 0;
                for (; n < 3 && i + n < text_.size() && text_[i + n] >= '0' && text_[i + n] <= '7'; ++n)
                    c = c * 8 + static_cast<std::uint32_t>(text_[i + n] - '0');
                utf8_append(value, c);
                i += n - 1;
            } else if (e == 'x' || e == 'u' || e == 'U') {
                const std::size_t width = e == 'x' ? 2 : e == 'u' ? 4 : 8;
                const auto digits = text_.substr(i + 1, width);
                std::uint32_t c = 0;
                const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), c, 16);
                if (digits.size() != width || end.ptr != digits.data() + width || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
                    return failure_.set(errc::malformed, opened,
                                        std::string("the escape \\") + e + " needs " + std::to_string(width) + " digits of a character");
                utf8_append(value, c);
                i += width;
            } else if (e == 'N') {
                return failure_.set(errc::unsupported, opened, "the escape \\N{name} is not supported");
            } else {
                value += '\\';
                value += e;
            }
        }
        if (i >= text_.size()) return failure_.set(errc::malformed, opened, "a string is never closed");
        push(jinja_token::type::string, std::move(value));
        advance(i + 1);
    }

    std::string source_;
    std::string_view text_;
    std::size_t at_ = 0;
    std::size_t line_ = 1;
    bool line_begins_ = true;
    std::vector<jinja_token> tokens_;
    jinja_failure& failure_;
};

// --- Tree

struct jinja_node {
    enum class type {
        // statements
        block,      // children
        text,       // s
        output,     // children[0]
        for_loop,   // names = targets; iterable, condition or null, body, else or null
        if_chain,   // condition, body, condition, body, ... [else body]
        set,        // names = targets, or s = namespace and names[0] = its member; value
        set_block,  // names[0] = target; body, filters' chain or null (its innermost input is null)
        macro,      // s = name, names = parameters; body, then the defaults of the last parameters
        filter_block,
        stop,  // break
        next,  // continue
        // expressions
        constant,
        name,
        list,
        tuple,
        dict,  // key, value, ...
        member,
        index,
        slice,   // object, from, to, step; absent ones are null
        call,    // callee, arguments; names = of the last arguments
        filter,  // s; input, arguments
        test,    // s; input, arguments
        negate,
        plus,
        logical_not,
        logical_and,
        logical_or,
        binary,   // s
        compare,  // names = operators; operands
        choice    // condition, then, else or null
    };
    type kind = type::block;
    std::size_t line = 1;
    std::size_t depth = 1;
    std::string s;
    jinja_value constant;
    std::vector<std::string> names;
    std::vector<std::unique_ptr<jinja_node>> children;
};
using jinja_tree = std::unique_ptr<jinja_node>;

class jinja_parser {
public:
    jinja_parser(std::vector<jinja_token> tokens, std::size_t nesting_limit, jinja_failure& failure)
        : tokens_(std::move(tokens)), nesting_limit_(nesting_limit), failure_(failure) {}

    [[nodiscard]] jinja_tree run() {
        auto root = statements({});
        if (!failure_ && here().kind != token::end)
            failure_.set(errc::malformed, here().line, "{% " + tokens_[std::min(at_ + 1, tokens_.size() - 1)].text + " %} ends nothing");
        return root;
    }

private:
    using token = jinja_token::type;
    using type = jinja_node::type;

    // A failure ends everything: all loops below see the end of the template.
    [[nodiscard]] const jinja_token& here() const { return failure_ ? tokens_.back() : tokens_[at_]; }
    [[nodiscard]] const jinja_token& ahead() const { return failure_ || at_ + 1 >= tokens_.size() ? tokens_.back() : tokens_[at_ + 1]; }
    jinja_token take() {
        auto t = here();
        if (at_ + 1 < tokens_.size()) ++at_;
        return t;
    }
    [[nodiscard]] bool is(std::string_view op) const { return here().kind == token::op && here().text == op; }
    [[nodiscard]] bool is_name(std::string_view word) const { return here().kind == token::name && here().text == word; }
    bool take_if(std::string_view op) { return is(op) && (take(), true); }
    bool take_name(std::string_view word) { return is_name(word) && (take(), true); }
    void problem(std::string what) { failure_.set(errc::malformed, here().line, std::move(what)); }
    void expect(std::string_view op) {
        if (!take_if(op)) problem("'" + std::string(op) + "' is expected, not " + shown());
    }
    void expect(token kind, const char* what) {
        if (here().kind != kind) return problem(std::string(what) + " is expected, not " + shown());
        take();
    }
    [[nodiscard]] std::string shown() const {
        const auto& t = here();
        if (t.kind == token::end) return "the end of the template";
        if (t.kind == token::block_end) return "'%}'";
        if (t.kind == token::variable_end) return "'}}'";
        return "'" + t.text.substr(0, 40) + "'";
    }
    [[nodiscard]] std::string name() {
        if (here().kind != token::name) problem("a name is expected, not " + shown());
        return take().text;
    }

    template <class... Children>
    [[nodiscard]] jinja_tree make(type kind, std::size_t line, Children... children) {
        auto n = std::make_unique<jinja_node>();
        n->kind = kind;
        n->line = line;
        (add(*n, std::move(children)), ...);
        return n;
    }
    void add(jinja_node& parent, jinja_tree child) {
        if (child) parent.depth = std::max(parent.depth, child->depth + 1);
        if (parent.depth > nesting_limit_) failure_.set(errc::refused, parent.line, "nested deeper than " + std::to_string(nesting_limit_) + " levels");
        parent.children.push_back(std::move(child));
    }

    /// Counts the levels that the parser itself stands in.
    struct level {
        explicit level(jinja_parser& p) : parser(p) {
            if (++parser.nesting_ > parser.nesting_limit_)
                parser.failure_.set(errc::refused, parser.here().line, "nested deeper than " + std::to_string(parser.nesting_limit_) + " levels");
        }
        ~level() { --parser.nesting_; }
        level(const level&) = delete;
        level& operator=(const level&) = delete;
        jinja_parser& parser;
    };

    // --- Statements

    /// Until one of the words stands in a tag; the tag's `{%` is left unread.
    [[nodiscard]] jinja_tree statements(std::initializer_list<std::string_view> until) {
        const level one(*this);
        auto all = make(type::block, here().line);
        while (!failure_ && here().kind != token::end) {
            const auto line = here().line;
            if (here().kind == token::text) {
                auto n = make(type::text, line);
                n->s = take().text;
                add(*all, std::move(n));
            } else if (here().kind == token::variable_begin) {
                take();
                add(*all, make(type::output, line, tuple(true)));
                expect(token::variable_end, "'}}'");
            } else {
                if (std::find(until.begin(), until.end(), ahead().text) != until.end() && ahead().kind == token::name) return all;
                if (ahead().kind == token::name && (ahead().text.starts_with("end") || ahead().text == "else" || ahead().text == "elif")) return all;
                add(*all, statement());
            }
        }
        return all;
    }
    /// Reads `{% word`, where the word is known to stand.
    void open_tag(std::string_view word) {
        if (here().kind != token::block_begin || ahead().kind != token::name || ahead().text != word) {
            const bool at_tag = here().kind == token::block_begin;
            return problem("{% " + std::string(word) + " %} is expected, not " + (at_tag ? "{% " + ahead().text + " %}" : shown()));
        }
        take();
        take();
    }
    void close_tag() { expect(token::block_end, "'%}'"); }
    [[nodiscard]] jinja_tree body_until(std::string_view word) {
        close_tag();
        auto body = statements({word});
        open_tag(word);
        if (here().kind == token::name && word == "endmacro") take();  // may repeat the name
        close_tag();
        return body;
    }

    [[nodiscard]] jinja_tree statement() {
        const auto line = take().line;  // {%
        const auto word = here().kind == token::name ? here().text : std::string();
        if (word == "for") return for_statement(line);
        if (word == "if") return if_statement(line);
        if (word == "set") return set_statement(line);
        if (word == "macro") return macro_statement(line);
        if (word == "generation") {
            take();
            return body_until("endgeneration");
        }
        if (word == "filter") {
            take();
            auto chain = filters(nullptr, true);
            auto body = body_until("endfilter");
            return make(type::filter_block, line, std::move(body), std::move(chain));
        }
        if (word == "break" || word == "continue") {
            take();
            if (loops_ == 0) problem("{% " + word + " %} stands outside a loop");
            close_tag();
            return make(word == "break" ? type::stop : type::next, line);
        }
        if (word.empty())
            problem("a statement is expected, not " + shown());
        else
            failure_.set(errc::unsupported, line, "the statement '" + word + "' is not supported");
        return nullptr;
    }

    [[nodiscard]] jinja_tree for_statement(std::size_t line) {
        take();
        auto n = make(type::for_loop, line);
        n->names = targets();
        if (!take_name("in")) problem("'in' is expected, not " + shown());
        add(*n, tuple(false));
        add(*n, take_name("if") ? expression() : nullptr);
        if (is_name("recursive")) failure_.set(errc::unsupported, line, "recursive loops are not supported");
        close_tag();
        ++loops_;
        add(*n, statements({"endfor", "else"}));
        --loops_;
        if (here().kind == token::block_begin && ahead().text == "else") {
            open_tag("else");
            close_tag();
            add(*n, statements({"endfor"}));
        } else {
            add(*n, nullptr);
        }
        open_tag("endfor");
        close_tag();
        return n;
    }
    [[nodiscard]] std::vector<std::string> targets() {
        std::vector<std::string> all;
        const bool parentheses = take_if("(");
        do all.push_back(name());
        while (!failure_ && take_if(",") && here().kind == token::name);
        if (parentheses) expect(")");
        return all;
    }

    [[nodiscard]] jinja_tree if_statement(std::size_t line) {
        take();
        auto n = make(type::if_chain, line);
        for (;;) {
            add(*n, tuple(true));
            close_tag();
            add(*n, statements({"elif", "else", "endif"}));
            if (failure_ || here().kind != token::block_begin || ahead().text != "elif") break;
            open_tag("elif");
        }
        if (here().kind == token::block_begin && ahead().text == "else") {
            open_tag("else");
            close_tag();
            add(*n, statements({"endif"}));
        }
        open_tag("endif");
        close_tag();
        return n;
    }

    [[nodiscard]] jinja_tree set_statement(std::size_t line) {
        take();
        auto n = make(type::set, line);
        n->names = targets();
        if (n->names.size() == 1 && take_if(".")) {
            n->s = n->names[0];
            n->names[0] = name();
        }
        if (take_if("=")) {
            add(*n, tuple(true));
            close_tag();
            return n;
        }
        if (n->names.size() != 1 || !n->s.empty()) {
            problem("'=' is expected, not " + shown());
            return n;
        }
        n->kind = type::set_block;
        auto chain = is("|") ? filters(nullptr, false) : nullptr;
        add(*n, body_until("endset"));
        add(*n, std::move(chain));
        return n;
    }

    [[nodiscard]] jinja_tree macro_statement(std::size_t line) {
        take();
        auto n = make(type::macro, line);
        n->s = name();
        expect("(");
        std::vector<jinja_tree> defaults;
        while (!failure_ && !is(")")) {
            n->names.push_back(name());
            if (take_if("="))
                defaults.push_back(expression());
            else if (!defaults.empty())
                problem("a parameter without a default follows one with a default");
            if (!take_if(",")) break;
        }
        expect(")");
        const auto outer = std::exchange(loops_, 0);
        add(*n, body_until("endmacro"));
        loops_ = outer;
        for (auto& d : defaults) add(*n, std::move(d));
        return n;
    }

    // --- Expressions, from loose to tight

    /// One expression, or several with commas between: a tuple.
    [[nodiscard]] jinja_tree tuple(bool with_choice) {
        const auto line = here().line;
        auto first = with_choice ? expression() : binary(1);
        if (!is(",")) return first;
        auto n = make(type::tuple, line, std::move(first));
        while (!failure_ && take_if(",")) {
            if (here().kind == token::block_end || here().kind == token::variable_end || is(")")) break;
            add(*n, with_choice ? expression() : binary(1));
        }
        return n;
    }

    [[nodiscard]] jinja_tree expression() {
        const level one(*this);
        auto value = binary(1);
        while (!failure_ && is_name("if")) {
            const auto line = take().line;
            auto condition = binary(1);
            auto other = take_name("else") ? expression() : nullptr;
            value = make(type::choice, line, std::move(condition), std::move(value), std::move(other));
        }
        return value;
    }

    /// The level of a binary operator: or, and, (not), comparison, + -, ~, * / // %, **.
    [[nodiscard]] int level_of_operator() const {
        const auto& t = here();
        if (t.kind == token::name) {
            if (t.text == "or") return 1;
            if (t.text == "and") return 2;
            if (t.text == "in" || (t.text == "not" && ahead().kind == token::name && ahead().text == "in")) return 4;
            return 0;
        }
        if (t.kind != token::op) return 0;
        if (t.text == "==" || t.text == "!=" || t.text == "<" || t.text == "<=" || t.text == ">" || t.text == ">=") return 4;
        if (t.text == "+" || t.text == "-") return 5;
        if (t.text == "~") return 6;
        if (t.text == "*" || t.text == "/" || t.text == "//" || t.text == "%") return 7;
        if (t.text == "**") return 8;
        return 0;
    }
    [[nodiscard]] jinja_tree binary(int lowest) {
        const level one(*this);
        const auto line = here().line;
        jinja_tree left;
        if (lowest <= 3 && is_name("not")) {
            take();
            left = make(type::logical_not, line, binary(3));
        } else {
            left = unary(true);
        }
        for (int at = level_of_operator(); !failure_ && at >= lowest && at != 0; at = level_of_operator()) {
            if (at == 4) {
                auto n = make(type::compare, here().line, std::move(left));
                while (!failure_ && level_of_operator() == 4) {
                    auto op = take().text;
                    if (op == "not") op += " " + take().text;
                    n->names.push_back(std::move(op));
                    add(*n, binary(5));
                }
                left = std::move(n);
                continue;
            }
            const auto op = take();
            auto n = make(at == 1 ? type::logical_or : at == 2 ? type::logical_and : type::binary, op.line, std::move(left), binary(at + 1));
            n->s = op.text;
            left = std::move(n);
        }
        return left;
    }

    [[nodiscard]] jinja_tree unary(bool with_filters) {
        const level one(*this);
        const auto line = here().line;
        jinja_tree n;
        if (take_if("-"))
            n = make(type::negate, line, unary(false));
        else if (take_if("+"))
            n = make(type::plus, line, unary(false));
        else
            n = postfix(primary());
        return with_filters ? filters_and_tests(std::move(n)) : std::move(n);
    }

    [[nodiscard]] jinja_tree primary() {
        const auto t = here();
        auto n = make(type::constant, t.line);
        switch (t.kind) {
            case token::name:
                take();
                if (t.text == "true" || t.text == "True")
                    n->constant = true;
                else if (t.text == "false" || t.text == "False")
                    n->constant = false;
                else if (t.text == "none" || t.text == "None")
                    n->constant = jinja_none{};
                else {
                    n->kind = type::name;
                    n->s = t.text;
                }
                return n;
            case token::string: {
                std::string text;
                while (here().kind == token::string) text += take().text;
                n->constant = std::move(text);
                return n;
            }
            case token::integer: {
                std::int64_t value = 0;
                const auto end = std::from_chars(t.text.data(), t.text.data() + t.text.size(), value);
                if (end.ec != std::errc()) failure_.set(errc::unsupported, t.line, "the number " + t.text.substr(0, 40) + " is too large");
                n->constant = value;
                take();
                return n;
            }
            case token::real: {
                double value = 0;
                const auto end = std::from_chars(t.text.data(), t.text.data() + t.text.size(), value);
                if (end.ec != std::errc()) failure_.set(errc::unsupported, t.line, "the number " + t.text.substr(0, 40) + " is out of range");
                n->constant = value;
                take();
                return n;
            }
            default:
                break;
        }
        if (take_if("(")) {
            if (take_if(")")) return make(type::tuple, t.line);
            auto inner = tuple(true);
            expect(")");
            return inner;
        }
        if (take_if("[")) {
            n->kind = type::list;
            while (!failure_ && !is("]")) {
                add(*n, expression());
                if (!take_if(",")) break;
            }
            expect("]");
            return n;
        }
        if (take_if("{")) {
            n->kind = type::dict;
            while (!failure_ && !is("}")) {
                add(*n, expression());
                expect(":");
                add(*n, expression());
                if (!take_if(",")) break;
            }
            expect("}");
            return n;
        }
        problem("an expression is expected, not " + shown());
        return n;
    }

    [[nodiscard]] jinja_tree postfix(jinja_tree n) {
        while (!failure_) {
            const auto line = here().line;
            if (take_if(".")) {
                if (here().kind == token::integer) {
                    n = make(type::index, line, std::move(n), primary());
                } else {
                    n = make(type::member, line, std::move(n));
                    n->s = name();
                }
            } else if (take_if("[")) {
                n = subscript(line, std::move(n));
                expect("]");
            } else if (is("(")) {
                n = make(type::call, line, std::move(n));
                arguments(*n);
            } else {
                break;
            }
        }
        return n;
    }
    [[nodiscard]] jinja_tree subscript(std::size_t line, jinja_tree object) {
        jinja_tree parts[3];
        std::size_t colons = 0;
        for (;;) {
            if (!is(":") && !is("]")) parts[colons] = expression();
            if (failure_ || colons == 2 || !take_if(":")) break;
            ++colons;
        }
        if (colons == 0) {
            if (!parts[0]) problem("an index is expected, not " + shown());
            return make(type::index, line, std::move(object), std::move(parts[0]));
        }
        return make(type::slice, line, std::move(object), std::move(parts[0]), std::move(parts[1]), std::move(parts[2]));
    }
    void arguments(jinja_node& call) {
        expect("(");
        while (!failure_ && !is(")")) {
            if (is("*") || is("**")) failure_.set(errc::unsupported, here().line, "arguments with * are not supported");
            if (here().kind == token::name && ahead().kind == token::op && ahead().text == "=") {
                call.names.push_back(name());
                take();
            } else if (!call.names.empty()) {
                problem("an argument without a name follows one with a name");
            }
            add(call, expression());
            if (!take_if(",")) break;
        }
        expect(")");
    }

    [[nodiscard]] jinja_tree filters_and_tests(jinja_tree n) {
        while (!failure_) {
            if (is("|"))
                n = filters(std::move(n), false);
            else if (is_name("is"))
                n = test(std::move(n));
            else if (is("("))
                n = postfix(std::move(n));
            else
                break;
        }
        return n;
    }
    /// A chain of filters on n; the first one's bar is absent after {% filter.
    [[nodiscard]] jinja_tree filters(jinja_tree n, bool first_bare) {
        while (!failure_ && (first_bare || is("|"))) {
            if (!std::exchange(first_bare, false)) take();
            const auto line = here().line;
            n = make(type::filter, line, std::move(n));
            n->s = name();
            if (is("(")) arguments(*n);
        }
        return n;
    }
    [[nodiscard]] jinja_tree test(jinja_tree n) {
        const auto line = take().line;
        const bool negated = take_name("not");
        n = make(type::test, line, std::move(n));
        n->s = name();
        if (is("(")) {
            arguments(*n);
        } else if (here().kind == token::string || here().kind == token::integer || here().kind == token::real || is("[") || is("{") ||
                   (here().kind == token::name && !is_name("else") && !is_name("or") && !is_name("and") && !is_name("is") && !is_name("if") && !is_name("in") &&
                    !is_name("not"))) {
            add(*n, postfix(primary()));
        }
        return negated ? make(type::logical_not, line, std::move(n)) : std::move(n);
    }

    std::vector<jinja_token> tokens_;
    std::size_t at_ = 0;
    std::size_t nesting_limit_;
    std::size_t nesting_ = 0;
    std::size_t loops_ = 0;
    jinja_failure& failure_;
};

}  // namespace nibble::chat::detail
