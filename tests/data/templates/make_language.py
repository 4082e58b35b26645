"""What jinja2 makes of the templates in language.json, written back into it.

    venv/bin/python make_language.py

Each case has a "template" over the "variables" of the file, and gets "text", or
"error" with the name of the exception.
"""

import json
import pathlib

from make_renderings import FixedClock
from transformers.utils import chat_template_utils

PATH = pathlib.Path(__file__).parent / "language.json"


def main():
    chat_template_utils.datetime = FixedClock
    file = json.loads(PATH.read_text())
    for case in file["cases"]:
        case.pop("text", None)
        case.pop("error", None)
        try:
            case["text"] = chat_template_utils._compile_jinja_template(case["template"]).render(**file["variables"])
        except Exception as error:  # whatever Python has to say
            case["error"] = type(error).__name__
    PATH.write_text(json.dumps(file, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
