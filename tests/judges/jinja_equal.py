#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares nibble's chat template interpreter with PyPI `jinja2`, set up as Hugging Face transformers sets it up.

    jinja_equal.py [--render PROGRAM] [FILE.jinja | tokenizer_config.json]...
    jinja_equal.py --write tests/data/chat/renderings.json

PROGRAM is tests/judges/jinja_render.cpp, compiled; without --render it is compiled with $CXX or c++. Without files: the templates of
tests/data/chat/templates and the list SNIPPETS below. Each is rendered on conversations of many kinds. Where jinja2 fails, nibble must
fail too; where nibble fails alone, that is a difference. Exit status 77 with a reason: skipped.
--write stores jinja2's renderings of the templates for the test suite.
"""
import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment
except ImportError as e:
    print(f"skipped: {e} (pip install jinja2)")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOW = datetime.datetime(2024, 7, 26, 9, 5, 7)


class Generation(Extension):
    """{% generation %} marks the assistant's text; what is inside is rendered as it stands."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: NOW.strftime(format)
    return env


def conversations():
    """Contexts: what transformers hands to a chat template."""
    user, answer, system = "Hello, \"you\"!\n  {{ x }} <|im_end|>", "Hi & <b>bye</b> \u00e9\u4f60 ", " Be brief.\n"
    u, a, s = ({"role": r, "content": c} for r, c in (("user", user), ("assistant", answer), ("system", system)))
    thought = {"role": "assistant", "content": "<think>\nlet me see\n</think>\n\nIt is 4."}
    weather = {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "which"}, "days": {"type": ["integer", "string"]}}, "required": ["city"]}}}
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "abcdef123", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris", "days": 2.5, "deep": [None, True]}}}]}
    tool = {"role": "tool", "name": "get_weather", "tool_call_id": "abcdef123", "content": "{\"sky\": \"blue\"}"}
    parts = {"role": "user", "content": [{"type": "text", "text": " look "}, {"type": "image"}]}
    lists = [[u], [u, a, u], [s, u], [s, u, a, u, a, u], [u, thought, u], [u, a], [a, u], [s, s, u], [u, call, tool, tool], [parts], [], [u, u], [s], [u, thought], [u, call]]
    base = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    for messages in lists:
        for more in ({"add_generation_prompt": True}, {"add_generation_prompt": False}, {"add_generation_prompt": True, "tools": [weather]},
                     {"add_generation_prompt": True, "enable_thinking": False, "date_string": "1 Jan 2025"}):
            yield {"messages": messages, **base, **more}
    yield {"messages": lists[0], "add_generation_prompt": True}


SNIPPETS = r'''
a{% if true %}
  b
{% endif %}
c
----
  {%- for i in range(3) -%}  {{ i }} {%+ if i %}x{% endif %} {%- endfor %} .
----
{# note #}
x  {# note -#}   y
----
   {%+ if 1 %}kept{% endif +%}
next
----
{% raw %} {{ x }} {% endraw %}|{%- raw -%}  y  {%- endraw -%}  z
----
{{ 1 + 2 * 3 ** 2 // 4 - -7 % 3 }} {{ 7 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** -1 }} {{ 1e3 }} {{ 1.5e-7 }} {{ 10 ** 15 * 1.0 }} {{ 1e16 }} {{ 0.1 + 0.2 }}
----
{{ "a" ~ 1 ~ none ~ true ~ 1.0 ~ undefined_thing }}{{ "x" * 3 }}{{ 'é' ~ "\u4f60\x41\n\'" }}
----
{{ [1, 'a', none, true, 1.5, [], {}, {'k': "v'"}] }} {{ (1,) }} {{ (1, 2) }} {{ () }}
----
{{ {'a': 1, 'b': [1, {'c': none}]} | tojson }} {{ {'a': [], 'b': {}, 'c': [1]} | tojson(indent=2) }} {{ "é\u2028<&'\"\\/\b" | tojson }} {{ 'é😀' | tojson(ensure_ascii=true) }}
----
{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }} {{ {'b': 1, 'A': 2} | dictsort }} {{ {'b': 1}.items() | list }}
----
{% for k, v in {'x': 1, 'y': 2}.items() %}{{ k }}={{ v }}{{ ', ' if not loop.last }}{% endfor %}
----
{% for x in [3, 1, 2] if x != 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }}:{{ loop.previtem }}:{{ loop.nextitem is defined }}:{{ loop.cycle('a', 'b') }} {% else %}none{% endfor %}{% for x in [] %}{% else %}empty{% endfor %}
----
{% for x in [1, 2, 3, 4, 5] %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}
----
{% set ns = namespace(n=0, s='') %}{% for i in range(5) %}{% set ns.n = ns.n + i %}{% set ns.s = ns.s ~ i %}{% set lost = i %}{% endfor %}{{ ns.n }} {{ ns.s }} {{ lost is defined }}
----
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set x %}  block {{ a }} {% endset %}[{{ x }}]{% set y | trim | upper %}  abc {% endset %}[{{ y }}]{% filter upper | trim %} q {% endfilter %}
----
{% macro m(a, b='x', c=none) %}<{{ a }}|{{ b }}|{{ c }}>{% endmacro %}{{ m(1) }}{{ m(1, c=2) }}{{ m(b=3, a=4) }}{{ m() }}
----
{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}
----
{{ ' a b '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'a,b,,c'.split(',') }}|{{ ' a  b '.split() }}|{{ 'a,b,c'.split(',', 1) }}|{{ 'a,b,c'.rsplit(',', 1) }}|{{ 'abc'.startswith('ab') }}|{{ 'abc'.endswith(('x', 'c')) }}
----
{{ 'hello wOrld-foo bar2x'.title() }} {{ 'hello World' | capitalize }} {{ 'a-b' | title }} {{ 'aXbXc'.replace('X', '') }} {{ 'aaa' | replace('a', 'b', 2) }} {{ 'abc'.replace('', '-') }} {{ 'a\nb\r\nc'.splitlines() }}
----
{{ 'héllo'[1] }} {{ 'héllo'[-1] }} {{ 'héllo'[1:3] }} {{ 'héllo'[::-1] }} {{ [1, 2, 3, 4][::2] }} {{ [1, 2, 3][-2:] }} {{ [1, 2, 3][5:] }} {{ [1, 2, 3][:-1] }} {{ [1,2,3][3:0:-1] }} {{ [1][7] is defined }} {{ 'héllo' | length }}
----
{{ [1, 2] + [3] }} {{ 1 in [1, 2] }} {{ 'b' in 'abc' }} {{ 'k' not in {'k': 1} }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ none == none }} {{ nope == nope2 }}
----
{{ x is defined }} {{ x is undefined }} {{ none is none }} {{ 'a' is string }} {{ {} is mapping }} {{ [] is iterable }} {{ 'a' is iterable }} {{ 1 is number }} {{ true is number }} {{ true is integer }} {{ 1 is integer }} {{ 1.0 is float }} {{ true is boolean }} {{ [] is sequence }} {{ {} is sequence }} {{ 3 is odd }} {{ 4 is divisibleby 2 }} {{ 4 is divisibleby(3) }} {{ 1 is not none }} {{ 'a' is in ['a'] }} {{ 1 is sameas 1 }} {{ 'A' is upper }} {{ 1 is eq 1 }} {{ false is false }} {{ 1 is true }}
----
{{ not x is defined }} {{ not 1 == 2 }} {{ 1 and 0 or 'z' }} {{ '' or none }} {{ 'a' if false }} {{ 'a' if 1 else 'b' if 2 else 'c' }}
----
{{ [{'a': 1, 'r': 'x'}, {'a': 2, 'r': 'y'}, {'r': 'x'}] | selectattr('r', 'equalto', 'x') | map(attribute='a') | list }} {{ [{'a': 1}, {}] | rejectattr('a', 'defined') | list }} {{ [1, 2, 3] | select('odd') | list }} {{ [0, 1] | reject | list }} {{ ['a', 'b'] | map('upper') | join('-') }} {{ [{'a': {'b': 1}}] | map(attribute='a.b') | list }} {{ [{}] | map(attribute='q', default='d') | list }}
----
{{ [1, 2, 3] | join(', ') }} {{ [{'n': 1}] | join('', attribute='n') }} {{ [3, 1, 2] | sort }} {{ ['b', 'A', 'c'] | sort }} {{ [1, 2] | reverse | list }} {{ 'abc' | reverse }} {{ [1, 2] | first }} {{ 'abc' | last }} {{ 'abc' | list }} {{ {'a': 1} | list }} {{ {'a': 1} | length }}
----
{{ x | default('d') }} {{ '' | default('d', true) }} {{ none | default('d') }} {{ x | d }} {{ '42' | int }} {{ 'z' | int(7) }} {{ '3.9' | int }} {{ 3.9 | int }} {{ '1.5' | float }} {{ 1 | string + '2' }} {{ -3 | abs }} {{ [] | string }}
----
{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent(2, blank=true) }}|{{ 'a\n' | indent }}|{{ 'a\nb' | indent('>>') }}
----
{{ strftime_now('%d %b %Y %H:%M:%S %A %j %p %-d %%') }}
----
{{ [3, 1, 2] | min }} {{ ['b', 'A'] | max }} {{ [{'t': 'b'}, {'t': 'A'}] | sort(attribute='t') }} {{ ['b', 'C', 'a'] | sort(reverse=true) }} {{ none | selectattr('a') | list }} {{ 'a{}b{}{{}}'.format(1, 'x') }} {{ '{1}{0}'.format('a', 'b') }} {{ '<' | safe }} {{ '<' | safe + '<&\'">' }} {{ '<' + ('>' | safe) }} {{ '<' | safe ~ '>' }} {{ [] | min }}
----
{% if messages[0].role == 'system' -%} sys {%- elif messages[0]['role'] == 'user' -%} usr {%- else -%} other {%- endif %}!
----
{{ messages[0].nothing }}|{{ messages[0].nothing is defined }}|{{ messages | length }}
----
{{ x.y }}
----
{{ 'a' + 1 }}
----
{{ x + 'a' }}
----
{{ 1 / 0 }}
----
{% for a, b in [[1, 2], [3]] %}{{ a }}{% endfor %}
----
{% if x %}
----
{{ 'abc }}
----
{{ raise_exception('no') }}
----
{% generation %}inside {{ 1 }}{% endgeneration %}
----
{%- set x = "a" "b" -%}{{ x }}{{ x.upper().lower().title() }}{{ {'a': {'b': [1, 2]}}.a.b[1] }}{{ {'get': 1}.get('get', 2) }}{{ {}.get('z') }}{{ {}.get('z', 3) }}{{ {'a': 1, 'b': 2}.keys() | list }}{{ {'a': 1, 'b': 2}.values() | list }}
----
{% set messages = messages[1:] %}{{ messages | length }}{% for m in messages %}{% set messages = 5 %}{% endfor %}{{ messages is sequence }}
----
{% for i in range(2) %}{% for j in range(2) %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}{% for c in 'aé' %}[{{ c }}]{% endfor %}{{ range(5, 0, -2) | list }}
----
{% if 1 %}{% set inside = 1 %}{% endif %}{{ inside }}{% for i in [1] %}{{ inside }}{% set inside = 2 %}{{ inside }}{% endfor %}{{ inside }}
----
{{ 'a' in undefined_thing }} {{ undefined_thing | length }} {% for x in undefined_thing %}{% endfor %}{{ undefined_thing | join }} {{ undefined_thing | list }}
----
{{ '%s' }} {{ "tab\there" }} {{ 'back\\slash' }} {{ "\q" }} {{ 'a' 'b' }}
----
a

{%- if true %}

b

{%- endif %}

c
----
line {{- ' x ' -}} line
{{ 1 }}
{{ 2 }}

'''


def snippets():
    return [s.strip("\n") if i else s[1:] for i, s in enumerate(SNIPPETS.split("\n----\n"))]


def templates_of(path):
    text = pathlib.Path(path).read_text(encoding="utf-8")
    if not str(path).endswith(".json"):
        return {str(path): text}
    found = json.loads(text).get("chat_template")
    if isinstance(found, list):
        return {f"{path}:{t['name']}": t["template"] for t in found}
    return {str(path): found} if found else {}


def compile_renderer(folder):
    program = os.path.join(folder, "jinja_render")
    subprocess.run([os.environ.get("CXX", "c++"), "-std=c++20", "-O1", "-I", ROOT / "include", ROOT / "tests/judges/jinja_render.cpp", "-o", program], check=True)
    return program


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--render")
    parser.add_argument("--write")
    parser.add_argument("files", nargs="*")
    arguments = parser.parse_args()
    env = environment()
    named = {}
    for path in arguments.files or sorted((ROOT / "tests/data/chat/templates").glob("*.jinja")):
        named.update(templates_of(path))
    if not arguments.files:
        named.update({f"snippet {i}": s for i, s in enumerate(snippets())})
    cases, expected, names = [], [], []
    for name, template in named.items():
        contexts = list(conversations())
        for context in contexts[:1] if name.startswith("snippet") else contexts:
            cases.append({"template": template, "context": context})
            names.append(name)
            try:
                expected.append({"text": env.from_string(template).render(**json.loads(json.dumps(context)))})
            except Exception as e:  # whatever Python raises
                expected.append({"error": f"{type(e).__name__}: {e}"})
    if arguments.write:
        stored = {}
        for name, case, want in zip(names, cases, expected):
            key = pathlib.Path(name).name
            entry = stored.setdefault(key, {"template": case["template"]} if name.startswith("snippet") else {})
            entry.setdefault("texts", []).append(want.get("text"))
        texts = sorted({t for e in stored.values() for t in e["texts"] if t is not None})
        at = {t: i for i, t in enumerate(texts)}
        for e in stored.values():
            e["texts"] = [None if t is None else at[t] for t in e["texts"]]
        out = {"made_by": f"tests/judges/jinja_equal.py with jinja2 {jinja2.__version__}", "contexts": list(conversations()), "texts": texts, "templates": stored}
        pathlib.Path(arguments.write).write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        program = arguments.render or compile_renderer(folder)
        path = os.path.join(folder, "cases.json")
        now = [NOW.year, NOW.month, NOW.day, NOW.isoweekday() % 7, NOW.hour, NOW.minute, NOW.second, NOW.timetuple().tm_yday]
        pathlib.Path(path).write_text(json.dumps({"now": now, "cases": cases}), encoding="utf-8")
        answers = json.loads(subprocess.run([program, path], check=True, capture_output=True).stdout)
    differences, refused = 0, 0
    for name, case, want, got in zip(names, cases, expected, answers):
        same = want.get("text") == got.get("text") if "text" in want else "error" in got
        refused += "error" in want
        if not same:
            differences += 1
            if differences <= 20:
                print(f"{name}:\n  context {json.dumps(case['context'])[:300]}\n  jinja2 {json.dumps(want)[:600]}\n  nibble {json.dumps(got)[:600]}")
    print(f"{len(named)} templates, {len(cases)} renderings, of which {refused} fail in both: {differences} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
