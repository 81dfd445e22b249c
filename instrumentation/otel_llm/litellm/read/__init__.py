"""Reading LiteLLM's arguments and replies into the core's records; no telemetry, nothing consumed or changed."""
