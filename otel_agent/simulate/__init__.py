"""A stand-in for the servers of a GPU node: it behaves like them on the wire and computes nothing.

`server` is an OpenAI-style vLLM server; `engine` is the continuous batching behind it, driven by a clock that is given in.
"""
