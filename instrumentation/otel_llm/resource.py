"""The resource detector `otel_llm`: machine, container and visible GPUs of any process, so that its spans lead to them.

It runs where `OTEL_EXPERIMENTAL_RESOURCE_DETECTORS` names it and nowhere else. It is the one module here that needs the SDK
for its import, and is loaded by the SDK alone, through its entry point. Names of the host, the process and the service are
left to the SDK's own detectors.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from opentelemetry.sdk.resources import OTELResourceDetector, Resource, ResourceDetector
from opentelemetry.util.types import AttributeValue

from . import semconv
from .fault import report
from .gpu_identity import visible_gpus
from .host_identity import read_place


class OtelLlmResourceDetector(ResourceDetector):
    """Tells `host.id`, `container.id` and `otel_llm.gpu.ids`, each where it is certain; reads a few files, once, and never raises."""

    def __init__(self, root: Path = Path("/"), environ: Mapping[str, str] | None = None) -> None:
        super().__init__(raise_on_error=False)
        self._root = root
        self._environ = os.environ if environ is None else environ

    def detect(self) -> Resource:
        """Return what is known of this process's place; what OTEL_RESOURCE_ATTRIBUTES says of it stands."""
        try:
            found = _attributes(self._root, self._environ)
            told = OTELResourceDetector().detect().attributes
            return Resource({name: value for name, value in found.items() if name not in told})
        except Exception as error:
            report("resource detector", error)
            return Resource({})


def _attributes(root: Path, environ: Mapping[str, str]) -> Mapping[str, AttributeValue]:
    place = read_place(root)
    gpus = visible_gpus(environ, place.contained, root)
    told: Mapping[str, AttributeValue | None] = {
        semconv.HOST_ID: place.host_id,
        semconv.CONTAINER_ID: place.container_id,
        semconv.GPU_IDS: gpus or None,
    }
    return {name: value for name, value in told.items() if value is not None}
