# SPDX-License-Identifier: MIT
"""Makes small tokenizers and the ids that the packages `tokenizers` and `tiktoken` give: for machines without them.

make_tokenizers.py DATA: writes DATA/bpe-gpt2.json, bpe-llama3.json, bpe.tiktoken and ids.json, from DATA/multilingual.txt"""
import base64, json, os, random, sys

import tiktoken
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, processors, trainers

data = sys.argv[1]
text = open(os.path.join(data, "multilingual.txt"), encoding="utf-8").read()
LLAMA3 = (r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
          r"""|\s*[\r\n]+|\s+(?!\S)|\s+""")
rng = random.Random(1234)
points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
samples = [text, "", " \n\t ", "it'S we'LL 'ſ\u212a 12345 ١٢٣٤ Ⅷ½x", "a" * 300, "<|endoftext|>x <|padding|>",
           "\u180e\u1680\u2028\u00a0\u3000\u0085y", " " * 60 + "z",
           "".join(map(chr, rng.sample(points, 150))), "\u1c89\U00010d4a\U00031350\U00010d40\U0001e5f1 neu",
           rng.randbytes(300).decode("utf-8", "replace")]
out = {"samples": samples, "ids": {}, "binary": {}}
binary = rng.randbytes(400)
out["binary"]["bytes"] = list(binary)
for name in "gpt2", "llama3":
    t = tokenizers.Tokenizer(models.BPE(ignore_merges=name == "llama3"))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name == "gpt2")
    t.pre_tokenizer = level if name == "gpt2" else pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), level])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=420, min_frequency=2, show_progress=False, special_tokens=["<|endoftext|>", "<|padding|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    if name == "llama3":
        t.post_processor = processors.TemplateProcessing(single="<|padding|> $A", special_tokens=[("<|padding|>", 1)])
    file = f"bpe-{name}.json"
    t.save(os.path.join(data, file), pretty=False)
    out["ids"][file] = [t.encode(s).ids for s in samples]
    out["binary"][file] = t.encode(binary.decode("utf-8", "replace")).ids
    vocab = t.get_vocab()
printable = [i for i in range(256) if 33 <= i <= 126 or 161 <= i <= 172 or 174 <= i]
decode = {chr(i): i for i in printable}
decode.update({chr(256 + k): i for k, i in enumerate(i for i in range(256) if i not in printable)})
tokens = [bytes(decode[c] for c in t) for t in sorted(vocab, key=vocab.get)[2:]]
with open(os.path.join(data, "bpe.tiktoken"), "wb") as f:
    for rank, token in enumerate(tokens):
        f.write(base64.b64encode(token) + b" %d\n" % rank)
t = tiktoken.Encoding("test", pat_str=LLAMA3, mergeable_ranks={t: i for i, t in enumerate(tokens)}, special_tokens={})
out["ids"]["bpe.tiktoken"] = [t.encode_ordinary(s) for s in samples]
out["binary"]["bpe.tiktoken"] = t.encode_ordinary(binary.decode("utf-8", "replace"))
json.dump(out, open(os.path.join(data, "ids.json"), "w"), separators=(",", ":"))
