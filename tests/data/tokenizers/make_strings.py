"""Writes strings.json: the texts by which tokenizers are compared.

Only the standard library is needed. The pools of words are small on purpose: a
pruned vocabulary holds what the texts need, so each further word costs bytes in
every one of them.
"""

import json
import pathlib
import random

FOLDER = pathlib.Path(__file__).parent
SEED = 20261130

WORDS = """the of and to in that is was he for it with as his on be at by had not are but from or have
an they which one you were her all she there would their we him been has when who will more no if out so
said what up its about into than them can only other new some could time these two may then do first any
Model models tokenizer token vocabulary Mixture experts routing rank ranks attention layer weights
Internationalization uncharacteristically antidisestablishmentarianism rhythm Zürich naïve café façade
HTTPServer getElementById snake_case_name camelCaseName SCREAMING_CASE kebab-case-word XMLHttpRequest2
iPhone eBay McDonald O'Brien NASA USA Ph.D. e.g. i.e. etc. COVID-19 GPT-4o LLaMA DeepSeek""".split()

CONTRACTIONS = """don't DON'T I'm I'M you're YOU'RE we've WE'VE she'll SHE'LL he'd HE'D it's IT'S
rock'n'roll 'tis 'Twas o'clock y'all'd've don’t I’m l'été d'accord dell'arte 's 't 're 've 'm 'll 'd
'S 'T 'RE 'VE 'M 'LL 'D 'ſ ſs's x's's K'ſ""".split()

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "All human beings are born free and equal in dignity and rights.",
    "In the beginning was the word, and the word was split into tokens.",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "Falsches Üben von Xylophonmusik quält jeden größeren Zwerg.",
    "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "Todos los seres humanos nacen libres e iguales en dignidad y derechos. ¿Qué? ¡Así!",
    "Tutti gli esseri umani nascono liberi ed eguali.",
    "Todos os seres humanos nascem livres e iguais; não há exceção.",
    "Wszyscy ludzie rodzą się wolni i równi. Zażółć gęślą jaźń.",
    "Všichni lidé rodí se svobodní. Příliš žluťoučký kůň.",
    "Tüm insanlar hür doğarlar. İstanbul'da ılık ırmak.",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng.",
    "Все люди рождаются свободными и равными в своём достоинстве и правах.",
    "Усі люди народжуються вільними і рівними; їжа, ґанок.",
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι.",
    "人人生而自由，在尊严和权利上一律平等。",
    "他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "人人生而自由,在尊嚴和權利上一律平等。",
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "カタカナとひらがな、漢字、ｶﾀｶﾅ、「括弧」。",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "تمام انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں۔",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है।",
    "সমস্ত মানুষ স্বাধীনভাবে জন্মগ্রহণ করে।",
    "மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.",
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกัน",
    "ལུས་དང་སེམས་གཉིས་ཀ",
    "ადამიანები იბადებიან თავისუფალნი",
    "Բոլոր մարդիկ ծնվում են ազատ",
    "ሰው ሁሉ ሲወለድ ነጻ ነው",
    "មនុស្សទាំងអស់",
    "လူတိုင်းသည်",
]

CODE = [
    "int main(void) {\n    return 0;\n}\n",
    "#include <stdio.h>\n#define MAX(a, b) ((a) > (b) ? (a) : (b))\n",
    "for (size_t i = 0; i < n; i++) {\n\tx[i] += 2.5e-3f * y[i];\n}\n",
    "def fibonacci(n: int) -> int:\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n",
    "class Foo(Bar):\n    \"\"\"A docstring.\"\"\"\n\n    def __init__(self, *args, **kwargs):\n        super().__init__()\n",
    "fn main() {\n    let v: Vec<u8> = vec![0u8; 16];\n    println!(\"{:?}\", v);\n}\n",
    "const f = async (x) => { await fetch(`/api/${x}?q=1&r=2`); };\n",
    "SELECT a.id, COUNT(*) FROM t AS a WHERE a.x >= 10 GROUP BY 1;\n",
    "<div class=\"row\"><a href='#top'>Top &amp; bottom</a></div>\n",
    "{\"key\": [1, 2.0, -3e8, null, true], \"nested\": {\"a\": \"b\\n\"}}",
    "all: main.o\n\t$(CC) -o $@ $^ -lm\n",
    "if [ \"$#\" -ne 1 ]; then echo \"usage: $0 FILE\" >&2; exit 2; fi\n",
    "\\begin{equation} \\frac{a^2}{\\sqrt{b}} \\le \\sum_{i=0}^{n} x_i \\end{equation}",
    "x = 0xDEADBEEF; y = 0b1010_1010; z = 1_000_000;\n",
    "std::vector<std::pair<int, char*>>&& v = std::move(w); // done\n",
    "def f():\n\t\treturn [x**2 for x in range(10) if x % 2 == 0]  # noqa\n",
    "package main\n\nimport \"fmt\"\n\nfunc main() {\n\tfmt.Println(\"hi\")\n}\n",
    "@@ -1,3 +1,4 @@\n-old line\n+new line\n context\n",
    "| a | b |\n|---|:-:|\n| 1 | **2** |\n",
    "/* comment */ a->b.c[0]++; a != b && !(c || d) ^ ~e % f;\n",
]

URLS = [
    "https://example.org/a/b?c=d&e=f#g",
    "http://user:pass@host.example.com:8080/~name/index.html",
    "ftp://ftp.example.net/pub/file-1.2.3.tar.gz",
    "mailto:someone+tag@mail.example.co.uk",
    "www.例え.jp/パス",
    "C:\\Users\\name\\Documents\\file.txt",
    "/usr/local/lib/python3.11/site-packages",
    "10.0.0.1:443",
    "2001:db8::ff00:42:8329",
]

EMOJI = ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇫🇷🇯🇵", "❤️", "☃", "✈️", "🧑🏿‍🚀", "1️⃣", "🤷‍♀️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
         "😂😂😂", "🙏", "💩", "🀄", "♟️"]

MARKS = ["e\u0301", "é", "A\u030a", "Å", "Å", "o\u0308\u0304", "ȫ", "o\u0304\u0308", "\u1100\u1161\u11a8", "각", "ﬁ", "ﬃ", "①", "½",
         "㎏", "Ａｂｃ１２３", "ｶﾞ", "ガ", "か\u3099", "が", "क\u093c", "क़", "\u0344", "\u0f73", "q\u0307\u0323", "q\u0323\u0307",
         "ṩ", "s\u0323\u0307", "ſ", "ß", "ẞ", "İ", "i\u0307", "ı", "ǆ", "ǅ", "Ǆ", "ℌ", "ℵ", "²", "₂", "Ⅷ", "ª", "ʰ", "\u0301",
         "\u20dd", "a\u20dd", "لا", "ﻻ", "ﷺ", "שׁ", "ש\u05c1", "豈", "𠮷", "𝕳𝖊𝖑𝖑𝖔", "𝟙𝟚𝟛", "⁉", "…", "‥", "µ", "μ", "ʼn", "ŉ", "¨",
         "\u0e33", "\u0eb3", "ෞ", "\u0d4a", "a\u0300\u0301\u0302\u0303\u0304", "\u0315\u0300\u05ae", "豈", "\ufb2c"]

BLANKS = [" ", "  ", "   ", "    ", "        ", "\t", "\t\t", "\n", "\n\n", "\n\n\n", "\r\n", "\r\n\r\n", "\r", " \n", "\n ", "  \n  ", "\t\n",
          " \t", "\u00a0", "\u3000", "\u2003", "\u2009\u200a", "\u200b", "\u2028", "\u2029", "\u0085", "\v", "\f", "\u1680", "\u202f",
          "\ufeff", "\u2060", "\u00ad", "\u200e", "\u200d", "\u180e", "▁", "▁▁", " ▁ "]

CONTROLS = ["\x00", "\x01", "\x07", "\x08", "\x1b[31m", "\x1c", "\x1f", "\x7f", "\x80", "\x9f", "\ufffe", "\uffff", "\ufffd", "\U0010ffff",
            "\ue000", "\U000e0001", "\U0001fffe", "\ufdd0", "\x00\x00\x00"]

SIGNS = ["!", "?!", "...", "--", "—", "–", "“quoted”", "‘single’", "«guillemets»", "(a)", "[b]", "{c}", "<d>", "a/b", "a\\b", "~", "`x`",
         "^", "_", "__init__", "#tag", "@name", "$5.00", "€10", "£1", "¥100", "5%", "&", "*", "+", "=", "==", "!=", "<=", ">>=", "|", "||",
         ";", ":", ",", "。", "、", "！", "？", "「」", "·", "•", "→", "⇒", "∀x∈ℝ", "≠", "√2", "°C", "©", "™", "§", "¶", "†", "№", "////",
         "::::", "\"\"", "''", "'\"'", "*/", "//\n", "))\n\n", "}\r\n", "!!!\n", "?/", "%/\n", "<0x0A>", "<0xE4>", "<unk>"]

# Added tokens of the families, and what looks like one.
ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>", "<|begin_of_text|>",
         "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>", "<|eot|>", "<|header_start|>",
         "<|header_end|>", "<|begin▁of▁sentence｜>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>",
         "<s>", "</s>", "<pad>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>",
         "<|system|>", "<|observation|>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<EOT>", "<META>", "<META_START>",
         "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|endofprompt|>", "<|fim_prefix|>", "<|fim_middle|>",
         "<|im_user|>", "<|im_assistant|>", "<|im_system|>", "[BOS]", "[EOS]", "|||IP_ADDRESS|||", "|||EMAIL_ADDRESS|||", "<|padding|>",
         "<|start_of_role|>", "<|end_of_role|>", "<|placeholder1|>", "<|im_sep|>", "<|dummy_85|>", "[UNUSED_TOKEN]", "<image>",
         "ADDED", "Added One", "ÄDDED", "added\n", "<|im_start", "|im_end|>", "<|im_start|im_end|>", "<|<|endoftext|>|>"]

BROKEN = ["ff", "fe", "80", "bf", "c0", "c080", "c1bf", "c3", "c328", "e0", "e28e", "e28228", "e08080", "e09fbf", "eda080", "edbfbf",
          "f0", "f09f98", "f0908d", "f0808080", "f08fbfbf", "f4908080", "f5808080", "f8888080", "fc84808080", "61c3", "c361", "41ff42",
          "e4bda0e5a5", "2020f09f", "0a80", "efbfbe80", "7461626c65ff", "ff7461626c65", "68c3a9c3", "edb0806869", "48eda0bdedb88048",
          "3c7c656e646f66746578747c3eff", "ff3c7c656e646f66746578747c3e", "e282ace282"]


def numbers(rng):
    out = [str(n) for n in range(12)]
    for length in range(1, 26):
        out.append("".join(rng.choice("0123456789") for _ in range(length)))
    out += ["3.14159", "-1", "+49 30 1234567", "1,234,567.89", "1.234.567,89", "0x1F", "1e10", "1.5E-7", "12:34:56", "2026-11-30",
            "1/2", "50%", "10²", "x2y3", "v1.2.3-rc4", "007", "1st 2nd 3rd", "٠١٢٣٤٥٦٧٨٩", "०१२३", "１２３４", "一二三", "ⅣⅧ", "½¾",
            "𝟘𝟙", "1234abc5678", "9" * 64, "0" * 33, "1 2 3 4 5 6", "12 345 6789", "1️⃣2️⃣", "10000000000000000000000.0"]
    return out


def runs(rng):
    out = []
    for piece in ["a", "A", " ", "\n", "\t", "-", "=", "*", ".", "é", "字", "😀", "ab", "aA", " a", "\r\n", "0", "'", "e\u0301", "_", "\x00",
                  "\u3000", "ha", "the ", "، ", "!?", "🇩🇪"]:
        for times in (7, 16, 33):
            out.append(piece * times)
    out += [" " * n for n in range(1, 34)] + ["\n" * n for n in range(1, 9)] + ["\t" * n for n in range(1, 9)]
    out += ["x" + " " * n + "y" for n in range(0, 12)] + ["x" + "\n" * n + "y" for n in range(1, 6)]
    out += ["a" * 600, " " * 300, "ab" * 250, "=" * 200, "字" * 120, "\n" * 150, "é" * 90, "9" * 200]
    out.append("".join(rng.choice("abcdefgh") for _ in range(300)))
    return out


def mixtures(rng, count):
    """Parts of all pools with blanks of all kinds between them, or none."""
    pools = [WORDS, WORDS, CONTRACTIONS, SENTENCES, CODE, URLS, EMOJI, MARKS, SIGNS, SIGNS, BLANKS, CONTROLS, ADDED, numbers(rng)]
    out = []
    for _ in range(count):
        text = ""
        for _ in range(rng.randint(2, 5)):
            part = rng.choice(rng.choice(pools))
            if len(part) > 24:
                start = rng.randrange(len(part) - 16)
                part = part[start:start + rng.randint(4, 16)]
            text += part + rng.choice(["", "", " ", " ", " ", "  ", "\n", rng.choice(BLANKS)])
        out.append(text)
    return out


def added(rng):
    """Added tokens inside words, with blanks around, twice, and cut short."""
    out = []
    for token in ADDED:
        out += [token, "word" + token + "word", " " + token + " ", "a  " + token + "\n\n b", token + token]
        out.append(rng.choice(["é", "字", "1", "'", ".", "\t", "Ⅷ", "e\u0301"]) + token +
                   rng.choice(["\u0301", "字", "1", "'s", ".", "\u3000", " x"]))
        out.append(token[:rng.randrange(1, len(token))] + rng.choice(["", " ", token]))
    out.append("<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n")
    out.append("<s>[INST] Hi [/INST] Hello</s>[INST] Bye [/INST]")
    out.append("<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are.<|eot_id|>")
    out.append("<｜begin▁of▁sentence｜>Be brief.<｜User｜>Hi<｜Assistant｜></think>Yes")
    out.append("<|start|>assistant<|channel|>final<|message|>Done.<|return|>")
    return out


def strings():
    rng = random.Random(SEED)
    out = ["", *SENTENCES, *CODE, *URLS, *EMOJI, *MARKS, *BLANKS, *CONTROLS, *SIGNS, *CONTRACTIONS, *numbers(rng), *runs(rng), *added(rng)]
    for pool in (CONTRACTIONS, EMOJI, MARKS, CONTROLS, URLS):
        out += ["x" + p + "y" for p in pool] + [" " + p + " " for p in pool]
    out += [rng.choice(WORDS) + blank + rng.choice(WORDS) for blank in BLANKS]
    out += [blank + "word" + blank for blank in BLANKS]
    for sentence in SENTENCES:
        out += [" " + sentence, sentence.upper()[:24] + "\n", sentence.replace(" ", "")[:20]]
    out += [" ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 6))) for _ in range(120)]
    out += ["".join(rng.choice(MARKS) for _ in range(3)) for _ in range(60)]
    out += ["".join(rng.choice(EMOJI) for _ in range(2)) for _ in range(20)]
    out = list(dict.fromkeys(out))
    while len(out) < 2400:
        out = list(dict.fromkeys(out + mixtures(rng, 50)))
    return out[:2400]


def main():
    texts = strings()
    for text in texts:
        text.encode()
    file = FOLDER / "strings.json"
    with open(file, "w", encoding="utf-8") as out:
        out.write('{"strings": [\n')
        out.write(",\n".join(json.dumps(text, ensure_ascii=True) for text in texts))
        out.write('\n],\n"broken": [\n')
        out.write(",\n".join(json.dumps(text) for text in BROKEN))
        out.write("\n]}\n")
    print(len(texts), "texts of", sum(len(t.encode()) for t in texts), "bytes,", file.stat().st_size, "in the file")


if __name__ == "__main__":
    main()
