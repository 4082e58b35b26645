"""Writes each_stage.json: single stages and flags, each in a tokenizer of its own over one
of four small models, and what the Hugging Face library makes of each eighth text.

    venv/bin/python make_each_stage.py              # writes the file
    venv/bin/python make_each_stage.py NAME TEXT    # prints ids and decodings of a text
"""

import json
import sys

import tokenizers
import xxhash

import trained
from make_tokenizers import FOLDER, answers, load, rows, texts
from sources import added, bpe, byte_level, sequence, split, template, tree

BEHAVIORS = ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
SPECIALS = ["<unk>", "<s>", "</s>"]


def bases(strings):
    """Models: bytes, pieces of characters with bytes for the others, characters with a
    token for those that are not known, and the same with a token for each of them."""
    as_bytes = trained.bytes_trained(strings, 900, byte_level(True), SPECIALS)
    pieces = trained.pieces_trained(strings, 900, SPECIALS, None, trained.metaspace())
    few = [s.encode("ascii", "ignore").decode() for s in strings]
    known = trained.train(few, 500, None, dict(type="Whitespace"), SPECIALS)
    fused = bpe(known["vocab"], known["merges"], unk_token="<unk>", fuse_unk=True)
    return {"bytes": as_bytes, "pieces": pieces, "known": fused, "known_apart": dict(fused, fuse_unk=False)}


def literal(text, behavior="Isolated", invert=False):
    return dict(type="Split", pattern=dict(String=text), behavior=behavior, invert=invert)


def steps(*stages):
    return dict(type="Sequence", normalizers=list(stages))


def replace(content, **pattern):
    return dict(type="Replace", pattern=pattern, content=content)


def splits():
    for behavior in BEHAVIORS:
        for invert in (False, True):
            yield f"Split {behavior} {invert}", split("\\s+|\\p{P}", behavior, invert)
        yield "Split of a text " + behavior, literal(" ", behavior)
        yield "Punctuation " + behavior, dict(type="Punctuation", behavior=behavior)
    yield "Split of a text, inverted", literal("e", "Removed", True)
    for regex in ("\\w+", "[\\w]+", "[^\\W_]+", "\\W", "[[:punct:]]", "\\p{Punct}+", "[[:alpha:]\\d]+", "\\b", "\\s+(?=x)|[^\\S\\n]",
                  "(?i)[a-f]+|ſ|k", "[^\\p{Han}&&\\p{L}]+", "(?<=\\d)\\D|\\h{2}", "\\R"):
        yield "Split " + regex, split(regex)
    yield "Split with an empty match", split("x*")
    yield "Digits", dict(type="Digits", individual_digits=False)
    yield "Digits one by one", dict(type="Digits", individual_digits=True)
    yield "Whitespace", dict(type="Whitespace")
    yield "WhitespaceSplit", dict(type="WhitespaceSplit")
    yield "nothing", sequence()


def normalizers():
    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
        yield form, dict(type=form)
    for left in (False, True):
        for right in (False, True):
            yield f"Strip {left} {right}", dict(type="Strip", strip_left=left, strip_right=right)
    yield "Prepend", dict(type="Prepend", prepend="_ ")
    yield "Replace a text", replace("<>", String="e")
    yield "Replace by nothing", replace("", String=" ")
    yield "Replace a regex", replace("-", Regex="\\s+|\\d")
    yield "a Sequence", steps(dict(type="NFKC"), steps(dict(type="Lowercase")), replace(" ", Regex="\\s+"),
                              dict(type="Strip", strip_left=True, strip_right=True), dict(type="Prepend", prepend=" "))
    yield "an empty Sequence", steps()


def flags():
    for flag in ("lstrip", "rstrip", "single_word", "normalized"):
        yield flag, {flag: True}, None
    yield "lstrip and rstrip", dict(lstrip=True, rstrip=True), None
    yield "single_word and rstrip", dict(single_word=True, rstrip=True), None
    for flag in ("normalized", "lstrip"):
        yield flag + " with Lowercase", {flag: True, "normalized": True}, dict(type="Lowercase")
    yield "normalized with NFD", dict(normalized=True), dict(type="NFD")
    yield "not normalized with NFD", {}, dict(type="NFD")
    yield "normalized with Prepend", dict(normalized=True), dict(type="Prepend", prepend="▁")


def decoders():
    back = trained.BLANK_BACK
    fuse = dict(type="Fuse")
    bytes_back = dict(type="ByteFallback")
    yield "none", None
    yield "ByteFallback", bytes_back
    yield "Fuse", fuse
    yield "Replace a regex", dict(type="Replace", pattern=dict(Regex="[aeiou▁]+"), content="*")
    # Strip with "stop" ends the library where a token is shorter: there is nothing to compare with.
    yield "Strip two", dict(type="Sequence", decoders=[back, bytes_back, fuse, dict(type="Strip", content=" ", start=2, stop=0)])
    yield "Strip before Fuse", dict(type="Sequence", decoders=[dict(type="Strip", content="▁", start=1, stop=0), bytes_back, fuse])
    yield "Fuse before ByteFallback", dict(type="Sequence", decoders=[fuse, bytes_back, back])
    for scheme in ("always", "first", "never"):
        yield "Metaspace " + scheme, trained.metaspace(scheme)


def variants():
    """Name, model, the stages, added tokens."""
    bytes_back = byte_level(True)
    for name, stage in splits():
        yield name, "bytes", dict(pre_tokenizer=sequence(stage, byte_level()), decoder=bytes_back), []
        if "ext" not in name:
            yield name + ", unknown characters", "known", dict(pre_tokenizer=stage), []
    yield "unknown characters apart", "known_apart", dict(pre_tokenizer=dict(type="WhitespaceSplit")), []
    yield "ByteLevel with a blank", "bytes", dict(pre_tokenizer=byte_level(True, True), decoder=bytes_back), []
    yield "ByteLevel with a blank, no words", "bytes", dict(pre_tokenizer=byte_level(False, True), decoder=bytes_back), []
    for name, stage in normalizers():
        yield "normalizer " + name, "bytes", dict(normalizer=stage, pre_tokenizer=byte_level(True), decoder=bytes_back), []
    contents = ["ADDED", "Added One", "<think>", "<|im_start|>", "ÄDDED", "added\n", "is", "é", "the "]
    for name, flag, normalizer in flags():
        # Within the vocabulary's own numbers, behind which the library counts on.
        tokens = [added(900 + i, content, special=i % 2 == 0, **flag) for i, content in enumerate(contents)]
        yield "added " + name, "bytes", dict(normalizer=normalizer, pre_tokenizer=byte_level(True), decoder=bytes_back), tokens
        yield "added " + name + ", one text", "pieces", dict(normalizer=normalizer, pre_tokenizer=trained.metaspace("first", False),
                                                            decoder=trained.metaspace("first")), tokens
    for scheme in ("always", "first", "never"):
        for is_split in (False, True):
            yield f"Metaspace {scheme} {is_split}", "pieces", dict(pre_tokenizer=trained.metaspace(scheme, is_split),
                                                                  decoder=trained.metaspace(scheme, is_split)), []
    for name, stage in decoders():
        yield "decoder " + name, "pieces", dict(pre_tokenizer=trained.metaspace(), decoder=stage), []
    yield "TemplateProcessing", "bytes", dict(pre_tokenizer=byte_level(True), decoder=bytes_back,
                                              post_processor=template([("<s>", 1)])), []


EACH = 8  # texts that are left out


def number(content):
    """The low half of the digest."""
    return f"{xxhash.xxh3_64_intdigest(content) & 0xffffffff:08x}"


def main():
    strings = texts()[::EACH]
    models = bases(texts())
    entries = []
    for name, base, stages, tokens in variants():
        tokens = [added(i, content) for i, content in enumerate(SPECIALS)] + [dict(t) for t in tokens]
        model = json.loads(json.dumps(models[base]))
        for token in tokens[len(SPECIALS):]:
            token["id"] = model["vocab"].setdefault(token["content"], len(model["vocab"]))
        own = load(tree(model, tokens, **stages))
        ids, plain, whole = answers(own, strings)
        if sys.argv[1:2] == [name]:
            at = int(sys.argv[2]) // EACH
            print(repr(strings[at]), ids[at], [own.id_to_token(id) for id in ids[at]], repr(plain[at]), repr(whole[at]))
        digests = [number(b"".join(id.to_bytes(4, "little") for id in i)) + number((p + "\0" + w).encode())
                   for i, p, w in zip(ids, plain, whole)]
        fields = dict(name=name, model=base, added_tokens=tokens, **stages, digests=rows(digests))
        entries.append("{" + ",\n".join(json.dumps(key) + ":" + json.dumps(value, separators=(",", ":"))
                                       for key, value in fields.items()) + "}")
    if sys.argv[1:]:
        return
    content = '{"models":' + json.dumps(models, ensure_ascii=False, separators=(",", ":")) + ',\n"tokenizers":[\n' + \
        ",\n".join(entries) + "]}\n"
    (FOLDER / "each_stage.json").write_text(content)
    print("tokenizers", tokenizers.__version__, len(entries), "tokenizers,", len(content.encode()), "bytes")


if __name__ == "__main__":
    main()
