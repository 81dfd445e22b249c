"""Following LiteLLM's stream objects to whichever end they have."""
