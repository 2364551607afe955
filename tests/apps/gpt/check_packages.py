# SPDX-License-Identifier: MIT
"""ringx-gpt tokenizer against the packages `tokenizers` and `tiktoken`: ids must be the same.

check_packages.py RINGX_GPT WORK TEXT...   WORK: an empty folder; TEXT: UTF-8 files to train on and to encode."""
import json, os, random, subprocess, sys

import tiktoken
import tokenizers
from tokenizers import models, pre_tokenizers, decoders, trainers, Regex

gpt, work, texts = sys.argv[1], sys.argv[2], sys.argv[3:]
GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
LLAMA3 = (r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
          r"""|\s*[\r\n]+|\s+(?!\S)|\s+""")
failures = 0


def path(name):
    return os.path.join(work, name)


def run(*arguments, data=None):
    return subprocess.run([gpt, *arguments], input=data, check=True, stdout=subprocess.PIPE).stdout


def check(what, good):
    global failures
    if not good:
        print("FAILED:", what)
        failures += 1


def encode(file, data, *more):
    return list(map(int, run("tokenizer", "encode", "--vocab-file", file, *more, data=data).split()))


def same(what, got, want, text):
    if got != want:
        k = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        check(f"{what}: {len(got)} ids instead of {len(want)}, the first other one at {k}: {got[k:k+8]} {want[k:k+8]}", False)


rng = random.Random(1234)
samples = [open(t, encoding="utf-8").read() for t in texts]
samples += ["", " ", "\n", "a", "  a  b\n\n\n c \t\r\n d", "'S it'LL we'Re \u017f 'ſ 'K", "x" * 5000, " " * 3000 + "y",
            "<|endoftext|>a<|endoftext|>", "a <|begin_of_text|> b", "1234567 ١٢٣٤٥ Ⅷ½", "\u180e\u1680\u2028\u00a0\u3000\u0085x",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "ab" * 700, "\0\x01\x7f"]
samples += [rng.randbytes(20000).decode("utf-8", "replace") for _ in range(2)]
points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
samples.append("".join(map(chr, rng.sample(points, 20000))))
samples.append("".join(rng.choice(" \n\r\t\u00a0aé中1'.!sS") for _ in range(20000)))


def compare(name, file, want, *more):
    for i, text in enumerate(samples):
        data = text.encode()
        ids = encode(file, data, *more)
        same(f"{name}, sample {i}", ids, want(text), text)
        back = run("tokenizer", "decode", "--vocab-file", file, data=" ".join(map(str, ids)).encode())
        check(f"{name}, sample {i}: decoded is not what was encoded", back == data or "<|" in text)


# ---- tokenizer.json, trained by us and by the package, with both patterns
for pattern in "gpt2", "llama3":
    ours, theirs = path(f"ours-{pattern}.json"), path(f"theirs-{pattern}.json")
    run("tokenizer", "train", "--input", *texts, "--output", ours, "--vocab-size", "900", "--pattern", pattern,
        "--min-frequency", "2", "--special-tokens", "<|endoftext|>,<|padding|>")
    t = tokenizers.Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern == "gpt2")
    t.pre_tokenizer = level if pattern == "gpt2" else pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), level])
    t.decoder = decoders.ByteLevel()
    t.train(texts, trainers.BpeTrainer(vocab_size=900, min_frequency=2, show_progress=False,
                                       special_tokens=["<|endoftext|>", "<|padding|>"],
                                       initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.save(theirs)
    a, b = json.load(open(ours)), json.load(open(theirs))
    if len(texts) == 1:  # the package reads files line by line, which is the same where lines end pieces
        check(f"{pattern}: trained vocabularies differ", a["model"]["vocab"] == b["model"]["vocab"])
        check(f"{pattern}: trained merges differ",
              [tuple(m) for m in a["model"]["merges"]] ==
              [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in b["model"]["merges"]])
    for file in ours, theirs:
        package = tokenizers.Tokenizer.from_file(file)
        compare(os.path.basename(file), file, lambda text: package.encode(text).ids)
    # merges written as "a b", and whole pieces first
    b["model"]["merges"] = [" ".join(m) if not isinstance(m, str) else m for m in b["model"]["merges"]]
    b["model"]["ignore_merges"] = True
    rest = b["model"]["merges"]
    b["model"]["merges"] = rest[:len(rest) // 2] if pattern == "gpt2" else rest
    json.dump(b, open(path("strings.json"), "w"))
    package = tokenizers.Tokenizer.from_file(path("strings.json"))
    compare("strings.json", path("strings.json"), lambda text: package.encode(text).ids)

# ---- a post-processor, a prefix space, digits, a token that takes the spaces around it
b["post_processor"] = {"type": "Sequence", "processors": [
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
    {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|padding|>", "type_id": 0}},
                                              {"Sequence": {"id": "A", "type_id": 0}}],
     "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
     "special_tokens": {"<|padding|>": {"id": "<|padding|>", "ids": [1], "tokens": ["<|padding|>"]}}}]}
b["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
    {"type": "Digits", "individual_digits": True},
    {"type": "Split", "pattern": {"String": "(a"}, "behavior": "Removed", "invert": False},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}]}
last = len(b["model"]["vocab"])  # the package gives added tokens the next ids
b["added_tokens"] += [
    {"id": last, "content": "<m>", "single_word": False, "lstrip": True, "rstrip": True, "normalized": False, "special": True},
    {"id": last + 1, "content": "<m><m>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False},
    {"id": last + 2, "content": "   ", "single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}]
json.dump(b, open(path("steps.json"), "w"))
package = tokenizers.Tokenizer.from_file(path("steps.json"))
for text in samples + ["a  <m>  b<m><m>   c (a 123(a4", "<m>", "     x    <m> <m>y"]:
    same("steps.json", encode(path("steps.json"), text.encode()), package.encode(text).ids, text)
    same("steps.json without", encode(path("steps.json"), text.encode(), "--no-add-special"),
         package.encode(text, add_special_tokens=False).ids, text)

# ---- normal forms: of characters that the package's Unicode knows
known = [c for a, b in ((0x20, 0x530), (0x1E00, 0x2000), (0x2070, 0x2150), (0x3041, 0x3100), (0xAC00, 0xB000), (0xFB00, 0xFB07))
         for c in range(a, b)]
forms = [texts and samples[0], "".join(chr(rng.choice(known)) + rng.choice(["", "\u0301", "\u0323\u0308"]) for _ in range(4000))]
for form in ({"type": "NFC"}, {"type": "NFKC"}, {"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "NFD"}]}):
    json.dump({**json.load(open(path("ours-gpt2.json"))), "normalizer": form}, open(path("forms.json"), "w"))
    package = tokenizers.Tokenizer.from_file(path("forms.json"))
    for text in forms:
        same(f"normalizer {form}", encode(path("forms.json"), text.encode()), package.encode(text).ids, text)

# ---- tiktoken: the trained tokens, ranked in their order
import base64
a = json.load(open(path("ours-llama3.json")))
decode = {c: bytes([i]) for i, c in zip(
    sorted(range(256), key=lambda i: (0, i) if 33 <= i <= 126 or 161 <= i <= 172 or 174 <= i else (1, i)),
    sorted(pre_tokenizers.ByteLevel.alphabet()))}
printable = [i for i in range(256) if 33 <= i <= 126 or 161 <= i <= 172 or 174 <= i]
decode = {chr(i): bytes([i]) for i in printable}
decode.update({chr(256 + k): bytes([i]) for k, i in enumerate(i for i in range(256) if i not in printable)})
tokens = [b"".join(decode[c] for c in t) for t in sorted(a["model"]["vocab"], key=a["model"]["vocab"].get)[2:]]
with open(path("tokenizer.model"), "wb") as f:
    for rank, token in enumerate(tokens):
        f.write(base64.b64encode(token) + b" %d\n" % rank)
names = ["<|begin_of_text|>", "<|end_of_text|>"]
special = {n: len(tokens) + i for i, n in enumerate(names)}
package = tiktoken.Encoding("test", pat_str=LLAMA3, mergeable_ranks={t: i for i, t in enumerate(tokens)}, special_tokens=special)
compare("tokenizer.model", path("tokenizer.model"), package.encode_ordinary)
for text in samples:
    same("tokenizer.model, special", encode(path("tokenizer.model"), text.encode(), "--special"),
         package.encode(text, allowed_special="all"), text)

# ---- bytes that are no UTF-8: replaced as Python does, or kept and given back
for i in range(4):
    data = rng.randbytes(6000)
    for file in path("ours-gpt2.json"), path("tokenizer.model"):
        text = data.decode("utf-8", "replace")
        want = tokenizers.Tokenizer.from_file(file).encode(text).ids if file.endswith("json") else package.encode_ordinary(text)
        same("replaced", encode(file, data, "--invalid-utf8", "replace"), want, text)
        kept = encode(file, data, "--invalid-utf8", "keep")
        back = run("tokenizer", "decode", "--vocab-file", file, data=" ".join(map(str, kept)).encode())
        check("bytes that are kept do not come back", back == data)
print("all ids are those of the packages" if not failures else f"{failures} failures")
sys.exit(failures > 0)
