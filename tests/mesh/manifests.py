"""Checks Istio's resources strictly: each line of input is one, as JSON, and each is answered by a line, empty if there is nothing wrong.

The models are generated from Istio's CRDs. They drop what they do not know, so that a resource is right if it comes back as it went in. What
an EnvoyFilter patches in is none of theirs: that is checked against Envoy's own messages.
"""
import copy
import importlib
import json
import sys

import pydantic
from google.protobuf import json_format
from cloudcoil.models.istio.extensions.v1alpha1 import WasmPlugin
from cloudcoil.models.istio.networking.v1alpha3 import EnvoyFilter

KINDS = {"extensions.istio.io/v1alpha1 WasmPlugin": WasmPlugin, "networking.istio.io/v1alpha3 EnvoyFilter": EnvoyFilter}
# By the name of the API: what a patch's value is, and what may be in an Any in it.
PATCHED = {
    "HTTP_FILTER": ("envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2", "HttpFilter"),
    "EXTENSION_CONFIG": ("envoy.config.core.v3.extension_pb2", "TypedExtensionConfig"),
    "HTTP_ROUTE": ("envoy.config.route.v3.route_components_pb2", "Route"),
}
for module in ("envoy.extensions.filters.http.wasm.v3.wasm_pb2", "google.protobuf.struct_pb2", "google.protobuf.wrappers_pb2"):
    importlib.import_module(module)


def differences(given, back, path=""):
    if isinstance(given, dict) and isinstance(back, dict):
        for name in given.keys() | back.keys():
            if name not in back:
                yield f"{path}.{name}: unknown"
            elif name not in given:
                yield f"{path}.{name}: comes of itself"
            else:
                yield from differences(given[name], back[name], f"{path}.{name}")
    elif isinstance(given, list) and isinstance(back, list) and len(given) == len(back):
        for index, (one, other) in enumerate(zip(given, back)):
            yield from differences(one, other, f"{path}[{index}]")
    elif given != back:
        yield f"{path}: {given!r} became {back!r}"


def mistakes(resource):
    kind = f"{resource.get('apiVersion')} {resource.get('kind')}"
    if kind not in KINDS:
        return [f"{kind}: unknown"]
    given = copy.deepcopy(resource)
    # The newest models there are know Istio 1.24; this one came with 1.27.
    if given.get("spec", {}).get("failStrategy") == "FAIL_RELOAD":
        given["spec"]["failStrategy"] = "FAIL_CLOSE"
    try:
        back = KINDS[kind].model_validate(given)
    except pydantic.ValidationError as error:
        return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    found = list(differences(given, json.loads(back.model_dump_json(by_alias=True, exclude_unset=True))))
    for index, patch in enumerate(given["spec"].get("configPatches", [])):
        module, message = PATCHED[patch["applyTo"]]
        try:
            json_format.ParseDict(patch["patch"]["value"], getattr(importlib.import_module(module), message)())
        except json_format.ParseError as error:
            found.append(f"configPatches[{index}]: {error}")
    return found


for line in sys.stdin:
    print("; ".join(mistakes(json.loads(line))).replace("\n", " "), flush=True)
