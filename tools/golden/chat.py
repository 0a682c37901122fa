#!/usr/bin/env python3
"""Writes crates/tokenizer/tests/golden/chat.json: what Jinja makes of chat templates.

    python3 -m venv VENV && VENV/bin/pip install -r tools/golden/requirements-tokenizer.txt
    VENV/bin/python tools/golden/chat.py

Jinja is set up as transformers does it. All templates are written here; they use what published ones use.
"""

import datetime
import json
import pathlib

from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

OUT = pathlib.Path(__file__).resolve().parents[2] / "crates/tokenizer/tests/golden/chat.json"
NOW = 1_700_000_000

TEMPLATES = {
    "blocks and line ends": """
{% for m in messages %}
    {% if m.role == 'user' %}
[{{ m.content }}]
    {% else %}
        {{- '<' + m.content + '>' }}
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}
assistant:
{% endif %}
""",
    "whitespace control": "{%- for m in messages -%}  {{- m.role }}: {{ m.content -}}  {%- if not loop.last %}\n\n{%- endif %} {%- endfor -%} \n end",
    "loop variables": "{% for m in messages %}{{ loop.index }}/{{ loop.length }} {{ loop.index0 }} {{ loop.first }} {{ loop.last }} {{ loop.cycle('a', 'b') }} {{ loop.revindex }};{% endfor %}",
    "namespace": "{% set ns = namespace(system='', n=0) %}{% for m in messages %}{% if m.role == 'system' %}{% set ns.system = m.content %}{% else %}{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}{{ ns.system }}|{{ ns.n }}",
    "the first message apart": "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}{% else %}{% set system = false %}{% set rest = messages %}{% endif %}{{ bos_token }}{% if system %}<<{{ system | trim }}>>{% endif %}{% for m in rest %}{{ m['content'] }}{{ eos_token if m['role'] == 'assistant' }}{% endfor %}",
    "alternation is insisted on": "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate: ' + m.role) }}{% endif %}{{ m.content }}{% endfor %}",
    "string methods": "{% for m in messages %}{{ m.content.strip() }}|{{ m.content.split(' ')[-1] }}|{{ m.content.startswith('He') }}|{{ m.content.upper() }}|{{ m.content.replace('e', 'E') }}|{{ m.role.title() }}|{{ m.content.lstrip().rstrip('!') }}\n{% endfor %}",
    "thinking is cut away": "{% for m in messages %}{% if '</think>' in m.content %}{{ m.content.split('</think>')[-1].lstrip('\\n') }}{% else %}{{ m.content }}{% endif %}\n{% endfor %}",
    "filters": "{{ messages | map(attribute='role') | join(',') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | length }} {{ (messages | first).role }} {{ (messages | last).content | upper }} {{ 'x' | default('y') }} {{ nothing | default('none') }} {{ '  a ' | trim }} {{ ['b', 'a'] | sort | join }} {{ 'abc' | replace('b', '') }} {{ 3 | string + '4' }}",
    "tests": "{{ tools is defined }} {{ tools is none }} {{ nothing is defined }} {{ messages[0].content is string }} {{ messages is iterable }} {{ messages[0] is mapping }} {{ messages[0].content is not mapping }} {{ 3 is number }} {{ 'role' in messages[0] }} {{ true is boolean }}",
    "tools": "{% if tools %}{% for tool in tools %}{{ tool | tojson }}\n{{ tool.function | tojson(indent=2) }}\n{% for name, p in tool.function.parameters.properties.items() %}{{ name }}={{ p.type }}{{ ', ' if not loop.last }}{% endfor %}\n{% endfor %}{% else %}no tools{% endif %}",
    "calls": "{% for m in messages %}{% if m.tool_calls is defined and m.tool_calls %}{% for call in m.tool_calls %}<call>{\"name\": \"{{ call.function.name }}\", \"arguments\": {{ call.function.arguments | tojson }}}</call>{% endfor %}{% elif m.get('content') %}{{ m.content }}{% else %}-{% endif %}{% endfor %}",
    "macros": "{% macro turn(role, text, last=false) %}<{{ role }}>{{ text }}{% if not last %}</{{ role }}>{% endif %}{% endmacro %}{% for m in messages %}{{ turn(m.role, m.content, loop.last) }}{% endfor %}",
    "break and continue": "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.content }}{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
    "numbers and comparisons": "{{ 7 // 2 }} {{ 7 % 3 }} {{ 2 ** 3 }} {{ 1.5 + 1 }} {{ 10 / 4 }} {{ 1 < 2 and not 3 == 4 }} {{ [1, 2] + [3] }} {{ -5 | abs }} {{ (1, 2)[1] }} {{ messages[-1].role }} {{ range(3) | list }}",
    "escapes and literals": "{{ 'a\\n\\tb' }}{{ \"it's\" }}{{ {'k': 'v'}['k'] }}{{ none }}{{ true }}{{ [1, 'x', none, true, 2.0] }}{# a comment #}{{ '<&>\"' }}{% raw %}{{ raw }}{% endraw %}",
    "the date": "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d %H:%M:%S') }} {{ strftime_now('%A %B %j') }}",
    "reversed and nested loops": "{% for m in messages | reverse %}{{ m.role[0] }}{% for c in m.content[:3] %}.{{ c }}{% endfor %} {% endfor %}{% for m in messages[::-1] %}{{ m.role }}{% endfor %}",
    "an else branch of a loop": "{% for m in messages if m.role == 'nobody' %}{{ m.content }}{% else %}nobody spoke{% endfor %}",
    "set blocks": "{% set text %}{% for m in messages %}{{ m.content }};{% endfor %}{% endset %}{{ text | trim | length }} {{ text }}",
    "a call block": "{% macro box() %}[{{ caller() }}]{% endmacro %}{% call box() %}{{ messages[0].content }}{% endcall %}",
}

TOOL = {"type": "function", "function": {"name": "melt", "description": "Melts \"ore\" <&> né 🔥", "parameters": {
    "type": "object", "properties": {"kind": {"type": "string"}, "kilos": {"type": "number", "minimum": 0.5}}, "required": ["kind"]}}}
CALL = {"function": {"name": "melt", "arguments": {"kind": "iron", "kilos": 3}}}
CHATS = {
    "plain": dict(messages=[{"role": "user", "content": "Hello there!"}, {"role": "assistant", "content": " Hi. "},
                            {"role": "user", "content": "né 🔥 <b>"}], add_generation_prompt=True),
    "with a system message": dict(messages=[{"role": "system", "content": " Be brief.\n"}, {"role": "user", "content": "Hey"},
                                            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes"}], add_generation_prompt=False),
    "with tools": dict(messages=[{"role": "user", "content": "Melt"}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
                                 {"role": "tool", "content": "done"}, {"role": "user", "content": "Good"}],
                       tools=[TOOL], add_generation_prompt=True),
}


def environment():
    def raise_exception(message):
        raise TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(form):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(form)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def main():
    env = environment()
    rows = []
    for name, source in TEMPLATES.items():
        template = env.from_string(source)
        for chat, options in CHATS.items():
            try:
                text = template.render(bos_token="<s>", eos_token="</s>", **{"tools": None, **options})
                rows.append({"name": f"{name}, {chat}", "template": source, "chat": chat, "text": text})
            except TemplateError as error:
                rows.append({"name": f"{name}, {chat}", "template": source, "chat": chat, "error": str(error)})
    value = {"now": NOW, "chats": CHATS, "cases": rows}
    OUT.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    assert OUT.stat().st_size < 64 * 1024
    print(f"{len(rows)} cases, {OUT.stat().st_size} bytes")


main()
