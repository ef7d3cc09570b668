//! What Envoy Gateway makes of the policy, imitated: it serves the module itself, by its hash; a vm_id of the policy's entry, the configuration
//! as JSON text, the filter off but for the routes of the policy. (envoyproxy/gateway: internal/xds/translator/wasm.go)

use crate::files::{PHRASE, assert_trial, envoys, module, parse, value};
use crate::images::hash;
use crate::server::Server;
use crate::support::envoy::Envoy;
use serde_json::{Value, json};

/// A proxy of Envoy Gateway with this policy, whose module is served on this port.
fn proxy(policy: &Value, port: u16, hash: &str) -> Value {
    let (namespace, name) =
        (policy["metadata"]["namespace"].as_str().unwrap(), policy["metadata"]["name"].as_str().unwrap());
    let entry = &policy["spec"]["wasm"][0];
    let filter = format!("envoy.filters.http.wasm/envoyextensionpolicy/{namespace}/{name}/wasm/0");
    let any = |kind: &str, mut value: Value| {
        value["@type"] = json!(format!("type.googleapis.com/{kind}"));
        value
    };
    let config = json!({
        "name": entry["name"],
        "fail_open": entry["failOpen"],
        "vm_config": {
            "vm_id": format!("envoyextensionpolicy/{namespace}/{name}/wasm/0"),
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"remote": {
                "http_uri": {"uri": format!("https://envoy-gateway:18002/{hash}.wasm"), "cluster": "wasm_cluster", "timeout": "10s"},
                "sha256": hash,
                "retry_policy": {"num_retries": 10, "retry_back_off": {"base_interval": "1s", "max_interval": "30s"}},
            }},
        },
        "configuration": any("google.protobuf.StringValue", json!({"value": entry["config"].to_string()})),
    });
    let answer = json!({"status": 200, "body": {"inline_string": "upstream\n"}});
    let on = json!({filter.as_str(): any("envoy.config.route.v3.FilterConfig", json!({"config": {}}))});
    let routes = json!([
        {"match": {"path_separated_prefix": "/elsewhere"}, "direct_response": answer},
        {"match": {"prefix": "/"}, "direct_response": answer, "typed_per_filter_config": on},
    ]);
    let manager = any(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "http-10080",
            "use_remote_address": true,
            "http_filters": [
                {"name": filter, "disabled": true, "typed_config": any("envoy.extensions.filters.http.wasm.v3.Wasm", json!({"config": config}))},
                {"name": "envoy.filters.http.router", "typed_config": any("envoy.extensions.filters.http.router.v3.Router", json!({}))},
            ],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        }),
    );
    let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let mut bootstrap = json!({
        "admin": {"address": address(0)},
        "static_resources": {
            "listeners": [{
                "name": "default/eg/http",
                "address": address(0),
                "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
            }],
            "clusters": [{
                "name": "wasm_cluster",
                "type": "STATIC",
                "load_assignment": {"cluster_name": "wasm_cluster", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]},
            }],
        },
    });
    // What the labels' manifest merges in.
    let merged = parse(value("gateway/labels.yaml")["spec"]["bootstrap"]["value"].as_str().unwrap()).unwrap();
    bootstrap.as_object_mut().unwrap().extend(merged.as_object().unwrap().clone());
    bootstrap
}

#[test]
fn a_policy_as_envoy_gateway_delivers_it_admits_the_quota_and_denies_the_next_with_its_labels() {
    let policy = value("gateway/policy.yaml");
    let bytes = std::fs::read(module()).unwrap();
    let hash = hash(&bytes);
    let server = Server::start(0, bytes);
    for program in envoys() {
        let bootstrap = proxy(&policy, server.port(), &hash);
        let envoy = Envoy::with_bootstrap(&bootstrap.to_string()).envoy(program).start();
        assert_trial("policy.yaml", &envoy, "/");
        assert_eq!(envoy.get("/", &[]).status, 401);
        let denied = envoy.get("/", &[("x-api-key", "demo")]);
        assert!(denied.text().contains(PHRASE), "{denied:?}");
        assert!(
            (0..5).all(|_| envoy.get("/elsewhere", &[]).status == 200),
            "another route's requests do not come to it"
        );
        assert_eq!(
            envoy.metric("allowance_requests_total", &[("decision", "denied"), ("plan", "trial"), ("limit", "1h")]),
            4
        );
        assert_eq!(envoy.metric("allowance_requests_total", &[("decision", "allowed"), ("plan", "trial")]), 3);
    }
}
