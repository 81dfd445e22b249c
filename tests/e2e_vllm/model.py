"""A tiny Llama with random weights, the same at every making, kept beside the environment: what every engine here loads.

Its tokenizer knows printable ASCII only, so that every generated token is text and a stream has a chunk for each. The same
folder serves as a pooling model (`runner="pooling"`): embeddings, scores and, with `convert="classify"`, classes.

    python -m tests.e2e_vllm.model     make it and print where it lies
"""

import string
from pathlib import Path

from tests.e2e_vllm.made_once import made_once

NAME = "tiny"
MAX_TOKENS = 8192  # what an engine is started with: long enough that a client can leave in the middle
SENTENCES = ("the quick brown fox jumps over the lazy dog", "a lion, a tiger and a bear walk into the forest at night")
TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant: "


def model_folder() -> Path:
    """Return the model's folder, made now where it is not there; two at a time make it once."""
    return made_once("vllm-model", _make, Path(__file__))


def _make(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>"]
    alphabet = [*string.ascii_letters, *string.digits, *string.punctuation, "Ġ", "Ċ"]  # the last two: space, new line
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    whole = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    whole.chat_template = TEMPLATE
    whole.save_pretrained(folder)

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(whole),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2 * MAX_TOKENS,
        bos_token_id=whole.bos_token_id,
        eos_token_id=whole.eos_token_id,
        pad_token_id=whole.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


if __name__ == "__main__":
    print(model_folder())
