"""What the instrumentation relies on in vLLM's source, and reading such shapes out of a source without importing it.

A shape is a class with the names of its bases, its fields and its methods with their parameters, or a function with its
parameters; no text of vLLM's is kept. Shapes of each supported version are recorded in tests/fixtures/vllm/shapes-<version>.json:

    python tests/e2e_vllm/shapes.py VLLM-WHEEL-OR-PACKAGE-FOLDER VERSION
"""

import ast
import json
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "vllm"
Shapes = dict[str, dict[str, Any]]
"""By file: classes as {bases, fields, methods}, functions as lists of parameters."""


@dataclass(frozen=True)
class Relied:
    """A class or a function in a file, and what of it our code names; a name may come from a base class."""

    file: str
    name: str
    fields: Sequence[str] = ()
    methods: Mapping[str, Sequence[str]] = field(default_factory=dict)  # method: parameters that we give or look for
    parameters: Sequence[str] | None = None  # of a function


OFFLINE = ("prompts", "sampling_params")
RELIED = (
    # the offline calls
    Relied(
        "vllm/entrypoints/llm.py",
        "LLM",
        ("llm_engine", "model_config"),
        {
            "__init__": ("kwargs",),
            "generate": OFFLINE,
            "enqueue": OFFLINE,
            "chat": ("sampling_params",),
            "enqueue_chat": ("sampling_params",),
            "wait_for_completion": (),
            "beam_search": ("params",),
            "encode": ("pooling_params", "pooling_task"),
            "embed": ("pooling_params",),
            "classify": ("pooling_params",),
            "score": ("pooling_params",),
        },
    ),
    Relied("vllm/entrypoints/common/offline.py", "OfflineInferenceMixin"),
    Relied("vllm/entrypoints/pooling/offline.py", "PoolingOfflineMixin"),
    Relied("vllm/entrypoints/generate/beam_search/offline.py", "BeamSearchOfflineMixin"),
    Relied(
        "vllm/v1/engine/llm_engine.py",
        "LLMEngine",
        (),
        {"add_request": ("request_id", "prompt", "params", "lora_request"), "step": ()},
    ),
    # the engine and the server
    Relied(
        "vllm/v1/engine/async_llm.py",
        "AsyncLLM",
        ("model_config", "observability_config", "output_handler"),
        {
            "generate": ("prompt", "sampling_params", "request_id", "trace_headers"),
            "encode": ("prompt", "pooling_params", "request_id", "trace_headers"),
            "_run_output_handler": (),
        },
    ),
    Relied(
        "vllm/v1/engine/output_processor.py",
        "OutputProcessor",
        ("request_states", "external_req_ids"),
        {"add_request": ("request",), "abort_requests": ("request_ids", "internal")},
    ),
    Relied(
        "vllm/v1/engine/output_processor.py",
        "RequestState",
        (
            "request_id",
            "external_req_id",
            "prompt_len",
            "is_prefilling",
            "num_cached_tokens",
            "num_cache_creation_tokens",
            "lora_name",
            "detokenizer",
            "stats",
        ),
    ),
    Relied(
        "vllm/entrypoints/generate/beam_search/online.py",
        "BeamSearchOnlineMixin",
        ("engine_client",),
        {"beam_search": ("params", "request_id")},
    ),
    Relied("vllm/entrypoints/launchers/app.py", "build_app", parameters=()),
    Relied("vllm/tracing/__init__.py", "init_tracer", parameters=("instrumenting_module_name", "otlp_traces_endpoint")),
    Relied("vllm/tracing/__init__.py", "maybe_init_worker_tracer", parameters=("instrumenting_module_name",)),
    # what comes out
    Relied(
        "vllm/outputs.py",
        "RequestOutput",
        (
            "request_id",
            "prompt_token_ids",
            "encoder_prompt_token_ids",
            "outputs",
            "finished",
            "metrics",
            "lora_request",
            "num_cached_tokens",
            "num_cache_creation_tokens",
        ),
    ),
    Relied("vllm/outputs.py", "CompletionOutput", ("index", "token_ids", "finish_reason")),
    Relied(
        "vllm/outputs.py",
        "PoolingRequestOutput",
        ("request_id", "outputs", "prompt_token_ids", "num_cached_tokens", "finished", "error"),
    ),
    Relied("vllm/entrypoints/generate/beam_search/utils.py", "BeamSearchOutput", ("sequences",)),
    Relied(
        "vllm/entrypoints/generate/beam_search/utils.py",
        "BeamSearchSequence",
        ("orig_prompt", "tokens", "finish_reason", "lora_request"),
    ),
    Relied("vllm/v1/engine/__init__.py", "FinishReason", ("STOP", "LENGTH", "ABORT", "ERROR")),
    # the statistics
    Relied(
        "vllm/v1/metrics/stats.py",
        "RequestStateStats",
        (
            "arrival_time",
            "queued_ts",
            "scheduled_ts",
            "first_token_ts",
            "last_token_ts",
            "first_token_latency",
            "num_generation_tokens",
            "num_preemptions",
        ),
    ),
    Relied(
        "vllm/v1/metrics/stats.py",
        "FinishedRequestStats",
        (
            "request_id",
            "finish_reason",
            "e2e_latency",
            "queued_time",
            "prefill_time",
            "decode_time",
            "mean_time_per_output_token",
            "num_generation_tokens",
        ),
    ),
    Relied(
        "vllm/v1/metrics/stats.py",
        "IterationStats",
        (
            "finished_requests",
            "num_generation_tokens",
            "num_preempted_reqs",
            "prompt_token_stats",
            "time_to_first_tokens_iter",
        ),
    ),
    Relied(
        "vllm/v1/metrics/stats.py",
        "SchedulerStats",
        (
            "num_running_reqs",
            "num_waiting_reqs",
            "num_skipped_waiting_reqs",
            "kv_cache_usage",
            "prefix_cache_stats",
            "connector_prefix_cache_stats",
            "spec_decoding_stats",
        ),
    ),
    Relied("vllm/v1/metrics/stats.py", "PrefixCacheStats", ("queries", "hits")),
    Relied("vllm/v1/metrics/stats.py", "BaseCacheStats"),
    Relied(
        "vllm/v1/metrics/loggers.py",
        "StatLoggerBase",
        (),
        {
            "__init__": ("vllm_config",),
            "record": ("scheduler_stats", "iteration_stats", "mm_cache_stats", "engine_idx"),
        },
    ),
    Relied(
        "vllm/v1/metrics/loggers.py",
        "AggregateStatLoggerBase",
        (),
        {"__init__": ("vllm_config", "engine_indexes"), "log": (), "log_engine_initialized": ()},
    ),
    # the configuration
    Relied("vllm/config/scheduler.py", "SchedulerConfig", ("max_num_seqs", "max_num_batched_tokens")),
    Relied("vllm/config/cache.py", "CacheConfig", ("num_gpu_blocks", "block_size")),
    Relied("vllm/config/model.py", "ModelConfig", ("model", "served_model_name", "max_model_len", "runner_type")),
    Relied("vllm/config/observability.py", "ObservabilityConfig", ("otlp_traces_endpoint",)),
    Relied("vllm/config/parallel.py", "ParallelConfig", ("_api_process_count", "_api_process_rank")),
)


def read_shapes(source: Callable[[str], str]) -> Shapes:
    """Return the shape of every class and function that is relied on; `source` gives a file's text, or raises KeyError."""
    wanted: dict[str, set[str]] = {}
    for relied in RELIED:
        wanted.setdefault(relied.file, set()).add(relied.name)
    found: Shapes = {}
    for file, names in sorted(wanted.items()):
        try:
            tree = ast.parse(source(file))
        except KeyError:
            continue
        for node in tree.body:
            if getattr(node, "name", None) in names:
                if isinstance(node, ast.ClassDef):
                    found.setdefault(file, {})[node.name] = _class(node)
                elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    found.setdefault(file, {})[node.name] = _parameters(node)
    return found


def missing(shapes: Shapes) -> list[str]:
    """Return what is relied on and not there, in words."""
    return sorted(told for relied in RELIED for told in _missing(relied, shapes))


def _missing(relied: Relied, shapes: Shapes) -> Iterator[str]:
    shape = shapes.get(relied.file, {}).get(relied.name)
    if shape is None:
        yield f"{relied.file}: {relied.name}"
        return
    if relied.parameters is not None:
        yield from (f"{relied.name}({one})" for one in relied.parameters if one not in shape)
        return
    known = {name: one for file in shapes.values() for name, one in file.items() if isinstance(one, dict)}
    lineage = list(_lineage(relied.name, known))
    fields = {one for shape in lineage for one in shape["fields"]}
    yield from (f"{relied.name}.{one}" for one in relied.fields if one not in fields)
    for method, parameters in relied.methods.items():
        taken = next((shape["methods"][method] for shape in lineage if method in shape["methods"]), None)
        if taken is None:
            yield f"{relied.name}.{method}"
        else:
            yield from (f"{relied.name}.{method}({one})" for one in parameters if one not in taken)


def _lineage(name: str, known: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if name in known:
        yield known[name]
        for base in known[name]["bases"]:
            yield from _lineage(base, known)


def _class(node: ast.ClassDef) -> dict[str, Any]:
    fields: set[str] = set()
    methods: dict[str, list[str]] = {}
    for part in node.body:
        if isinstance(part, ast.AnnAssign | ast.Assign):
            fields.update(_targets(part, ast.Name))
        elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            if any(getattr(one, "id", None) == "property" for one in part.decorator_list):
                fields.add(part.name)
            methods[part.name] = _parameters(part)  # of overloads the last, which is the one that runs
            for statement in ast.walk(part):
                if isinstance(statement, ast.AnnAssign | ast.Assign):
                    fields.update(_targets(statement, ast.Attribute))
    bases = [ast.unparse(one).partition("[")[0].rpartition(".")[2] for one in node.bases]
    return {"bases": bases, "fields": sorted(fields), "methods": dict(sorted(methods.items()))}


def _targets(statement: ast.AnnAssign | ast.Assign, kind: type[ast.expr]) -> Iterator[str]:
    for target in statement.targets if isinstance(statement, ast.Assign) else (statement.target,):
        for one in target.elts if isinstance(target, ast.Tuple) else (target,):
            if isinstance(one, kind) and isinstance(one, ast.Name):
                yield one.id
            elif isinstance(one, kind) and isinstance(one, ast.Attribute) and getattr(one.value, "id", None) == "self":
                yield one.attr


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    given = node.args
    every = (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg)
    return [one.arg for one in every if one is not None and one.arg != "self"]


def folder_source(packages: Path) -> Callable[[str], str]:
    """Return what reads the files of an installed package; `packages` is the folder that has `vllm`."""

    def source(file: str) -> str:
        try:
            return (packages / file).read_text()
        except FileNotFoundError as error:
            raise KeyError(file) from error

    return source


def recorded() -> dict[str, Shapes]:
    """Return the recorded shapes by version."""
    files = sorted(FOLDER.glob("shapes-*.json"))
    return {file.stem.removeprefix("shapes-"): json.loads(file.read_text()) for file in files}


def main() -> None:
    """Record the shapes of one version and say what is missing there."""
    where, version = Path(sys.argv[1]), sys.argv[2]
    if where.is_dir():
        shapes = read_shapes(folder_source(where))
    else:
        with zipfile.ZipFile(where) as wheel:
            shapes = read_shapes(lambda file: wheel.read(file).decode())
    (FOLDER / f"shapes-{version}.json").write_text(json.dumps(shapes, indent=1) + "\n")
    print(f"{version}: {missing(shapes) or 'everything is there'}")


if __name__ == "__main__":
    main()
