//! What Istio makes of a WasmPlugin, imitated: its control plane and agent deliver the filter by discovery, without a vm_id, with the
//! configuration as JSON text, beside other plugins in the same shared data. And what it makes of the EnvoyFilter.

use crate::asking::{counted, decisions};
use crate::discovery::{Traffic, count, wait_for};
use crate::files::{assert_trial, envoys, filter_comes_later, from_environment, module, root, scratch, trial, value};
use crate::support::envoy::{Builder, Envoy};
use crate::support::http::Response;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A run of `istiod.py`, ended with its owner.
struct Istiod {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    port: String,
}

impl Istiod {
    fn start() -> Self {
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut child = Command::new(python)
            .arg("-B")
            .arg(root().join("tests/mesh/istiod.py"))
            .env("PYTHONPATH", from_environment("ALLOWANCE_MESH"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut istiod = Self { child, input, output, port: String::new() };
        istiod.port = istiod.line();
        istiod
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "it ended");
        line.trim_end().to_owned()
    }

    /// Says what is in the cluster, without waiting for Envoy, which may not be there yet.
    fn send(&mut self, plugins: &[&Value], modules: &[(&str, &Path)]) {
        let modules: serde_json::Map<String, Value> =
            modules.iter().map(|(url, file)| ((*url).to_owned(), json!(file))).collect();
        writeln!(self.input, "{}", json!({"plugins": plugins, "modules": modules})).unwrap();
    }

    /// Whether Envoy took what was sent, and what it said if not.
    fn answer(&mut self) -> Result<(), String> {
        let answer: Value = serde_json::from_str(&self.line()).unwrap();
        answer["nacked"].as_str().map_or(Ok(()), |why| Err(why.to_owned()))
    }

    fn apply(&mut self, plugins: &[&Value], modules: &[(&str, &Path)]) -> Result<(), String> {
        self.send(plugins, modules);
        self.answer()
    }

    /// A proxy of this control plane.
    fn proxy(&self) -> Builder {
        let tags: Vec<Value> = value("istio/values.yaml")["meshConfig"]["defaultConfig"]["extraStatTags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| json!({"tag_name": tag, "regex": format!("({}=\\.=(.*?);\\.;)", tag.as_str().unwrap())}))
            .collect();
        // Of Istio's own, those that may take a part of any name. (istio/istio: tools/packaging/common/envoy_bootstrap.json)
        let own = [
            ("cache", "(cache\\.(.+?)\\.)"),
            ("component", "(component\\.(.+?)\\.)"),
            ("tag", "(tag\\.(.+?);\\.)"),
            ("wasm_filter", "(wasm_filter\\.(.+?)\\.)"),
        ];
        let own = own.iter().map(|(name, regex)| json!({"tag_name": name, "regex": regex}));
        let tags: Vec<Value> = own.chain(tags).collect();
        // What Istio lets through if nobody says more (pkg/bootstrap/config.go), and what these tests look at.
        let prefixes = [
            "cluster_manager",
            "listener_manager",
            "server",
            "cluster.xds-grpc",
            "wasm",
            "listener.",
            "extension_config_discovery",
        ];
        let patterns: Vec<Value> = prefixes.iter().map(|prefix| json!({"prefix": prefix})).collect();
        let source = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
        let port: u16 = self.port.parse().unwrap();
        let bootstrap = json!({
            "node": {"id": "router~10.0.0.1~gateway.istio-ingress~istio-ingress.svc.cluster.local", "cluster": "gateway.istio-ingress"},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            "stats_config": {"use_all_default_tags": false, "stats_tags": tags, "stats_matcher": {"inclusion_list": {"patterns": patterns}}},
            "dynamic_resources": {
                "lds_config": source,
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": true,
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
                },
            },
            "static_resources": {"clusters": [{
                "name": "xds-grpc",
                "type": "STATIC",
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                }},
                "load_assignment": {"cluster_name": "xds-grpc", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}},
                ]}]},
            }]},
        });
        // What Istio starts Envoy with decides what becomes of open connections: each is told to close with its next answer.
        // (istio/istio: pkg/envoy/proxy.go)
        Envoy::with_bootstrap(&bootstrap.to_string()).options(&[
            "--drain-time-s",
            "45",
            "--drain-strategy",
            "immediate",
        ])
    }
}

impl Drop for Istiod {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn url(plugin: &Value) -> String {
    plugin["spec"]["url"].as_str().unwrap().to_owned()
}

/// A plugin of somebody else that writes into the shared data on every request.
fn writer(name: &str, phase: &str) -> Value {
    json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": "WasmPlugin",
        "metadata": {"name": name, "namespace": "istio-ingress"},
        "spec": {"url": "registry.example.com/writer:1", "phase": phase, "pluginConfig": {"name": name}},
    })
}

fn writer_module(folder: &Path) -> std::path::PathBuf {
    let file = folder.join("writer.wasm");
    fs::write(&file, wat::parse_str(include_str!("../e2e/writer.wat")).expect("writer.wat is a module")).unwrap();
    file
}

/// The configuration of the filter's extension, as Envoy has it.
fn discovered(envoy: &Envoy) -> Value {
    let dump: Value = serde_json::from_str(&envoy.admin_get("/config_dump?resource=ecds_filters")).unwrap();
    let filters = dump["configs"].as_array().unwrap();
    let ours = filters.iter().find(|filter| filter["ecds_filter"]["name"].as_str().unwrap().ends_with(".allowance"));
    ours.unwrap()["ecds_filter"]["typed_config"]["config"].clone()
}

/// How often all workers have gone over to another configuration.
fn reloads(envoy: &Envoy) -> u64 {
    let stats = envoy.stats("extension_config_discovery");
    stats.iter().filter(|(name, _)| name.ends_with(".allowance.config_reload")).map(|(_, value)| value).sum()
}

#[test]
fn a_plugin_as_istio_delivers_it_admits_the_quota_and_denies_the_next_with_its_labels() {
    for (file, name) in
        [("istio/ingress-gateway.yaml", "istio-ingress.allowance"), ("istio/sidecar.yaml", "shop.allowance")]
    {
        let plugin = value(file);
        for program in envoys() {
            let mut istiod = Istiod::start();
            istiod.send(&[&plugin], &[(&url(&plugin), &module())]);
            let envoy = istiod.proxy().envoy(program).start();
            assert_eq!(istiod.answer(), Ok(()));
            // As Istio says it, and with nothing of what only the agent needs to know.
            let config = discovered(&envoy);
            assert_eq!(config["name"], name);
            assert_eq!(config["failure_policy"], "FAIL_RELOAD");
            let vm = &config["vm_config"];
            assert_eq!(
                (&vm["vm_id"], &vm["environment_variables"]["key_values"]),
                (&Value::Null, &Value::Null),
                "{vm}"
            );
            assert_eq!(config["configuration"]["@type"], "type.googleapis.com/google.protobuf.StringValue");
            let given: Value = serde_json::from_str(config["configuration"]["value"].as_str().unwrap()).unwrap();
            assert_eq!(given, plugin["spec"]["pluginConfig"]);

            assert_trial(file, &envoy, "/");
            assert_eq!(envoy.get("/", &[]).status, 401);
            assert_eq!(envoy.get("/healthz", &[]).status, 200);
            assert_eq!(envoy.get("/", &[("authorization", "Bearer acme-demo-key")]).status, 200);
            // The labels that values.yaml makes, through Istio's matcher and beside its own tags.
            let denied = [("decision", "denied"), ("plan", "trial"), ("limit", "1h")];
            assert_eq!(envoy.metric("allowance_requests_total", &denied), 3);
            assert_eq!(
                decisions(&envoy),
                counted(&[("allowed", 4), ("denied", 3), ("exempt", 1), ("unauthorized", 1)])
            );
            assert_eq!(
                envoy.metric("allowance_consumer_requests_total", &[("consumer", "acme"), ("decision", "allowed")]),
                1
            );
        }
    }
}

#[test]
fn other_plugins_in_the_same_shared_data_change_no_count() {
    let plugin = value("istio/ingress-gateway.yaml");
    let (before, after) = (writer("before", "AUTHN"), writer("after", "STATS"));
    for program in envoys() {
        let folder = scratch("neighbours");
        let (own, other) = (module(), writer_module(&folder));
        let modules =
            [(url(&plugin), own.as_path()), ("oci://registry.example.com/writer:1".to_owned(), other.as_path())];
        let modules: Vec<(&str, &Path)> = modules.iter().map(|(url, file)| (url.as_str(), *file)).collect();
        let mut istiod = Istiod::start();
        istiod.send(&[&after, &plugin, &before], &modules);
        let envoy = istiod.proxy().envoy(program).start();
        assert_eq!(istiod.answer(), Ok(()));
        assert_trial("beside others", &envoy, "/");
        // Each writes its twelve keys: the first on every request, the last on those that passed.
        let writes = || envoy.stat("wasmcustom.writer_writes").unwrap();
        assert_eq!(writes(), 12 * (2 * 3 * trial() as u64 + 3));
        // A neighbour that comes, or goes, restarts nothing.
        for neighbours in [vec![&plugin, &before], vec![&plugin], vec![&after, &plugin, &before]] {
            istiod.apply(&neighbours, &modules).unwrap();
            wait_for(&envoy, "demo", "it answers", |response| response.status == 429);
        }
        // Two of the filter with one namespace charge the same records: a new key is denied at once, since its only request was charged
        // by the first when the second asks. With a namespace of its own each counts for itself.
        let mut twin = plugin.clone();
        twin["metadata"]["name"] = json!("twin");
        istiod.apply(&[&plugin, &twin], &modules).unwrap();
        let mut keys = (0..).map(|key| format!("key-{key}"));
        let mut fresh = || envoy.get("/", &[("x-api-key", &keys.next().unwrap())]).status;
        wait_for(&envoy, "demo", "both are there", |_| fresh() == 429);
        twin["spec"]["pluginConfig"]["namespace"] = json!("twin");
        istiod.apply(&[&plugin, &twin], &modules).unwrap();
        wait_for(&envoy, "demo", "each counts for itself", |_| fresh() == 200);
        fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn a_plugin_comes_changes_and_goes_under_traffic_without_a_failed_request() {
    const CLIENTS: usize = 4;
    let plugin = value("istio/ingress-gateway.yaml");
    let mut more = plugin.clone();
    more["spec"]["pluginConfig"]["plans"]["trial"]["limits"][0]["requests"] = json!(trial() + 1);
    let mut wrong = plugin.clone();
    wrong["spec"]["pluginConfig"]["plans"]["trial"]["limits"][0]["requests"] = json!(0);
    // Another image: other bytes of the same filter, under another tag.
    let folder = scratch("upgrade");
    let newer = folder.join("newer.wasm");
    fs::write(&newer, [fs::read(module()).unwrap(), vec![0, 1, 0]].concat()).unwrap();
    let mut upgraded = more.clone();
    upgraded["spec"]["url"] = json!("oci://registry.example.com/allowance:0.2.0");
    let own = module();
    let (first, second) = (url(&plugin), url(&upgraded));
    let modules = [(first.as_str(), own.as_path()), (second.as_str(), newer.as_path())];
    let counted = |response: &Response| response.header("ratelimit-policy").is_some();

    for program in envoys() {
        let mut istiod = Istiod::start();
        istiod.send(&[], &[]);
        let envoy = filter_comes_later(istiod.proxy(), &program).start();
        assert_eq!(istiod.answer(), Ok(()));
        let responses = Traffic::during(&envoy, CLIENTS, |traffic| {
            traffic.go_on_for(25);
            istiod.apply(&[&plugin], &modules).unwrap();
            wait_for(&envoy, "probe", "the filter is there", |response| response.status == 429);
            traffic.go_on_for(25);
            istiod.apply(&[&more], &modules).unwrap();
            let policy = format!(";q={};", trial() + 1);
            wait_for(&envoy, "probe", "it changed", |r| {
                r.header("ratelimit-policy").is_some_and(|field| field.contains(&policy))
            });
            traffic.go_on_for(25);
            // A mistake is refused, and what was there goes on.
            assert!(istiod.apply(&[&wrong], &modules).unwrap_err().contains("allowance"));
            envoy.wait_for_log("configuration refused: plans.trial.limits[0].requests");
            traffic.go_on_for(25);
            let before = reloads(&envoy);
            istiod.apply(&[&upgraded], &modules).unwrap();
            while reloads(&envoy) == before {
                traffic.go_on_for(10);
            }
            assert!(discovered(&envoy).to_string().contains("newer.wasm"));
            traffic.go_on_for(25);
            istiod.apply(&[], &modules).unwrap();
            wait_for(&envoy, "probe", "the filter is gone", |response| !counted(response));
            traffic.go_on_for(25);
        });
        let failed = |response: &&Response| ![200, 429].contains(&response.status);
        assert_eq!(responses.iter().find(failed), None);
        // Every client had its quota, then one more, and with the new image not another: the counts are the old ones.
        let admitted = count(&responses, |response| counted(response) && response.status == 200);
        assert_eq!(admitted, CLIENTS * (trial() + 1), "of {}", responses.len());
    }
    fs::remove_dir_all(folder).unwrap();
}

/// Where other plugins stay, Istio tells proxies that this one's configuration is gone while connections from before still have the filter:
/// Envoy answers one request more on each of them, with 500, and closes it. A rule that switches it off fails nobody.
#[test]
fn a_plugin_that_goes_beside_others_costs_open_connections_at_most_one_request_each() {
    const CLIENTS: usize = 4;
    let plugin = value("istio/ingress-gateway.yaml");
    let mut passing = plugin.clone();
    passing["spec"]["pluginConfig"]["rules"] =
        json!([{"name": "off", "match": {"path": {"prefix": "/"}}, "exempt": true}]);
    let stays = writer("stays", "AUTHN");
    let folder = scratch("beside");
    let (own, other) = (module(), writer_module(&folder));
    let first = url(&plugin);
    let modules = [(first.as_str(), own.as_path()), ("oci://registry.example.com/writer:1", other.as_path())];
    for program in envoys() {
        let mut istiod = Istiod::start();
        istiod.send(&[&plugin, &stays], &modules);
        let envoy = istiod.proxy().envoy(program).start();
        assert_eq!(istiod.answer(), Ok(()));
        let there = |response: &Response| response.header("ratelimit-policy").is_some();
        let responses = Traffic::during(&envoy, CLIENTS, |traffic| {
            traffic.go_on_for(25);
            // Switched off by a rule: it stays, and lets everything pass.
            istiod.apply(&[&passing, &stays], &modules).unwrap();
            wait_for(&envoy, "probe", "it lets everything pass", |response| !there(response));
            traffic.go_on_for(25);
        });
        assert_eq!(responses.iter().find(|response| ![200, 429].contains(&response.status)), None);
        assert!(count(&responses, |response| !there(response)) >= 50);
        let responses = Traffic::during(&envoy, CLIENTS, |traffic| {
            traffic.go_on_for(25);
            istiod.apply(&[&stays], &modules).unwrap();
            let there = || envoy.admin_get("/config_dump?resource=ecds_filters").contains(".allowance");
            wait_for(&envoy, "probe", "it is gone", |_| !there());
            traffic.go_on_for(25);
        });
        let failed: Vec<&Response> = responses.iter().filter(|response| response.status != 200).collect();
        assert!(failed.len() <= CLIENTS, "{failed:?}");
        let last = |response: &Response| response.header("connection").as_deref() == Some("close");
        assert!(failed.iter().all(|response| response.status == 500 && last(response)), "{failed:?}");
    }
    fs::remove_dir_all(folder).unwrap();
}

/// An image that cannot be had: Istio's agent refuses everything in its place.
#[test]
fn without_its_image_a_plugin_lets_nobody_pass_and_with_it_everything_is_well() {
    let plugin = value("istio/ingress-gateway.yaml");
    for program in envoys() {
        let mut istiod = Istiod::start();
        istiod.send(&[&plugin], &[]);
        let envoy = filter_comes_later(istiod.proxy(), &program).start();
        assert_eq!(istiod.answer(), Ok(()));
        assert_eq!(envoy.get("/", &[("x-api-key", "demo")]).status, 403);
        istiod.apply(&[&plugin], &[(&url(&plugin), &module())]).unwrap();
        wait_for(&envoy, "probe", "the filter is there", |response| response.status == 429);
        assert_trial("once the image is there", &envoy, "/");
    }
}

/// The EnvoyFilter's patches, applied as Istio does: the filter before the router, its configuration discovered, one route without it. The agent
/// puts a file in the image's place.
#[test]
fn the_envoy_filter_as_istio_applies_it_admits_the_quota_and_denies_the_next_but_where_it_is_off() {
    let document = value("istio/envoyfilter.yaml");
    let patches = document["spec"]["configPatches"].as_array().unwrap();
    let patch = |kind: &str| {
        let of_kind: Vec<&Value> = patches.iter().filter(|patch| patch["applyTo"] == kind).collect();
        assert_eq!(of_kind.len(), 1, "{kind}");
        of_kind[0]["patch"]["value"].clone()
    };
    assert_eq!(patches.len(), 3);
    let (mut filter, mut extension, route) = (patch("HTTP_FILTER"), patch("EXTENSION_CONFIG"), patch("HTTP_ROUTE"));
    let code = extension.pointer_mut("/typed_config/config/vm_config/code").unwrap();
    assert!(code["remote"]["http_uri"]["uri"].as_str().unwrap().starts_with("oci://"));
    *code = json!({"local": {"filename": module()}});
    assert_eq!(extension["typed_config"]["config"]["vm_config"]["vm_id"], "allowance");
    extension["@type"] = json!("type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig");
    let folder = scratch("envoyfilter");
    let file = folder.join("extension.json");
    fs::write(&file, json!({"resources": [extension]}).to_string()).unwrap();
    let source = &mut filter["config_discovery"]["config_source"];
    assert_eq!((&source["ads"], &source["initial_fetch_timeout"]), (&json!({}), &json!("0s")));
    *source =
        json!({"path_config_source": {"path": file}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    let name = patches
        .iter()
        .find_map(|patch| patch["match"]["routeConfiguration"]["vhost"]["route"]["name"].as_str())
        .unwrap();
    let answer = json!({"status": 200, "body": {"inline_string": "upstream\n"}});
    let mut public = json!({"name": name, "match": {"prefix": "/public"}, "direct_response": answer});
    public.as_object_mut().unwrap().extend(route.as_object().unwrap().clone());
    let routes = json!([public, {"match": {"prefix": "/"}, "direct_response": answer}]);
    for program in envoys() {
        // With no filter of the builder's own, the node and the labels.
        let envoy = Envoy::bare()
            .filters_before(&format!("- {filter}\n"))
            .routes(&routes.as_array().unwrap().iter().map(|route| format!("- {route}\n")).collect::<String>())
            .envoy(program)
            .start();
        assert_trial("envoyfilter.yaml", &envoy, "/");
        assert_eq!(envoy.get("/", &[]).status, 401);
        assert!((0..5).all(|_| envoy.get("/public", &[("x-api-key", "demo")]).status == 200));
        assert_eq!(envoy.metric("allowance_requests_total", &[("decision", "denied"), ("limit", "1h")]), 3);
    }
    fs::remove_dir_all(folder).unwrap();
}
