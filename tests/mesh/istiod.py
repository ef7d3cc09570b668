"""Istio's control plane and its agent, as far as a WasmPlugin meets them: an aggregated discovery service in its incremental form.

Each line of input is a JSON object {"plugins": [WasmPlugin, ...], "modules": {url: file}}: what is in the cluster from now on, and what the
agent finds under a URL. Each is answered by a line: {"acked": true}, or {"nacked": why}, once Envoy has said so of all that this changed.
The first line of output is the port.

A plugin becomes a filter of the listener that is discovered by its name, and an extension configuration of that name: no vm_id, the
configuration as JSON text, the module by URL with the agent's instructions in environment variables; the agent fetches the module, puts the
file in its place, and takes its variables out again. (istio/istio: pilot/pkg/model/extensions.go,
pilot/pkg/networking/core/extension/wasmplugin.go, pkg/wasm/convert.go.)
"""
import json
import queue
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf import any_pb2, json_format, wrappers_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.rbac.v3 import rbac_pb2  # noqa: F401 registers what the filters below name
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as rbac_filter_pb2  # noqa: F401
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
from envoy.extensions.filters.http.wasm.v3 import wasm_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2  # noqa: F401
from envoy.extensions.wasm.v3 import wasm_pb2 as plugin_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

TYPES = "type.googleapis.com/"
LISTENER = TYPES + "envoy.config.listener.v3.Listener"
EXTENSION = TYPES + "envoy.config.core.v3.TypedExtensionConfig"
WASM = TYPES + "envoy.extensions.filters.http.wasm.v3.Wasm"
RBAC = TYPES + "envoy.extensions.filters.http.rbac.v3.RBAC"
AGENT = "ISTIO_META_WASM_"
POLICIES = {"FAIL_OPEN": plugin_pb2.FAIL_OPEN, "FAIL_RELOAD": plugin_pb2.FAIL_RELOAD}
# Where each phase is: after authentication comes AUTHZ, after authorization STATS, and what has none is last.
PHASES = ["AUTHN", "AUTHZ", "STATS", None]


def full_name(plugin):
    return f"{plugin['metadata']['namespace']}.{plugin['metadata']['name']}"


def resource_name(plugin):
    return "extensions.istio.io/wasmplugin/" + full_name(plugin)


def in_order(plugins):
    return sorted(plugins, key=lambda plugin: (PHASES.index(plugin["spec"].get("phase")), -plugin["spec"].get("priority", 0)))


def packed(message):
    out = any_pb2.Any()
    out.Pack(message)
    return out


def extension(plugin, generation):
    """What istiod makes of a plugin."""
    spec = plugin["spec"]
    config = plugin_pb2.PluginConfig(name=full_name(plugin), root_id=spec.get("pluginName", ""))
    config.failure_policy = POLICIES.get(spec.get("failStrategy"), plugin_pb2.FAIL_CLOSED)
    if spec.get("pluginConfig"):
        text = json.dumps(spec["pluginConfig"], sort_keys=True, separators=(",", ":"))
        config.configuration.CopyFrom(packed(wrappers_pb2.StringValue(value=text)))
    vm = config.vm_config
    vm.runtime = "envoy.wasm.runtime.v8"
    remote = vm.code.remote
    url = spec["url"]
    remote.http_uri.uri = url if "://" in url else "oci://" + url
    remote.http_uri.cluster = "_"
    remote.http_uri.timeout.seconds = 30
    remote.sha256 = spec.get("sha256", "")
    variables = vm.environment_variables.key_values
    variables[AGENT + "PLUGIN_RESOURCE_VERSION"] = str(generation)
    for field, variable in [("imagePullPolicy", "IMAGE_PULL_POLICY"), ("imagePullSecret", "IMAGE_PULL_SECRET")]:
        if field in spec:
            variables[AGENT + variable] = spec[field]
    return extension_pb2.TypedExtensionConfig(name=resource_name(plugin), typed_config=packed(wasm_pb2.Wasm(config=config)))


def through_agent(resource, modules):
    """What its agent makes of that; a module that cannot be had becomes a filter that refuses everything."""
    wasm = wasm_pb2.Wasm()
    resource.typed_config.Unpack(wasm)
    vm = wasm.config.vm_config
    file = modules.get(vm.code.remote.http_uri.uri)
    if file is None:
        deny = {"@type": RBAC, "rules": {}, "rules_stat_prefix": "wasm-default-deny"}
        return json_format.ParseDict({"name": resource.name, "typed_config": deny}, extension_pb2.TypedExtensionConfig())
    vm.code.local.filename = file
    for variable in [name for name in vm.environment_variables.key_values if name.startswith(AGENT)]:
        del vm.environment_variables.key_values[variable]
    return extension_pb2.TypedExtensionConfig(name=resource.name, typed_config=packed(wasm))


def listener(plugins):
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    discovered = [
        {"name": resource_name(plugin), "config_discovery": {"config_source": source, "type_urls": [WASM, RBAC]}} for plugin in in_order(plugins)
    ]
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": TYPES + "envoy.extensions.filters.http.router.v3.Router"}}
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "upstream\n"}}}
    manager = {
        "@type": TYPES + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "outbound_0.0.0.0_8080",
        "use_remote_address": True,
        "http_filters": discovered + [router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [answer]}]},
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    return json_format.ParseDict({"name": "0.0.0.0_8080", "address": address, "filter_chains": [{"filters": filters}]}, listener_pb2.Listener())


class World:
    """What is in the cluster, by type and name, each with the generation in which it came to be as it is."""

    def __init__(self):
        self.lock = threading.Condition()
        self.generation = 0
        self.resources = {LISTENER: {}, EXTENSION: {}}
        self.acked = {}
        self.nacked = None
        self.streams = []

    def change(self, plugins, modules):
        with self.lock:
            self.generation += 1
            self.nacked = None
            extensions = [through_agent(extension(plugin, self.generation), modules) for plugin in plugins]
            new = {LISTENER: {"0.0.0.0_8080": listener(plugins)}, EXTENSION: {one.name: one for one in extensions}}
            for kind, resources in new.items():
                old = self.resources[kind]
                same = lambda name, one: name in old and old[name][1] == one  # noqa: E731
                self.resources[kind] = {name: old[name] if same(name, one) else (self.generation, one) for name, one in resources.items()}
            for stream in self.streams:
                stream.put(None)

    def settled(self, timeout):
        """Whether Envoy has taken all that there is, or why not."""

        def known():
            wanted = {(kind, name): generation for kind, all in self.resources.items() for name, (generation, _) in all.items()}
            return self.nacked is not None or all(self.acked.get(what) == generation for what, generation in wanted.items())

        with self.lock:
            if not self.lock.wait_for(known, timeout):
                return {"nacked": "no answer from Envoy"}
            return {"acked": True} if self.nacked is None else {"nacked": self.nacked}


class Service(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    def __init__(self, world):
        self.world = world

    def DeltaAggregatedResources(self, requests, context):
        world = self.world
        inbox = queue.Queue()

        def read():
            try:
                for request in requests:
                    inbox.put(request)
            except grpc.RpcError:
                pass
            inbox.put(False)

        threading.Thread(target=read, daemon=True).start()
        with world.lock:
            world.streams.append(inbox)
        wanted, sent, pending, nonces = {}, {}, {}, 0
        while True:
            request = inbox.get()
            if request is False:
                return
            with world.lock:
                if request is not None:
                    kind = request.type_url
                    # Listeners are all wanted, extensions by name.
                    names = wanted.setdefault(kind, set())
                    names.update(request.resource_names_subscribe)
                    names.difference_update(request.resource_names_unsubscribe)
                    for name in request.resource_names_unsubscribe:
                        sent.pop((kind, name), None)
                    if request.response_nonce in pending:
                        answered = pending.pop(request.response_nonce)
                        if request.error_detail.message:
                            world.nacked = request.error_detail.message
                        else:
                            world.acked.update(answered)
                        world.lock.notify_all()
                responses = []
                # Listeners first, as istiod pushes.
                for kind in (LISTENER, EXTENSION):
                    # Of extensions, istiod says which are gone only if there are any left (pilot/pkg/xds/ecds.go and delta.go).
                    if kind not in wanted or not world.resources[kind]:
                        continue
                    there = {name: one for name, one in world.resources[kind].items() if kind == LISTENER or name in wanted[kind]}
                    fresh = {name: one for name, one in there.items() if sent.get((kind, name)) != one[0]}
                    gone = [name for sent_kind, name in sent if sent_kind == kind and name not in there]
                    if not fresh and not gone:
                        continue
                    nonces += 1
                    pending[str(nonces)] = {(kind, name): generation for name, (generation, _) in fresh.items()}
                    sent.update(pending[str(nonces)])
                    for name in gone:
                        del sent[(kind, name)]
                    resources = [
                        discovery_pb2.Resource(name=name, version=str(generation), resource=packed(message))
                        for name, (generation, message) in fresh.items()
                    ]
                    responses.append(
                        discovery_pb2.DeltaDiscoveryResponse(type_url=kind, nonce=str(nonces), resources=resources, removed_resources=gone)
                    )
            yield from responses


def main():
    world = World()
    server = grpc.server(ThreadPoolExecutor(8))
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(Service(world), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    for line in sys.stdin:
        command = json.loads(line)
        world.change(command["plugins"], command["modules"])
        print(json.dumps(world.settled(60)), flush=True)


if __name__ == "__main__":
    main()
