"""LiteLLM's names of models and providers, told apart and put into the conventions' words."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

_WELL_KNOWN_PROVIDERS: Final[Mapping[str, str]] = {
    # LiteLLM's name: the conventions' name. Any other, `hosted_vllm` for one, is passed on as LiteLLM has it.
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure_text": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "cohere_chat": "cohere",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "text-completion-openai": "openai",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_text": "ibm.watsonx.ai",
    "xai": "x_ai",
}

SELF_HOSTED: Final = frozenset(("hosted_vllm", "vllm", "ollama", "ollama_chat", "llamafile", "lm_studio", "xinference"))
"""LiteLLM's names of providers that are servers of one's own."""


class Names:
    """What LiteLLM knows about model names: which prefixes are providers, and whose the models of its price list are."""

    def __init__(self, is_provider: Callable[[str], bool], provider_of_model: Callable[[str], str | None]) -> None:
        self._is_provider = is_provider
        self._provider_of_model = provider_of_model
        self.split = lru_cache(maxsize=1024)(self._split)

    def _split(self, model: str, provider: str | None) -> tuple[str | None, str]:
        """Tell LiteLLM's provider (None where the name does not) and the bare name of a model."""
        prefix, slash, rest = model.partition("/")
        if slash and rest and (prefix == provider or (provider is None and self._is_provider(prefix))):
            return prefix, rest
        if provider is None:
            provider = self._provider_of_model(model)
            provider = provider if provider is not None and self._is_provider(provider) else None
        return provider, model


def well_known(provider: str) -> str:
    """Return the conventions' name of a provider where there is one, else LiteLLM's own."""
    return _WELL_KNOWN_PROVIDERS.get(provider, provider)
