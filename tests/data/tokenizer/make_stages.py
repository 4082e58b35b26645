#!/usr/bin/env python3
"""Frozen answers of the Hugging Face tokenizers library (pip install tokenizers==0.23.3) on single stages.

Writes stages.json: three small models whose merges go across words, so that ids show where a text was cut, and
tokenizers that combine one of them with a stage or with the stages of a published family. Each has the ids of some
texts and what these decode to.
"""
import json
import os

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
BYTES = [f"<0x{b:02X}>" for b in range(256)]
TRAINING = [
    "the other thing is that we're in there, isn't it? THE 12 34 567 2024\n",
    "  def f(x):\n\treturn x + 1  # don't\n\n\n", "é è ü É the théâtre naïve café\n", "中文的一是中文字 中文，日本語のの\n",
    "a_b-c.d,e;f!g the the  the   the\n", "ab ab ab abc abc abcd\n",
]
TEXTS = [
    "", " ", "the other  thing", "  isn't it?\n\n we'RE", "E\u0301 e\u0301\u0327 \u1e9b\u0323 \uac01 \u1100\u1161\u11a8", "ﬁ①Ａ ½\u00a0x",
    "12345 6 ٣², a1b", "中文字，日本語のthe", "a_b-c.d!?  ,;", "\tdef f(x):\n\n\n  return", "\U0001f600 naïve\u200bcafé \u00ff\u3000x ",
    "abc ab  abcd", "<s>the</s> <|x|>  the<|x|>ab", "\u2581a \u2581\u2581b<0x41>", "İΣΑΣ the",
]


def special(content, **flags):
    return {"content": content, "special": True, "normalized": False, "single_word": False, "lstrip": False,
            "rstrip": False, **flags}


def byte_model():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.train_from_iterator(TRAINING, trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return json.loads(tokenizer.to_str())["model"]


def character_model():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.train_from_iterator(TRAINING, trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>"] + BYTES, show_progress=False))
    return json.loads(tokenizer.to_str())["model"]


def unigram_model():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(TRAINING, trainers.UnigramTrainer(
        vocab_size=90, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False))
    return json.loads(tokenizer.to_str())["model"]


def stage(part):
    return None if part is None else json.loads(part.__getstate__())


GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
        r"\s+(?!\S)|\s+")
POSSESSIVE = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|"
              r"\s+(?!\S)|\s+")
KIMI = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}&&[^\p{Han}]]+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"
BEHAVIOURS = ["isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous"]
MISTRAL = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                             decoders.Strip(" ", 1, 0)])


def tokenizers():
    P, N, D = pre_tokenizers, normalizers, decoders
    level = P.ByteLevel(add_prefix_space=False, use_regex=False)

    def split(pattern, behaviour="isolated", invert=False):
        return P.Split(Regex(pattern), behaviour, invert)

    def make(name, model, norm=None, pre=None, dec=None, added=(), **changes):
        return {"name": name, "model": model, "changes": changes, "stages": {
            "normalizer": stage(norm), "pre_tokenizer": stage(pre), "decoder": stage(dec)}, "added": list(added)}

    byte = D.ByteLevel()
    yield make("gpt2", "bytes", None, P.ByteLevel(add_prefix_space=False), byte)
    yield make("prefix space", "bytes", None, P.ByteLevel(add_prefix_space=True), byte)
    yield make("qwen", "bytes", N.NFC(), P.Sequence([split(GPT4), level]), byte, [special("<|x|>")])
    yield make("llama3", "bytes", None, P.Sequence([split(GPT4), level]), byte, [special("<s>")], ignore_merges=True)
    yield make("cl100k", "bytes", None, P.Sequence([split(POSSESSIVE, "removed", True), level]), byte)
    yield make("kimi", "bytes", None, P.Sequence([split(KIMI), level]), byte)
    yield make("deepseek", "bytes", N.Sequence([]), P.Sequence([
        split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"),
        split(r"[!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
        level]), byte)
    yield make("claude", "bytes", N.NFKC(), P.ByteLevel(add_prefix_space=False), byte)
    yield make("sequence of none", "bytes", None, P.Sequence([level]), D.Sequence([byte]))
    for sets in [r"\w+", r"\s|\d", r"[^\W\d]+", r"[[:punct:]]|\h", r"\b", r"[a-z&&[^aeiou]]+", r"(?m:.{2})(?i)x|THE", r"^.|.$",
                 r"[\]\-a]{2}+|\x{e9}|\u00e8", "x*", r"(?<=t)h|(?<w>e)(?=r)", r"\p{^L}+?\n"]:
        yield make("regex " + sets, "bytes", None, P.Sequence([split(sets), level]), byte)
    yield make("mixtral", "characters", N.Sequence([N.Prepend("\u2581"), N.Replace(" ", "\u2581")]), None, MISTRAL,
               [special("<s>"), special("</s>")])
    yield make("mixtral v3", "characters", None, P.Metaspace("\u2581", "first", False), MISTRAL, [special("<s>")])
    yield make("gemma", "characters", N.Replace(" ", "\u2581"), P.Split(" ", "merged_with_previous"),
               D.Sequence([D.Replace("\u2581", " "), D.ByteFallback(), D.Fuse()]))
    yield make("unknown fused", "characters", byte_fallback=False)
    yield make("unknown each", "characters", byte_fallback=False, fuse_unk=False)
    for scheme in ["always", "first", "never"]:
        yield make("metaspace " + scheme, "characters", None, P.Metaspace("\u2581", scheme),
                   D.Metaspace("\u2581", scheme), [special("<s>")])
    for behaviour in BEHAVIOURS:
        for invert in [False, True]:
            yield make(f"split {behaviour} {invert}", "characters", None, split(r"[aeiou\s]", behaviour, invert), D.Fuse())
        yield make("punctuation " + behaviour, "characters", None, P.Punctuation(behaviour), D.Fuse())
    yield make("string", "characters", None, P.Split("th", "merged_with_next"), D.Fuse())
    yield make("digits", "characters", None, P.Digits(False), D.Fuse())
    yield make("each digit", "characters", None, P.Digits(True), D.Fuse())
    yield make("whitespace", "characters", None, P.Whitespace(), D.Fuse())
    yield make("whitespace split", "characters", None, P.Sequence([P.WhitespaceSplit(), P.Punctuation()]), D.Fuse())
    for name, norm in [("NFC", N.NFC()), ("NFD", N.NFD()), ("NFKC", N.NFKC()), ("NFKD", N.NFKD()),
                       ("Lowercase", N.Lowercase()), ("Strip", N.Strip()), ("Strip left", N.Strip(True, False)),
                       ("Replace", N.Sequence([N.Replace(Regex("[aeiou]+"), "_"), N.Replace("_t", "")])),
                       ("Replace nothing", N.Replace(Regex("x*"), "-"))]:
        yield make(name, "characters", norm, split("$^"), D.Fuse())
    yield make("decoders", "characters", N.Replace(" ", "\u2581"), None, D.Sequence([
        D.ByteFallback(), D.Metaspace("\u2581", "never"), D.Replace(Regex("[ab]"), "<>"), D.Strip("t", 1, 0)]))
    yield make("flags", "characters", N.Sequence([N.Lowercase(), N.Replace(" ", "\u2581")]), None, D.Fuse(), [
        special("<|x|>", lstrip=True, rstrip=True), special("the", single_word=True, special=False),
        special("AB", normalized=True, special=False), special("é", lstrip=True, special=False), special("</s>", rstrip=True)])
    yield make("unigram", "unigram", N.NFKC(), P.Metaspace(), D.Metaspace())
    yield make("unigram without", "unigram", None, None, D.Metaspace("\u2581", "never"))


def main():
    chosen = {"bytes": byte_model(), "characters": character_model(), "unigram": unigram_model()}
    sets = []
    for one in tokenizers():
        model = {**chosen[one["model"]], **one["changes"]}
        size = max(model["vocab"].values()) + 1 if isinstance(model["vocab"], dict) else len(model["vocab"])
        ids = {**(model["vocab"] if isinstance(model["vocab"], dict) else {})}
        added = []
        for token in one["added"]:
            fresh = token["content"] not in ids
            added.append({"id": size if fresh else ids[token["content"]], **token})
            size += fresh
        whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "post_processor": None,
                 **one["stages"], "model": model}
        tokenizer = Tokenizer.from_str(json.dumps(whole))
        cases = []
        for text in TEXTS:
            answer = tokenizer.encode(text, add_special_tokens=False).ids
            cases.append([text, answer, tokenizer.decode(answer, skip_special_tokens=False)])
        sets.append({"name": one["name"], "model": one["model"], "changes": one["changes"],
                     "stages": {**one["stages"], "added_tokens": added}, "cases": cases})
    with open(os.path.join(HERE, "stages.json"), "w", encoding="utf-8") as out:
        out.write('{"models":' + json.dumps(chosen, separators=(",", ":")) + ',\n"sets":[\n')
        out.write(",\n".join(json.dumps(one, separators=(",", ":")) for one in sets) + "\n]}\n")


if __name__ == "__main__":
    main()
