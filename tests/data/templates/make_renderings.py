"""Conversations, and what Hugging Face transformers renders of them.

    python3 -m venv venv && venv/bin/pip install transformers==5.24.0 jinja2==3.1.6 tokenizers
    venv/bin/python make_renderings.py

reads *.jinja of this folder's published/ and made/ and writes
conversations.json and renderings.json. strftime_now tells 4 July 2025, 13:05:09.

    venv/bin/python make_renderings.py --against FOLDER build/release/tests/test_chat_template

writes nothing here. It renders NAME.jinja or NAME.ANYTHING.jinja of FOLDER, say
templates whose licence keeps them out of this folder, and tells in how many
conversations made/NAME.jinja says the same; then the program of the tests
renders each of FOLDER and is compared with transformers.
"""

import datetime
import json
import pathlib
import subprocess
import sys
import tempfile

import jinja2
import tokenizers
import transformers
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
IN_FULL = (3, 11, 29)  # conversations whose renderings are kept as texts


class FixedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime(2025, 7, 4, 13, 5, 9)


def tool(name, description, properties, required=None):
    parameters = {"type": "object", "properties": properties, "required": required or []}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


WEATHER = tool(
    "get_weather",
    'Get the weather "now" <at> a place & time.',
    {
        "city": {"type": "string", "description": "The city, e.g. Köln"},
        "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
    },
    ["city"],
)
SEARCH = tool(
    "search",
    "Search.\nTwo lines.",
    {
        "queries": {"type": "array", "items": {"type": "string"}, "description": "what"},
        "limit": {"type": ["integer", "null"], "description": "most", "default": 5},
        "exact": {"type": "boolean"},
        "where": {
            "type": "object",
            "properties": {"lat": {"type": "number"}, "lon": {"type": "number", "nullable": True}},
            "required": ["lat"],
        },
    },
)
NOW = tool("now", "The time.", {})
MIXED = (
    "Grüße, 世界! \U0001f600 e\u0301 \u200b\u00a0 Привет \"quoted\" 'single' <tag> & \\n {{ x }} {% if %}"
)
LINES = "First line.\n\n  indented\n\tTabbed \r\nand the last line  \n"


def system(text):
    return {"role": "system", "content": text}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def result(text, **more):
    return {"role": "tool", "content": text, **more}


def call(name, arguments, number="abcdef123"):
    return {"type": "function", "id": number, "function": {"name": name, "arguments": arguments}}


def text(part):
    return {"type": "text", "text": part}


def in_turns():
    """Asked twice each: with a generation prompt and without."""
    yield [user("Hi")], {}
    yield [system("Be brief."), user("Hi")], {}
    yield [user("Hi"), assistant("Hello!"), user("And now?")], {}
    turns = [system("You are a pirate."), user("Hi"), assistant("Arr."), user("Why?")]
    yield turns + [assistant("Because."), user("Really?")], {}
    yield [user(MIXED), assistant(MIXED[::-1]), user(LINES)], {}
    yield [system(LINES), user(LINES)], {}
    yield [user("")], {}
    yield [system(""), user(""), assistant(""), user("x")], {}
    yield [user("What is the weather?")], {"tools": [WEATHER]}
    yield [system("Use tools."), user("Weather in Köln?")], {"tools": [WEATHER, SEARCH, NOW]}
    asked = [user("Weather?"), assistant("", tool_calls=[call("get_weather", {"city": "Köln", "unit": "c"})])]
    yield asked + [result('{"temp": 21.5}', name="get_weather", tool_call_id="abcdef123")], {"tools": [WEATHER]}
    query = {"queries": ["a", "b"], "limit": 3, "exact": False, "where": {"lat": 1.5, "lon": None}}
    calls = [call("get_weather", {"city": "Paris"}, "call00001"), call("search", query, "call00002")]
    turns = [system("S"), user("Weather?"), assistant("Let me look.", tool_calls=calls)]
    turns += [result("sunny", name="get_weather", tool_call_id="call00001")]
    turns += [result("[1, 2]", name="search", tool_call_id="call00002")]
    yield turns + [assistant("Sunny."), user("Thanks")], {"tools": [WEATHER, SEARCH]}
    yield [user("2+2?"), assistant("<think>\nadd\n</think>\n\n4"), user("3+3?")], {}
    turns = [user("2+2?"), assistant("4", reasoning_content="Two and two."), user("3+3?")]
    yield turns + [assistant("6", reasoning_content="Six.")], {}
    yield [user([text("part one"), text(" part two")]), assistant("ok"), user([text(MIXED)])], {}
    yield [system([text("sys")]), user([text("u")]), assistant([text("a")]), user("end")], {}


def plain():
    """User and assistant in turns, texts alone: what every template takes."""
    turns = [user("One?"), assistant("1"), user("Two?"), assistant("2"), user("Three?"), assistant("3")]
    for count in (1, 3, 5):
        yield turns[:count], {}
    for first in ("  blanks around  ", "\n\nlines around\n\n", "<s>[INST] x [/INST]</s>", "a\u00a0b\u3000c\td"):
        yield [user(first), assistant(first), user("And?")], {}
    yield [user("x\r\ny\rz"), assistant("\u2028\u0085\x1f"), user("\ufeff.")], {}
    yield [user("def f(x):\n    return {\"a\": [x]}\n"), assistant("```c\nint x;\n```"), user("1 < 2 && 3 > 2")], {}
    yield [user("مرحبا"), assistant("שלום"), user("नमस्ते"), assistant("สวัสดี"), user("안녕하세요")], {}
    yield [user("👩‍👩‍👧‍👦 🏳️‍🌈"), assistant("e\u0301\u0327"), user("𝔘𝔫𝔦")], {}
    yield [user("long " * 200), assistant("é" * 300), user("?")], {}


def asked_once():
    prompt = {"add_generation_prompt": True}
    yield [user("a"), assistant("b")], {}
    yield [user("a"), assistant("b"), user("c"), assistant("d")], {"enable_thinking": False}
    yield [system("S"), user("a")], {"enable_thinking": True, **prompt}
    yield [system("S"), user("a")], {"enable_thinking": False, **prompt}
    yield [user("a"), user("b")], prompt
    yield [assistant("first"), user("b")], prompt
    yield [user("a"), system("late"), user("b")], prompt
    yield [{"role": "developer", "content": "D"}, user("a")], prompt
    yield [{"role": "weird", "content": "D"}], prompt
    yield [system("only")], prompt
    asked = [user("a"), assistant(None, tool_calls=[call("now", {})])]
    yield asked + [result("12:00", tool_call_id="abcdef123")], {"tools": [NOW], **prompt}
    asked = [user("a"), assistant("x", tool_calls=[call("now", '{"raw": 1}')])]
    yield asked + [result("12:00", tool_call_id="abcdef123"), assistant("noon")], {"tools": [NOW]}
    asked = [user("a"), assistant("", tool_calls=[{"name": "now", "arguments": {}}])]
    yield asked + [{"role": "tool", "content": {"time": "12:00"}}], {"tools": [NOW], **prompt}
    documents = [{"title": "T1", "text": "text one"}, {"title": "T2", "text": "two"}]
    yield [user("docs?")], {"documents": documents, **prompt}
    yield [user("look "), user([{"type": "image"}, text("what?")])], prompt
    calls = [call("now", {"k": [1, 2.0, True, None, "é<>"]})]
    turns = [user("a"), assistant("b", thinking="deep", tool_calls=calls)]
    turns += [result([text("noon")], name="now", tool_call_id="abcdef123"), assistant("c"), user("d")]
    more = {"reasoning_effort": "high", "builtin_tools": ["browser", "python"], "model_identity": "You are X."}
    yield turns, {"tools": [NOW, SEARCH], **more, **prompt}
    yield [user("x" * 300 + " " + "é" * 100)], {"date_string": "04 Jul 2025", **prompt}


def conversations():
    for prompt in (False, True):
        for messages, more in in_turns():
            yield {"messages": messages, "add_generation_prompt": prompt, **more}
    for messages, more in asked_once():
        yield {"messages": messages, **more}
    for prompt in (False, True):
        for messages, more in plain():
            yield {"messages": messages, "add_generation_prompt": prompt, **more}


def digest(rendering):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in rendering.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def render(tokenizer, conversation):
    """The text, or "!" and why there is none ("!" alone: an error of Python)."""
    arguments = dict(conversation)
    try:
        return tokenizer.apply_chat_template(arguments.pop("messages"), tokenize=False, **arguments)
    except jinja2.exceptions.TemplateError as error:
        raised = type(error) is jinja2.exceptions.TemplateError
        return "!" + str(error) if raised else "!"
    except Exception:  # what a template does with values that it does not expect
        return "!"


def renderings_of(path, asked):
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel({"x": 0}))
    source = path.read_bytes().decode()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=model, chat_template=source, **TOKENS)
    return [render(tokenizer, conversation) for conversation in asked]


def digests_of(texts):
    return [made if made.startswith("!") else digest(made) for made in texts]


def compare(published, name, asked):
    """Prints how a template of ours differs from a published one."""
    path = HERE / "made" / (name + ".jinja")
    if not path.exists():
        return
    ours = renderings_of(path, asked)
    told = [i for i in range(len(asked)) if not published[i].startswith("!")]
    same = [i for i in told if ours[i] == published[i]]
    others = [i for i in told if i not in same]
    refused = sum(ours[i].startswith("!") for i in others)
    print(f"  made/{path.name}: {len(same)} of {len(told)} texts the same, {refused} refused, others: {others}")
    for i in others[:1]:
        print(f"    {i}: {ours[i]!r:.300}\n    not {published[i]!r:.300}")


def against(folder, program):
    asked = list(conversations())
    for path in sorted(pathlib.Path(folder).glob("*.jinja")):
        texts = renderings_of(path, asked)
        with tempfile.TemporaryDirectory() as place:
            scratch = pathlib.Path(place)
            (scratch / path.name).write_bytes(path.read_bytes())
            (scratch / "conversations.json").write_text(json.dumps({"conversations": asked}))
            (scratch / "renderings.json").write_text(json.dumps({path.name: {"digests": digests_of(texts)}}))
            done = subprocess.run([program, place], capture_output=True, text=True)
        count = sum(not made.startswith("!") for made in texts)
        verdict = "as transformers" if done.returncode == 0 else done.stdout + done.stderr
        print(f"{path.name}: {count} of {len(asked)} conversations are texts; rendered {verdict}")
        compare(texts, path.name.split(".")[0], asked)


def main():
    chat_template_utils.datetime = FixedClock
    if sys.argv[1:2] == ["--against"]:
        return against(*sys.argv[2:])
    asked = list(conversations())
    renderings = {}
    for path in sorted(HERE.glob("*/*.jinja")):
        texts = renderings_of(path, asked)
        renderings[str(path.relative_to(HERE))] = {
            "digests": digests_of(texts),
            "texts": {str(i): texts[i] for i in IN_FULL if not texts[i].startswith("!")},
        }
    (HERE / "conversations.json").write_text(json.dumps({"conversations": asked}, ensure_ascii=False, indent=0) + "\n")
    (HERE / "renderings.json").write_text(json.dumps(renderings, ensure_ascii=False, indent=0) + "\n")


if __name__ == "__main__":
    main()
