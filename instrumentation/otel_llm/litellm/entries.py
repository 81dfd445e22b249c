"""LiteLLM's public functions, one row each: the operation, and how its calls, replies and streams are read."""

from typing import Final

from otel_llm.litellm.entry import Entry
from otel_llm.litellm.read import chat, embeddings, media, messages, moderation, rerank, responses, text
from otel_llm.litellm.streams import chat as stream
from otel_llm.litellm.streams import messages as messages_stream
from otel_llm.litellm.streams import responses as responses_stream

ENTRIES: Final[tuple[Entry, ...]] = (
    Entry("completion", chat.read_request, chat.read_reply, stream.follow, "acompletion"),
    Entry("acompletion", chat.read_request, chat.read_reply, stream.follow),
    Entry("completion_with_retries", chat.read_request, chat.read_reply, stream.follow, positions="completion"),
    Entry("acompletion_with_retries", chat.read_request, chat.read_reply, stream.follow, positions="completion"),
    Entry("text_completion", text.read_request, text.read_reply, text.follow, "acompletion"),
    Entry("atext_completion", text.read_request, text.read_reply, text.follow, positions="text_completion"),
    Entry("embedding", embeddings.read_request, embeddings.read_reply, None, "aembedding"),
    Entry("aembedding", embeddings.read_request, embeddings.read_reply, positions="embedding"),
    Entry("rerank", rerank.read_request, rerank.read_reply, None, "arerank"),
    Entry("arerank", rerank.read_request, rerank.read_reply),
    Entry("image_generation", media.read_image_generation, media.read_images, None, "aimg_generation"),
    Entry("aimage_generation", media.read_image_generation, media.read_images, positions="image_generation"),
    Entry("image_edit", media.read_image_edit, media.read_images, None, "async_call"),
    Entry("aimage_edit", media.read_image_edit, media.read_images),
    Entry("image_variation", media.read_image_variation, media.read_images, None, "async_call"),
    Entry("aimage_variation", media.read_image_variation, media.read_images, positions="image_variation"),
    Entry("speech", media.read_speech, media.read_spoken, None, "aspeech"),
    Entry("aspeech", media.read_speech, media.read_spoken, positions="speech"),
    Entry("transcription", media.read_transcription, media.read_transcript, None, "atranscription"),
    Entry("atranscription", media.read_transcription, media.read_transcript, positions="transcription"),
    Entry("moderation", moderation.read_request, moderation.read_reply),
    Entry("amoderation", moderation.read_request, moderation.read_reply),
    Entry("responses", responses.read_request, responses.read_reply, responses_stream.follow, "aresponses"),
    Entry("aresponses", responses.read_request, responses.read_reply, responses_stream.follow),
    Entry("anthropic_messages", messages.read_request, messages.read_reply, messages_stream.follow),
    Entry("anthropic.messages.create", messages.read_request, messages.read_reply, messages_stream.follow, "is_async"),
    Entry("anthropic.messages.acreate", messages.read_request, messages.read_reply, messages_stream.follow),
)
