"""Tokenizers whose vocabularies no package has: the stages that a family publishes,
or stages put together to be tried, over a vocabulary trained on the texts
themselves. Their names end in _like."""

import json

import tokenizers
from tokenizers import trainers

from sources import CL100K, O200K, Source, added, bpe, byte_level, numbered, sequence, split, template, tree

FALLBACK = [f"<0x{b:02X}>" for b in range(256)]
BLANK_BACK = dict(type="Replace", pattern=dict(String="▁"), content=" ")


def metaspace(scheme="always", is_split=True):
    return dict(type="Metaspace", replacement="▁", prepend_scheme=scheme, split=is_split)


def train(strings, size, normalizer=None, pre_tokenizer=None, specials=(), alphabet=(), model="BPE"):
    """vocab and merges, or the pieces of a Unigram model."""
    start = dict(type="BPE", vocab={}, merges=[]) if model == "BPE" else dict(type="Unigram", vocab=[["", 0.0]], unk_id=0)
    empty = tree(start, [], normalizer, pre_tokenizer)
    own = tokenizers.Tokenizer.from_str(json.dumps(empty))
    if model == "BPE":
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(specials), initial_alphabet=list(alphabet),
                                      show_progress=False)
    else:
        trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=list(specials), unk_token=specials[0],
                                          show_progress=False)
    # No token has NUL, which no key of an object has in the JSON library of the tests.
    own.train_from_iterator([s for s in strings for _ in range(2) if "\0" not in s], trainer)
    out = json.loads(own.to_str())["model"]
    if model == "Unigram":  # texts that spell a special token make a piece of it
        pieces = {}
        for piece, score in out["vocab"]:
            # Short numbers, for the library reads long ones with a last bit of its own.
            pieces.setdefault(piece, round(score * 1024) / 1024)
        out["vocab"] = [list(entry) for entry in pieces.items()]
    return out


def bytes_trained(strings, size, pre_tokenizer, specials, normalizer=None):
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    model = train(strings, size, normalizer, pre_tokenizer, specials, sorted(alphabet))
    return bpe(model["vocab"], model["merges"])


def pieces_trained(strings, size, specials, normalizer=None, pre_tokenizer=None):
    model = train(strings, size, normalizer, pre_tokenizer, [*specials, *FALLBACK])
    merges = [m for m in model["merges"] if "".join(m) not in FALLBACK]  # of texts that spell a byte
    return bpe(model["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def behind(vocab, *contents, **flags):
    """Added tokens behind the vocabulary, which is trained on texts that have them: one
    that became a token of its own keeps the id."""
    out = []
    for content in contents:
        out.append(added(vocab.setdefault(content, len(vocab)), content, **flags))
    return out


def gemma_like(strings):
    """Runs of line feeds and blanks, and words of HTML, are added tokens too."""
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    runs = ["\n" * n for n in range(1, 9)] + ["▁" * n for n in range(2, 9)] + ["<table>", "<div>", "</a>", "<h1>"]
    normalizer = dict(type="Replace", pattern=dict(String=" "), content="▁")
    pre = dict(type="Split", pattern=dict(String=" "), behavior="MergedWithPrevious", invert=False)
    model = pieces_trained(strings, 3000, specials + runs, normalizer, split("▁+[^▁]*"))
    vocab = model["vocab"]
    tokens = [added(vocab[t], t) for t in specials] + [added(vocab[t], t, special=False) for t in runs]
    return tree(model, tokens, normalizer, pre, template([("<bos>", vocab["<bos>"])]),
                dict(type="Sequence", decoders=[BLANK_BACK, dict(type="ByteFallback"), dict(type="Fuse")]))


def phi3_like(strings):
    """Llama 2's stages, and added tokens that take the blanks behind them."""
    specials = ["<unk>", "<s>", "</s>"]
    normalizer = dict(type="Sequence", normalizers=[
        dict(type="Prepend", prepend="▁"), dict(type="Replace", pattern=dict(String=" "), content="▁")])
    model = pieces_trained(strings, 3000, specials, normalizer, split("▁+[^▁]*"))
    vocab = model["vocab"]
    tokens = [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>", special=False, rstrip=True)]
    tokens += behind(vocab, "<|endoftext|>", "<|im_start|>") + \
        behind(vocab, "<|assistant|>", "<|placeholder1|>", "<|system|>", "<|end|>", "<|user|>", rstrip=True)
    return tree(model, tokens, normalizer, None, template([("<s>", 1)]),
                dict(type="Sequence", decoders=[BLANK_BACK, dict(type="ByteFallback"), dict(type="Fuse"),
                                                dict(type="Strip", content=" ", start=1, stop=0)]))


def deepseek_v2_like(strings):
    pre = sequence(
        split("[\r\n]"), split("\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅ]+"),
        split("\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+"), split("\\s+$"), split("[一-龥ࠀ-一가-퟿]+"),
        dict(type="Digits", individual_digits=True), byte_level())
    model = bytes_trained(strings, 3000, pre, [])
    vocab = model["vocab"]
    tokens = behind(vocab, "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", normalized=True) + \
        behind(vocab, "<｜User｜>", "<｜Assistant｜>", special=False, normalized=True)
    return tree(model, tokens, dict(type="Sequence", normalizers=[]), pre,
                template([("<｜begin▁of▁sentence｜>", tokens[0]["id"])]), byte_level(True))


def granite_like(strings):
    """Digits one by one, as StarCoder's; GPT-2's words."""
    pre = sequence(dict(type="Digits", individual_digits=True), byte_level(True))
    specials = ["<|end_of_text|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>"]
    model = bytes_trained(strings, 3000, pre, specials)
    tokens = numbered(0, *specials) + behind(model["vocab"], "<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>")
    return tree(model, tokens, None, pre, byte_level(True), byte_level(True))


def llama_like(strings, regex, *specials):
    """Words of the vocabulary are taken whole; one token in front, by a sequence of processors."""
    model = bytes_trained(strings, 3000, sequence(split(regex), byte_level()), [])
    model["ignore_merges"] = True
    tokens = behind(model["vocab"], *specials)
    post = dict(type="Sequence", processors=[byte_level(True), template([(specials[0], tokens[0]["id"])])])
    return tree(model, tokens, None, sequence(split(regex), byte_level()), post, byte_level())


def llama3_like(strings):
    return llama_like(strings, CL100K, "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                      "<|eom_id|>", "<|eot_id|>", "<|python_tag|>")


def llama4_like(strings):
    return llama_like(strings, O200K, "<|begin_of_text|>", "<|end_of_text|>", "<|header_start|>", "<|header_end|>", "<|eom|>",
                      "<|eot|>")


def unigram_like(strings):
    normalizer = dict(type="Sequence", normalizers=[
        dict(type="NFKC"), dict(type="Replace", pattern=dict(Regex=" {2,}"), content=" ")])
    model = train(strings, 3000, normalizer, metaspace(), ["<unk>", "<s>", "</s>"], model="Unigram")
    tokens = numbered(0, "<unk>", "<s>", "</s>")
    return tree(dict(type="Unigram", unk_id=0, vocab=model["vocab"], byte_fallback=False), tokens, normalizer, metaspace(),
                template([("<s>", 1)]), metaspace())


def unigram_bytes_like(strings):
    """A byte for what no piece has; scores that are often the same."""
    model = train(strings, 2500, None, metaspace("first"), ["<unk>", "<s>", "</s>", *FALLBACK], model="Unigram")
    kept = [[piece, round(score) + 0.0] for piece, score in model["vocab"] if len(piece) > 1 or ord(piece) < 0x300]
    return tree(dict(type="Unigram", unk_id=0, vocab=kept, byte_fallback=True), numbered(0, "<unk>", "<s>", "</s>"), None,
                metaspace("first"), None,
                dict(type="Sequence", decoders=[BLANK_BACK, dict(type="ByteFallback"), dict(type="Fuse"),
                                                dict(type="Strip", content=" ", start=1, stop=0)]))


def like(build):
    return lambda strings: Source(build(strings), "trained on the texts")


LIKE = {build.__name__: like(build) for build in
        (gemma_like, phi3_like, deepseek_v2_like, granite_like, llama3_like, llama4_like, unigram_like, unigram_bytes_like)}
