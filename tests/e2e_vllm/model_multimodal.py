"""A tiny Idefics3 with random weights: the tokenizer of the tiny Llama, and an encoder that makes 16 tokens of every image.

It answers text as well. Its processor lies beside it, so that vLLM takes images in as it does for a real one. (Of the models
that see, this is one that vLLM's CPU build runs without torchvision, which its index does not have for it.)

    python -m tests.e2e_vllm.model_multimodal     make it and print where it lies
"""

import base64
import io
from pathlib import Path
from typing import Any

from tests.e2e_vllm import model
from tests.e2e_vllm.made_once import made_once

SIDE, PATCH, SHUFFLED = 112, 14, 2  # pixels, pixels, patches that become one token, a side
IMAGE_TOKENS = (SIDE // PATCH // SHUFFLED) ** 2
AROUND = 3  # tokens that say where an image begins and ends
IMAGE, FRAME, WHOLE = "<image>", "<fake_token_around_image>", "<global-img>"  # IMAGE stands in a prompt for one of them
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}assistant: "
)


def multimodal_folder() -> Path:
    """Return the model's folder, made now where it is not there."""
    return made_once("vllm-model-multimodal", _make, Path(__file__), Path(model.__file__))


def picture(red: int) -> Any:
    """Return an image of one colour."""
    from PIL import Image

    return Image.new("RGB", (96, 64), (red, 40, 90))


def data_url(red: int) -> str:
    """Return the same image as clients of a chat send it."""
    png = io.BytesIO()
    picture(red).save(png, "PNG")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"


def _make(folder: Path) -> None:
    import torch
    from transformers import (
        AutoTokenizer,
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3Processor,
        LlamaConfig,
    )
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer = AutoTokenizer.from_pretrained(model.model_folder())
    tokenizer.add_special_tokens({"additional_special_tokens": [FRAME, IMAGE, WHOLE]})
    images = Idefics3ImageProcessorPil(
        do_image_splitting=False, size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}
    )
    processor = Idefics3Processor(images, tokenizer, image_seq_len=IMAGE_TOKENS, chat_template=TEMPLATE)
    processor.save_pretrained(folder)

    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2 * model.MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = {
        "image_size": SIDE,
        "patch_size": PATCH,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = Idefics3Config(
        text_config=text,
        vision_config=vision,
        scale_factor=SHUFFLED,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        pad_token_id=tokenizer.pad_token_id,
    )
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)


if __name__ == "__main__":
    print(multimodal_folder())
