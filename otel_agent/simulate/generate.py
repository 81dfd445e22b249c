"""Chat and completions: from a body to sequences in the engine, and from their tokens to a reply or a stream."""

import json
import random
from collections.abc import AsyncIterator
from collections.abc import Sequence as Many

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from otel_agent.simulate import shapes
from otel_agent.simulate.asked import (
    Body,
    Prompt,
    Sampling,
    WantedError,
    check_model,
    read_body,
    read_messages,
    read_prompts,
    read_sampling,
    request_id,
    trace_headers,
    wanted_error,
)
from otel_agent.simulate.leaving import while_there
from otel_agent.simulate.live import Call, EngineDead, LiveEngine
from otel_agent.simulate.options import EngineOptions
from otel_agent.simulate.refusal import Refused, failed
from otel_agent.simulate.sequence import Sequence, Siblings
from otel_agent.simulate.shapes import ChatShape, CompletionShape, Json, Shape
from otel_agent.simulate.text import detokenize, make_answer

COMPLETION_TOKENS = 16  # of a completion that names no limit
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Generation:
    """The two routes; both lead into the same engine."""

    def __init__(self, options: EngineOptions, live: LiveEngine) -> None:
        self._options = options
        self._live = live
        self._chance = random.Random(options.seed)  # noqa: S311 # which requests fail, not a secret

    async def chat(self, request: Request) -> Response:
        """Answer /v1/chat/completions."""
        body = await self._body(request)
        sampling = read_sampling(body, self._options, None)
        return await self._answer(request, body, ChatShape(), [read_messages(body, self._options)], sampling)

    async def completions(self, request: Request) -> Response:
        """Answer /v1/completions."""
        body = await self._body(request)
        sampling = read_sampling(body, self._options, COMPLETION_TOKENS)
        if not body.get("prompt"):
            message = "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)"
            raise Refused(message, param="prompt")
        return await self._answer(
            request, body, CompletionShape(), read_prompts(body, "prompt", self._options), sampling
        )

    async def _body(self, request: Request) -> Body:
        body = await read_body(request)
        check_model(body, self._options)
        return body

    async def _answer(
        self, request: Request, body: Body, shape: Shape, prompts: list[Prompt], sampling: Sampling
    ) -> Response:
        self._live.admit(len(prompts) * sampling.n)  # before any work is done for them
        error = self._error(request, body)
        reply = f"{shape.prefix}-{request_id(request)}"
        call = Call(
            reply,
            self._sequences(reply, isinstance(shape, ChatShape), prompts, sampling, error),
            headers=trace_headers(request),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
        )
        self._live.submit(call)
        made = Reply(self._options, self._live, call, shape, sampling, prompts, echo=bool(body.get("echo")))
        return Streamed(made) if sampling.stream else await made.whole(request.receive)

    def _error(self, request: Request, body: Body) -> WantedError | None:
        error = wanted_error(request, body)
        if error is None and self._chance.random() < self._options.error_rate:
            return WantedError(after=1)
        if error and error.status:
            raise Refused(f"The error that was asked for: {error.status}.", error.status)
        if error and not error.after:
            self._live.die()
        return error

    def _sequences(
        self, id: str, chat: bool, prompts: list[Prompt], sampling: Sampling, error: WantedError | None
    ) -> list[Sequence]:
        sequences = []
        for number, prompt in enumerate(prompts):
            most = self._options.max_model_len - len(prompt)
            limit = most if sampling.limit is None else min(sampling.limit, most)
            siblings = Siblings(sampling.n, sampling.n)
            for choice in range(sampling.n):
                answer = make_answer(
                    prompt,
                    limit,
                    usual=self._options.answer_tokens,
                    seed=(self._options.seed, sampling.seed, choice),
                    least=sampling.least,
                    endless=sampling.endless,
                    stops=sampling.stops,
                    keep_stop=sampling.keep_stop,
                )
                name = id if chat else f"{id}-{number}"
                sequences.append(
                    Sequence(name, prompt, answer, limit, siblings, error_after=error.after if error else None)
                )
        return sequences


class Reply:
    """One call on its way to becoming a reply."""

    def __init__(
        self,
        options: EngineOptions,
        live: LiveEngine,
        call: Call,
        shape: Shape,
        sampling: Sampling,
        prompts: list[Prompt],
        *,
        echo: bool,
    ) -> None:
        self._options, self._live, self._call, self._shape, self._sampling = options, live, call, shape, sampling
        self._prompt_tokens = sum(len(prompt) for prompt in prompts)
        self._single = len(call.sequences) == 1
        self._echo = echo and isinstance(shape, CompletionShape)
        self._head = shapes.head(call.id, options)

    async def whole(self, receive: Receive) -> Response:
        """Wait for the end and return the reply; nobody gets it where the client has gone."""
        async with while_there(self._live, self._call, receive):
            await self._call.end()
        sequences = self._call.sequences
        if any(sequence.finish == "error" for sequence in sequences):
            raise failed()
        choices = [
            self._shape.choice(index, self._text(sequence, 0), sequence, self._ids(sequence, 0))
            for index, sequence in enumerate(sequences)
        ]
        return JSONResponse(self._shape.whole(self._head, choices, self._usage(), self._metrics()))

    async def chunks(self, receive: Receive) -> AsyncIterator[bytes]:
        """Return the events of a stream, each as its tokens come."""
        sequences = self._call.sequences
        sent: list[int | None] = [None] * len(sequences)  # None: nothing yet, not even the opening
        closed = [False] * len(sequences)
        try:
            async with while_there(self._live, self._call, receive):
                while not all(closed):
                    await self._call.change()
                    for index, sequence in enumerate(sequences):
                        done = sent[index] or 0
                        if closed[index] or (sequence.generated == done and not sequence.finish):
                            continue
                        if sequence.finish == "error":
                            raise failed()
                        if sent[index] is None and (opening := self._opening(index, sequence)):
                            yield _event(opening)
                        sent[index], closed[index] = sequence.generated, bool(sequence.finish)
                        yield _event(self._chunk(index, sequence, done))
            if self._sampling.usage:
                yield _event(self._last())
        except Refused as refused:
            yield _event(refused.body())
        except EngineDead as dead:
            yield _event(Refused(str(dead), 500).body())
        yield b"data: [DONE]\n\n"

    def _opening(self, index: int, sequence: Sequence) -> Json | None:
        prompt = list(sequence.prompt) if self._sampling.token_ids else None
        opening = self._shape.opening(self._head, index, prompt)
        if opening and self._sampling.usage_always:
            opening["usage"] = _running(sequence, 0)
        return opening

    def _chunk(self, index: int, sequence: Sequence, done: int) -> Json:
        last = bool(sequence.finish)
        ids = self._ids(sequence, done)
        chunk = self._shape.chunk(self._head, index, self._text(sequence, done), sequence, ids, last=last)
        if last and not self._sampling.usage:
            chunk["system_fingerprint"] = shapes.fingerprint(self._options.model)
        if self._sampling.usage_always:
            chunk["usage"] = _running(sequence, sequence.generated)
        return chunk

    def _last(self) -> Json:
        metrics = self._metrics()
        last = self._shape.chunk(self._head, 0, "", self._call.sequences[0], None, last=True)
        last |= {"choices": [], "usage": self._usage(), "metrics": metrics}
        last["system_fingerprint"] = shapes.fingerprint(self._options.model)
        return shapes.without_nulls(last)

    def _text(self, sequence: Sequence, done: int) -> str:
        assert sequence.answer is not None
        text = sequence.answer.text(done, sequence.generated)
        return detokenize(sequence.prompt) + text if self._echo and not done else text

    def _ids(self, sequence: Sequence, done: int) -> Many[int] | None:
        if not self._sampling.token_ids:
            return None
        known = len(sequence.prompt)
        return sequence.tokens(known + done, known + sequence.generated)

    def _usage(self) -> Json:
        generated = sum(sequence.generated for sequence in self._call.sequences)
        counts = shapes.usage(self._prompt_tokens, generated)
        chat = isinstance(self._shape, ChatShape)
        details = shapes.prompt_details(self._call.sequences, chat) if self._options.prompt_details else None
        return {**counts, "prompt_tokens_details": details, "completion_tokens_details": None}

    def _metrics(self) -> Json | None:
        # As in vLLM: several sequences have no timing in common.
        return shapes.timings(self._call.sequences[0]) if self._options.request_metrics and self._single else None


def _running(sequence: Sequence, generated: int) -> Json:
    return {**shapes.usage(len(sequence.prompt), generated), "completion_tokens_details": None}


def _event(content: Json) -> bytes:
    return f"data: {_encode(content)}\n\n".encode()


class Streamed(Response):
    """A reply that is sent as it comes."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(media_type="text/event-stream")
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for event in self._reply.chunks(receive):
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
